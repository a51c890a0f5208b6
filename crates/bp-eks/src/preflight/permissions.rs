//! Check the RBAC permissions of a rollout with SelfSubjectAccessReviews.

use bp_artifact::deploy::{
    Cause,
    preflight::{Finding, FindingState},
};
use futures_util::future::try_join_all;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{Api, api::PostParams};

use crate::{
    api::scope::Scope, error::Error, namespace::Namespace, rollout::api::WorkloadApi, target::EksTarget,
    workload::Kind,
};

/// A permission in a namespace: a verb on a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permission {
    /// The verb, such as `patch`.
    pub verb: &'static str,
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The plural of the resource, with an optional subresource after a slash.
    pub resource: &'static str,
}

impl Namespace {
    /// Checks permissions in the namespace: one finding for each verb that is not granted, or one that all are.
    ///
    /// # Errors
    /// When the API server is unreachable or rejects the credentials.
    ///
    /// # Permissions
    /// Every authenticated user may create access reviews.
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    pub async fn permissions(&self, wanted: &[Permission]) -> Result<Vec<Finding>, Error> {
        let need = |Permission { verb, group, resource }: &Permission| Need {
            verb,
            group: (*group).to_owned(),
            resource: (*resource).to_owned(),
            is_essential: true,
        };
        review(&self.0, wanted.iter().map(need).collect()).await
    }
}

impl EksTarget {
    /// Checks every verb that a rollout of this workload requires or uses: the first findings of
    /// [`preflight`](Self::preflight), without an image.
    ///
    /// # Errors
    /// When the API server is unreachable or rejects the credentials.
    ///
    /// # Permissions
    /// Every authenticated user may create access reviews.
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    pub async fn permissions(&self) -> Result<Vec<Finding>, Error> {
        self.0.api.permissions().await
    }
}

/// A permission that a rollout uses.
struct Need {
    verb: &'static str,
    group: String,
    /// The plural, with an optional subresource after a slash.
    resource: String,
    /// Whether a rollout requires it.
    is_essential: bool,
}

impl Need {
    fn attributes(&self, namespace: &str) -> ResourceAttributes {
        let (resource, subresource) = match self.resource.split_once('/') {
            Some((resource, sub)) => (resource, Some(sub.to_owned())),
            None => (self.resource.as_str(), None),
        };
        ResourceAttributes {
            namespace: Some(namespace.to_owned()),
            verb: Some(self.verb.to_owned()),
            group: Some(self.group.clone()),
            resource: Some(resource.to_owned()),
            subresource,
            ..ResourceAttributes::default()
        }
    }

    fn denied(&self, namespace: &str) -> Finding {
        let Need { verb, group, resource, is_essential } = self;
        let dot = if group.is_empty() { "" } else { "." };
        let subject = format!("verb {verb} on {resource}{dot}{group}");
        let advice =
            format!("not granted in the namespace {namespace:?}; add it to the Role of this identity");
        let finding = if *is_essential {
            Finding::new(subject, FindingState::Denied, format!("{advice} (docs/iam/deploy-eks-rbac.yaml)"))
        } else {
            Finding::new(subject, FindingState::Warning, format!("{advice}; failures and rollbacks use it"))
        };
        finding.cause(Cause::PermissionMissing)
    }
}

fn needs(kind: &Kind) -> Vec<Need> {
    let mut needs = Vec::new();
    let mut add = |verb, group: &str, resource: &str, is_essential| {
        needs.push(Need { verb, group: group.to_owned(), resource: resource.to_owned(), is_essential });
    };
    let workload = (kind.resource)();
    for (verb, is_essential) in [("get", true), ("list", true), ("watch", true)].iter().chain(kind.writes) {
        add(verb, &workload.group, &workload.plural, *is_essential);
    }
    if kind.is_scheduled {
        add("list", "batch", "jobs", false);
        return needs;
    }
    for verb in ["list", "watch"] {
        if let Some((versions, _)) = kind.versions.resource() {
            add(verb, &versions.group, &versions.plural, true);
        }
        add(verb, "", "pods", true);
        add(verb, "", "events", false);
    }
    add("get", "", "pods/log", false);
    if kind.deletes_pods {
        add("delete", "", "pods", false);
    }
    needs
}

impl WorkloadApi {
    /// Checks every verb that a rollout requires or uses.
    pub(super) async fn permissions(&self) -> Result<Vec<Finding>, Error> {
        review(&self.scope, needs(self.kind())).await
    }
}

/// Asks the API server about each permission.
async fn review(scope: &Scope, needs: Vec<Need>) -> Result<Vec<Finding>, Error> {
    let api: Api<SelfSubjectAccessReview> = Api::all(scope.client.clone());
    let namespace = &scope.namespace;
    let ask = async |need: Need| {
        let spec = SelfSubjectAccessReviewSpec {
            resource_attributes: Some(need.attributes(namespace)),
            ..SelfSubjectAccessReviewSpec::default()
        };
        let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
        let answer = api.create(&PostParams::default(), &review).await;
        let answer = answer
            .map_err(|e| scope.all("selfsubjectaccessreview").error("create selfsubjectaccessreviews", e))?;
        let is_allowed = answer.status.is_some_and(|status| status.allowed);
        Ok((!is_allowed).then(|| need.denied(namespace)))
    };
    let answers = try_join_all(needs.into_iter().map(ask)).await?;
    let asked = answers.len();
    let denied: Vec<Finding> = answers.into_iter().flatten().collect();
    if denied.is_empty() {
        let subject = format!("permissions in the namespace {namespace:?}");
        return Ok(vec![Finding::new(subject, FindingState::Present, format!("all {asked} verbs"))]);
    }
    Ok(denied)
}

#[cfg(test)]
mod tests {
    use bp_artifact::config::WorkloadKind;

    use super::*;
    use crate::workload::of;

    #[test]
    fn each_kind_requires_its_verbs() {
        let verbs = |kind| -> Vec<String> {
            let essential = needs(of(kind)).into_iter().filter(|need| need.is_essential);
            essential.map(|need| format!("{} {}", need.verb, need.resource)).collect()
        };
        assert!(verbs(WorkloadKind::Deployment).contains(&"watch replicasets".to_owned()));
        assert!(verbs(WorkloadKind::DaemonSet).contains(&"list controllerrevisions".to_owned()));
        let job = verbs(WorkloadKind::Job);
        assert!(
            job.contains(&"create jobs".to_owned()) && !job.contains(&"patch jobs".to_owned()),
            "{job:?}"
        );
    }
}
