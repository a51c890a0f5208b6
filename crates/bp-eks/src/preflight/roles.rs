//! The AWS role of a workload's pods, before a roll-out: IRSA and EKS Pod Identity, and whom the role trusts.

use std::fmt;

use aws_sdk_eks::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use bp_artifact::{config::RoleArn, deploy::Cause};

#[cfg(feature = "iam")]
use super::finding::certain;
use super::finding::{Finding, unknown};

/// Where [`preflight_with`](crate::EksTarget::preflight_with) looks beside the Kubernetes API.
///
/// With [`eks`](Self::eks) it finds the role that EKS Pod Identity gives to the pods, and says when the service account
/// has no role at all. With `iam` (feature `iam`) it looks whether the role is there and trusts the pods.
#[derive(Clone, Default)]
pub struct Lookups {
    eks: Option<aws_sdk_eks::Client>,
    #[cfg(feature = "iam")]
    iam: Option<aws_sdk_iam::Client>,
}

impl fmt::Debug for Lookups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookups").field("eks", &self.eks.is_some()).finish_non_exhaustive()
    }
}

impl Lookups {
    /// Asks EKS for Pod Identity associations.
    pub fn eks(mut self, client: aws_sdk_eks::Client) -> Self {
        self.eks = Some(client);
        self
    }

    /// Asks IAM for the roles.
    #[cfg(feature = "iam")]
    pub fn iam(mut self, client: aws_sdk_iam::Client) -> Self {
        self.iam = Some(client);
        self
    }

    /// What is wrong with the role of a service account, whose annotation names `annotated`.
    pub(super) async fn role(&self, pods: &Pods<'_>, annotated: Option<RoleArn>) -> Vec<Finding> {
        let Some(eks) = &self.eks else { return Vec::new() };
        let associated = match associated(eks, pods).await {
            Ok(associated) => associated,
            Err(finding) => return vec![finding],
        };
        // Where a program has both, the AWS SDKs take the annotation's.
        let (role, way) = match (annotated, associated) {
            (Some(role), _) => (role, Way::Irsa),
            (None, Some(role)) => (role, Way::PodIdentity),
            (None, None) if pods.account == "default" => return Vec::new(),
            (None, None) => {
                return vec![unknown(
                    Cause::PermissionMissing,
                    format!(
                        "the service account {:?} has no AWS role, neither by IRSA nor by EKS Pod Identity, which a program \
                         that calls AWS needs",
                        pods.account
                    ),
                )];
            }
        };
        self.trusted(eks, pods, &role, way).await.into_iter().collect()
    }

    #[cfg(not(feature = "iam"))]
    async fn trusted(&self, _: &aws_sdk_eks::Client, _: &Pods<'_>, _: &RoleArn, _: Way) -> Option<Finding> {
        None
    }

    #[cfg(feature = "iam")]
    async fn trusted(
        &self,
        eks: &aws_sdk_eks::Client,
        pods: &Pods<'_>,
        role: &RoleArn,
        way: Way,
    ) -> Option<Finding> {
        let iam = self.iam.as_ref()?;
        let cause = Cause::PermissionMissing;
        let cluster = match eks.describe_cluster().name(pods.cluster).send().await {
            Ok(answer) => answer.cluster?,
            Err(error) => return Some(not_asked("eks:DescribeCluster", &error)),
        };
        let account = cluster.arn().and_then(|arn| arn.split(':').nth(4));
        let owner = role.as_str().split(':').nth(4);
        if account.is_some() && owner != account {
            return Some(unknown(cause, format!("the role {role} is of another account")));
        }
        let name = role.as_str().rsplit('/').next().unwrap_or_default();
        let policy = match iam.get_role().role_name(name).send().await {
            Ok(answer) => answer.role.and_then(|role| role.assume_role_policy_document)?,
            Err(error) if error.code() == Some("NoSuchEntity") => {
                return Some(certain(cause, format!("the role {role} of the pods does not exist")));
            }
            Err(error) => return Some(not_asked("iam:GetRole", &error)),
        };
        let issuer = cluster.identity().and_then(|identity| identity.oidc()?.issuer()).unwrap_or_default();
        let subject = format!("system:serviceaccount:{}:{}", pods.namespace, pods.account);
        let missing = trust::missing(&policy, way, &subject, issuer)?;
        Some(certain(cause, format!("the role {role} of the pods does not trust them: {missing}")))
    }
}

/// Whose role is looked for.
pub(super) struct Pods<'p> {
    pub(super) cluster: &'p str,
    pub(super) namespace: &'p str,
    /// Their service account.
    pub(super) account: &'p str,
}

/// How pods come by a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "iam"), allow(dead_code))]
enum Way {
    /// By the annotation of the service account.
    Irsa,
    /// By an association of EKS Pod Identity.
    PodIdentity,
}

/// The role that EKS Pod Identity gives.
async fn associated(eks: &aws_sdk_eks::Client, pods: &Pods<'_>) -> Result<Option<RoleArn>, Finding> {
    let list = eks.list_pod_identity_associations().cluster_name(pods.cluster);
    let list = list.namespace(pods.namespace).service_account(pods.account).send().await;
    let list = list.map_err(|error| not_asked("eks:ListPodIdentityAssociations", &error))?;
    let Some(id) = list.associations().iter().find_map(|association| association.association_id()) else {
        return Ok(None);
    };
    let asked = eks.describe_pod_identity_association().cluster_name(pods.cluster).association_id(id);
    let answer = asked.send().await;
    let answer = answer.map_err(|error| not_asked("eks:DescribePodIdentityAssociation", &error))?;
    let role = answer.association.and_then(|association| association.role_arn);
    Ok(role.and_then(|role| role.parse().ok()))
}

fn not_asked<E>(action: &str, error: &SdkError<E, HttpResponse>) -> Finding
where
    E: std::error::Error + ProvideErrorMetadata,
{
    let why = error.code().map_or_else(|| error.to_string(), str::to_owned);
    unknown(
        Cause::PermissionMissing,
        format!("the AWS role of the pods could not be looked at: {action} ({why})"),
    )
}

/// Trust policies, as far as they concern pods.
#[cfg(feature = "iam")]
mod trust {
    use percent_encoding::percent_decode_str;
    use serde_json::Value;

    use super::Way;

    const POD_IDENTITY: &str = "pods.eks.amazonaws.com";

    /// What a policy, in IAM's percent encoding, lacks to trust pods of a service account.
    pub(super) fn missing(policy: &str, way: Way, subject: &str, issuer: &str) -> Option<String> {
        let policy = percent_decode_str(policy).decode_utf8_lossy().into_owned();
        let policy: Value = serde_json::from_str(&policy).ok()?;
        let statements: Vec<&Value> =
            all(&policy["Statement"]).into_iter().filter(|one| one["Effect"] == "Allow").collect();
        let allowed = |action: &str, one: &&&Value| {
            all(&one["Action"]).iter().filter_map(|a| a.as_str()).any(|pattern| is_like(pattern, action))
        };
        match way {
            Way::PodIdentity => {
                let trusts = |one: &&&Value| texts(&one["Principal"]["Service"]).any(|s| s == POD_IDENTITY);
                let lacking = ["sts:AssumeRole", "sts:TagSession"]
                    .into_iter()
                    .find(|action| !statements.iter().any(|one| trusts(&one) && allowed(action, &one)))?;
                Some(format!("its trust policy does not allow {POD_IDENTITY} {lacking}"))
            }
            Way::Irsa => {
                let provider = issuer.trim_start_matches("https://");
                let action = "sts:AssumeRoleWithWebIdentity";
                let of_cluster: Vec<&&Value> = statements
                    .iter()
                    .filter(|one| allowed(action, one))
                    .filter(|one| texts(&one["Principal"]["Federated"]).any(|arn| arn.ends_with(provider)))
                    .collect();
                match () {
                    () if of_cluster.is_empty() => {
                        Some(format!("its trust policy allows {action} to no OIDC provider {provider}"))
                    }
                    () if of_cluster.iter().any(|one| names(&one["Condition"], subject)) => None,
                    () => Some(format!("the condition of its trust policy does not match {subject}")),
                }
            }
        }
    }

    /// Whether a condition lets the subject pass, as far as it is about subjects.
    fn names(condition: &Value, subject: &str) -> bool {
        let operators = condition.as_object().into_iter().flatten();
        let mut about_subjects = operators.flat_map(|(operator, keys)| {
            let keys = keys.as_object().into_iter().flatten();
            let keys = keys.filter(|(key, _)| key.to_ascii_lowercase().ends_with(":sub"));
            keys.map(move |(_, wanted)| (operator.as_str(), wanted))
        });
        about_subjects.all(|(operator, wanted)| match operator {
            "StringEquals" => texts(wanted).any(|wanted| wanted == subject),
            "StringLike" => texts(wanted).any(|wanted| is_like(wanted, subject)),
            // Rare, and for IAM to judge.
            _ => true,
        })
    }

    /// Whether a pattern with `*` and `?` matches, as IAM matches.
    fn is_like(pattern: &str, text: &str) -> bool {
        match (pattern.chars().next(), text.chars().next()) {
            (None, None) => true,
            (Some('*'), _) => {
                let rest = &pattern[1..];
                is_like(rest, text)
                    || text.chars().next().is_some_and(|c| is_like(pattern, &text[c.len_utf8()..]))
            }
            (Some(p), Some(t)) if p == '?' || p == t => {
                is_like(&pattern[p.len_utf8()..], &text[t.len_utf8()..])
            }
            _ => false,
        }
    }

    /// One or several.
    fn all(value: &Value) -> Vec<&Value> {
        value.as_array().map_or_else(|| vec![value], |list| list.iter().collect())
    }

    fn texts(value: &Value) -> impl Iterator<Item = &str> {
        all(value).into_iter().filter_map(Value::as_str)
    }

    #[cfg(test)]
    mod tests {
        use serde_json::json;

        use super::*;

        const SUBJECT: &str = "system:serviceaccount:prod:web";
        const ISSUER: &str = "https://oidc.eks.eu-central-1.amazonaws.com/id/A";

        fn irsa(condition: Value) -> Value {
            let provider = "arn:aws:iam::1:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/A";
            json!({ "Effect": "Allow", "Principal": { "Federated": provider },
                "Action": "sts:AssumeRoleWithWebIdentity", "Condition": condition })
        }

        #[test]
        fn the_pods_are_trusted_or_it_is_said_what_is_missing() {
            let sub = "oidc.eks.eu-central-1.amazonaws.com/id/A:sub";
            let pods = |actions: Value| json!({ "Effect": "Allow", "Principal": { "Service": POD_IDENTITY }, "Action": actions });
            for (way, statements, missing) in [
                (Way::Irsa, json!([irsa(json!({ "StringEquals": { sub: SUBJECT } }))]), None),
                (
                    Way::Irsa,
                    json!(irsa(json!({ "StringLike": { sub: "system:serviceaccount:prod:*" } }))),
                    None,
                ),
                (Way::Irsa, json!([irsa(Value::Null)]), None),
                (
                    Way::Irsa,
                    json!([irsa(json!({ "StringEquals": { sub: ["system:serviceaccount:test:web"] } }))]),
                    Some("does not match system:serviceaccount:prod:web"),
                ),
                (Way::Irsa, json!([pods(json!("sts:AssumeRole"))]), Some("to no OIDC provider")),
                (Way::PodIdentity, json!([pods(json!(["sts:AssumeRole", "sts:TagSession"]))]), None),
                (Way::PodIdentity, json!([pods(json!("sts:*"))]), None),
                (Way::PodIdentity, json!([pods(json!("sts:AssumeRole"))]), Some("sts:TagSession")),
                (Way::PodIdentity, json!([irsa(Value::Null)]), Some("sts:AssumeRole")),
            ] {
                let policy = json!({ "Version": "2012-10-17", "Statement": statements }).to_string();
                let encoded =
                    percent_encoding::utf8_percent_encode(&policy, percent_encoding::NON_ALPHANUMERIC);
                let found = super::missing(&encoded.to_string(), way, SUBJECT, ISSUER);
                match missing {
                    None => assert_eq!(found, None, "{policy}"),
                    Some(words) => assert!(found.as_ref().is_some_and(|f| f.contains(words)), "{found:?}"),
                }
            }
            let elsewhere = super::missing(
                &json!({ "Statement": [irsa(Value::Null)] }).to_string(),
                Way::Irsa,
                SUBJECT,
                "https://oidc.eks.eu-central-1.amazonaws.com/id/B",
            );
            assert!(
                elsewhere.is_some_and(|missing| missing.ends_with("/id/B")),
                "another cluster's provider"
            );
        }
    }
}
