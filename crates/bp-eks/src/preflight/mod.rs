//! What would fail, before anything is changed: permissions, platforms, and what the pods refer to.

mod finding;
pub(crate) mod roles;

pub use finding::Finding;
use finding::{certain, unknown};

use std::collections::BTreeSet;

use bp_artifact::{Platform, ResolvedImage, config::RoleArn, deploy::Cause};
use futures_util::future::join_all;
use k8s_openapi::api::{
    authorization::v1::{
        ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReviewStatus,
    },
    core::v1::{ConfigMap, Node, Secret, ServiceAccount},
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
};
use serde_json::Value;

use crate::{
    error::Error,
    preflight::roles::{Lookups, Pods},
    rollout::{WorkloadRollout, api::WorkloadApi},
    workload::{Kind, Live},
};

/// The annotation by which a service account has an IAM role (IRSA).
const ROLE: &str = "eks.amazonaws.com/role-arn";

/// What was found before a roll-out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Preflight {
    /// What would fail, or may. Empty when all is well.
    pub findings: Vec<Finding>,
}

impl Preflight {
    /// Whether nothing is known that would make the roll-out fail.
    pub fn is_clear(&self) -> bool {
        self.findings.iter().all(|finding| !finding.certain)
    }
}

impl WorkloadRollout {
    pub(crate) async fn preflight(
        &self,
        image: &ResolvedImage,
        lookups: &Lookups,
    ) -> Result<Preflight, Error> {
        let mut findings = self.api.permissions().await?;
        let live = match self.api.workload().await {
            Ok(live) => live,
            // The review has said so already, for each verb.
            Err(Error::Forbidden { .. }) if !findings.is_empty() => return Ok(Preflight { findings }),
            Err(error) => return Err(error),
        };
        self.slot(&live)?;
        findings.extend(self.api.platforms(&live, image).await);
        findings.extend(self.api.references(&live).await);
        findings.extend(self.api.identity(&live, lookups).await);
        Ok(Preflight { findings })
    }
}

/// What a node runs.
fn platform(node: &Node) -> Option<Platform> {
    let info = node.status.as_ref()?.node_info.as_ref()?;
    Platform::new(&info.operating_system, &info.architecture, None).ok()
}

/// Verb, group and resource of each call that a roll-out makes, and whether it cannot do without.
fn needs(kind: &Kind) -> Vec<(&'static str, String, String, bool)> {
    let resource = (kind.resource)();
    let read = [("get", true), ("list", true), ("watch", true)];
    let mut needs: Vec<_> = read
        .iter()
        .chain(kind.writes)
        .map(|(verb, needed)| (*verb, resource.group.clone(), resource.plural.clone(), *needed))
        .collect();
    let mut add = |verb, group: &str, plural: &str, needed| {
        needs.push((verb, group.to_owned(), plural.to_owned(), needed));
    };
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
    /// Asks for every verb that a roll-out needs or uses.
    async fn permissions(&self) -> Result<Vec<Finding>, Error> {
        let api: Api<SelfSubjectAccessReview> = Api::all(self.scope.client.clone());
        let needs = needs(self.kind());
        let ask = |(verb, group, plural, needed): (&'static str, String, String, bool)| {
            let api = api.clone();
            async move {
                let (resource, subresource) = match plural.split_once('/') {
                    Some((resource, sub)) => (resource.to_owned(), Some(sub.to_owned())),
                    None => (plural.clone(), None),
                };
                let attributes = ResourceAttributes {
                    namespace: Some(self.scope.namespace.clone()),
                    verb: Some(verb.to_owned()),
                    group: Some(group.clone()),
                    resource: Some(resource),
                    subresource,
                    ..ResourceAttributes::default()
                };
                let review = SelfSubjectAccessReview {
                    spec: SelfSubjectAccessReviewSpec {
                        resource_attributes: Some(attributes),
                        ..SelfSubjectAccessReviewSpec::default()
                    },
                    ..SelfSubjectAccessReview::default()
                };
                let answer = api.create(&PostParams::default(), &review).await;
                let answer = answer.map_err(|e| {
                    self.all("selfsubjectaccessreview").error("create selfsubjectaccessreviews", e)
                })?;
                let SubjectAccessReviewStatus { allowed, .. } = answer.status.unwrap_or_default();
                let dot = if group.is_empty() { "" } else { "." };
                let message = format!(
                    "the identity lacks the verb {verb:?} on {plural}{dot}{group} in the namespace {:?}",
                    self.scope.namespace
                );
                Ok((!allowed).then(|| match needed {
                    true => certain(Cause::PermissionMissing, message),
                    false => unknown(Cause::PermissionMissing, message + ", which failures and undo use"),
                }))
            }
        };
        let answers = join_all(needs.into_iter().map(ask)).await;
        let answers: Result<Vec<Option<Finding>>, Error> = answers.into_iter().collect();
        Ok(answers?.into_iter().flatten().collect())
    }

    /// Whether the image has a platform for each operating system and architecture of the nodes that the pods may be
    /// placed on. The platform of a manifest that is not an index is known only where its configuration was read.
    async fn platforms(&self, live: &Live, image: &ResolvedImage) -> Vec<Finding> {
        if image.platforms.is_empty() {
            return vec![unknown(Cause::WrongArchitecture, "the image's platforms are not known")];
        }
        let wanted = live.template()["spec"]["nodeSelector"].as_object().cloned().unwrap_or_default();
        let nodes: Api<Node> = Api::all(self.scope.client.clone());
        let nodes = match nodes.list(&ListParams::default()).await {
            Ok(nodes) => nodes.items,
            Err(_) => {
                return vec![unknown(Cause::WrongArchitecture, "the nodes may not be listed (cluster-wide)")];
            }
        };
        let fits =
            |node: &&Node| wanted.iter().all(|(k, v)| node.labels().get(k).map(String::as_str) == v.as_str());
        let there: BTreeSet<Platform> = nodes.iter().filter(fits).filter_map(platform).collect();
        let runs_on = |node: &&Platform| image.platforms.iter().any(|built| built.platform.runs(node));
        let (_, missing): (Vec<&Platform>, Vec<&Platform>) = there.iter().partition(runs_on);
        if missing.is_empty() {
            return Vec::new();
        }
        let built =
            image.platforms.iter().map(|built| built.platform.to_string()).collect::<Vec<_>>().join(", ");
        let lacking = missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        if missing.len() < there.len() {
            // Such nodes may be kept away from these pods by taints or affinity.
            let message = format!("the image is built for {built}, and some nodes are {lacking}");
            return vec![unknown(Cause::WrongArchitecture, message)];
        }
        let message =
            format!("the image is built for {built}, and all nodes that the pods may run on are {lacking}");
        vec![certain(Cause::WrongArchitecture, message)]
    }

    /// Whether the secrets and config maps that the pods refer to are there.
    async fn references(&self, live: &Live) -> Vec<Finding> {
        let mut findings = Vec::new();
        for reference in references(live.template()) {
            let Reference { is_secret, name, key } = &reference;
            let namespace = &self.scope.namespace;
            let (kind, cause) = match is_secret {
                true => ("secret", Cause::SecretMissing),
                false => ("config map", Cause::ConfigInvalid),
            };
            let keys = match is_secret {
                true => {
                    let api: Api<Secret> = Api::namespaced(self.scope.client.clone(), namespace);
                    api.get_opt(name).await.map(|found| found.map(|s| keys(&s.data, &s.string_data)))
                }
                false => {
                    let api: Api<ConfigMap> = Api::namespaced(self.scope.client.clone(), namespace);
                    api.get_opt(name).await.map(|found| found.map(|m| keys(&m.data, &m.binary_data)))
                }
            };
            let lacks = |keys: &BTreeSet<String>| key.as_ref().is_some_and(|key| !keys.contains(key));
            findings.extend(match keys {
                Ok(None) => Some(certain(cause, format!("the {kind} {name:?} is not there"))),
                Ok(Some(keys)) if lacks(&keys) => Some(certain(
                    cause,
                    format!("the {kind} {name:?} has no key {:?}", key.as_deref().unwrap_or_default()),
                )),
                Ok(Some(_)) => None,
                Err(_) => Some(unknown(cause, format!("the {kind} {name:?} may not be looked at"))),
            });
        }
        findings
    }

    /// Whether the service account is there, and its role, if it names one, is the ARN of a role; and what can be looked
    /// up about the role.
    async fn identity(&self, live: &Live, lookups: &Lookups) -> Vec<Finding> {
        let spec = &live.template()["spec"];
        let name = spec["serviceAccountName"].as_str().unwrap_or("default");
        let accounts: Api<ServiceAccount> = Api::namespaced(self.scope.client.clone(), &self.scope.namespace);
        let account = match accounts.get_opt(name).await {
            Ok(account) => account,
            // Every namespace has it; without leave to look, only its annotation stays unknown.
            Err(_) if name == "default" => None,
            Err(_) => {
                return vec![unknown(
                    Cause::PermissionMissing,
                    format!("the service account {name:?} may not be looked at"),
                )];
            }
        };
        if account.is_none() && name != "default" {
            return vec![certain(
                Cause::PermissionMissing,
                format!("the service account {name:?} is not there, so no pod will be made"),
            )];
        }
        let role = account.as_ref().and_then(|account| account.annotations().get(ROLE));
        let role = match role.map(|role| role.parse::<RoleArn>().map_err(|_| role)).transpose() {
            Ok(role) => role,
            Err(role) => {
                return vec![certain(
                    Cause::PermissionMissing,
                    format!(
                        "the annotation {ROLE} of the service account {name:?} is no role's ARN: {role:?}"
                    ),
                )];
            }
        };
        lookups
            .role(
                &Pods { cluster: &self.scope.cluster, namespace: &self.scope.namespace, account: name },
                role,
            )
            .await
    }
}

fn keys<V, W>(
    one: &Option<std::collections::BTreeMap<String, V>>,
    two: &Option<std::collections::BTreeMap<String, W>>,
) -> BTreeSet<String> {
    one.iter().flat_map(|map| map.keys()).chain(two.iter().flat_map(|map| map.keys())).cloned().collect()
}

/// A secret or config map that a pod cannot start without.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Reference {
    is_secret: bool,
    name: String,
    key: Option<String>,
}

/// What the template refers to, optional references left out.
fn references(template: &Value) -> Vec<Reference> {
    let mut found = BTreeSet::new();
    let mut note = |is_secret: bool, reference: &Value, name: &str| {
        if let (Some(name), false) = (reference[name].as_str(), reference["optional"] == true) {
            let key = reference["key"].as_str().map(str::to_owned);
            found.insert(Reference { is_secret, name: name.to_owned(), key });
        }
    };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let spec = &template["spec"];
    for container in list(&spec["containers"]).into_iter().chain(list(&spec["initContainers"])) {
        for variable in list(&container["env"]) {
            note(true, &variable["valueFrom"]["secretKeyRef"], "name");
            note(false, &variable["valueFrom"]["configMapKeyRef"], "name");
        }
        for source in list(&container["envFrom"]) {
            note(true, &source["secretRef"], "name");
            note(false, &source["configMapRef"], "name");
        }
    }
    for volume in list(&spec["volumes"]) {
        note(true, &volume["secret"], "secretName");
        note(false, &volume["configMap"], "name");
        for source in list(&volume["projected"]["sources"]) {
            note(true, &source["secret"], "name");
            note(false, &source["configMap"], "name");
        }
    }
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use bp_artifact::config::WorkloadKind;
    use serde_json::json;

    use super::*;
    use crate::workload::of;

    #[test]
    fn references_are_found_wherever_they_are_and_optional_ones_are_none() {
        let template = json!({ "spec": {
            "containers": [{
                "env": [
                    { "name": "A", "valueFrom": { "secretKeyRef": { "name": "db", "key": "url" } } },
                    { "name": "B", "valueFrom": { "configMapKeyRef": { "name": "web", "key": "b", "optional": true } } },
                ],
                "envFrom": [{ "configMapRef": { "name": "settings" } }],
            }],
            "initContainers": [{ "envFrom": [{ "secretRef": { "name": "init" } }] }],
            "volumes": [
                { "secret": { "secretName": "tls" } },
                { "projected": { "sources": [{ "configMap": { "name": "ca" } }] } },
                { "emptyDir": {} },
            ],
        } });
        let names: Vec<_> = references(&template).into_iter().map(|r| (r.is_secret, r.name, r.key)).collect();
        let of = |secret, name: &str, key: Option<&str>| (secret, name.to_owned(), key.map(str::to_owned));
        assert_eq!(
            names,
            [
                of(false, "ca", None),
                of(false, "settings", None),
                of(true, "db", Some("url")),
                of(true, "init", None),
                of(true, "tls", None),
            ]
        );
        assert!(references(&json!({})).is_empty());
    }

    #[test]
    fn each_kind_needs_its_verbs() {
        let verbs = |kind| -> Vec<String> {
            needs(of(kind))
                .into_iter()
                .filter(|n| n.3)
                .map(|(verb, _, plural, _)| format!("{verb} {plural}"))
                .collect()
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
