//! Check the IAM role of a workload's pods (IRSA or EKS Pod Identity): whether it exists and trusts them.

use aws_sdk_eks::{
    Client,
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use bp_artifact::{
    config::RoleArn,
    deploy::{
        Cause,
        preflight::{Finding, FindingState},
    },
};

use super::lookups::Lookups;
#[cfg(feature = "iam")]
use super::trust::{self, Principal};

fn finding(subject: String, state: FindingState, message: impl Into<String>) -> Finding {
    Finding::new(subject, state, message).cause(Cause::PermissionMissing)
}

/// The findings about the role of a service account with the annotated role `annotated`, and about the role that it
/// assumes; none without an EKS client.
pub(super) async fn check_role(
    lookups: &Lookups,
    pods: &Pods<'_>,
    annotated: Option<RoleArn>,
) -> Vec<Finding> {
    let Some(eks) = &lookups.eks else { return Vec::new() };
    let associated = match associated(eks, pods).await {
        Ok(associated) => associated,
        Err(finding) => return vec![finding],
    };
    // If both exist, the AWS SDKs use the role of the annotation.
    let association = match (annotated, associated) {
        (Some(role), _) => {
            let found = check_trust(lookups, eks, pods, &role, IdentitySource::Irsa).await;
            return found.into_iter().collect();
        }
        (None, Some(association)) => association,
        (None, None) if pods.account == "default" => return Vec::new(),
        (None, None) => {
            let message = "has no AWS role, neither by IRSA nor by EKS Pod Identity; a program that calls AWS needs one";
            return vec![finding(
                format!("service account {}", pods.account),
                FindingState::Warning,
                message,
            )];
        }
    };
    let Association { role, target, external_id, tags, policy } = association;
    let mut findings: Vec<Finding> =
        check_trust(lookups, eks, pods, &role, IdentitySource::PodIdentity).await.into_iter().collect();
    if let Some(target) = &target {
        let source = IdentitySource::Role { role: &role, external_id: external_id.as_deref(), tags };
        findings.extend(check_trust(lookups, eks, pods, target, source).await);
    }
    if let Some(policy) = policy {
        findings.push(session_policy(target.as_ref().unwrap_or(&role), &policy));
    }
    findings
}

/// What the session policy of an association does: the pods may do only what it and the role allow.
fn session_policy(role: &RoleArn, policy: &str) -> Finding {
    let subject = format!("session policy of the EKS Pod Identity association with {role}");
    match serde_json::from_str::<serde_json::Value>(policy) {
        Ok(policy) => {
            let statements = &policy["Statement"];
            let one = usize::from(!statements.is_null());
            let statements = statements.as_array().map_or(one, Vec::len);
            let message = format!(
                "limits what the role allows; it has {statements} statements: an action that is denied to a program of the \
                pods may be missing there"
            );
            Finding::new(subject, FindingState::Present, message)
        }
        Err(_) => finding(subject, FindingState::Unknown, "is not a JSON document"),
    }
}

#[cfg(not(feature = "iam"))]
async fn check_trust(
    _: &Lookups,
    _: &Client,
    _: &Pods<'_>,
    role: &RoleArn,
    _: IdentitySource<'_>,
) -> Option<Finding> {
    let message = "cannot check its trust policy: this build lacks the feature iam";
    Some(Finding::new(format!("role {role}"), FindingState::Unknown, message))
}

#[cfg(feature = "iam")]
async fn check_trust(
    lookups: &Lookups,
    eks: &Client,
    pods: &Pods<'_>,
    role: &RoleArn,
    source: IdentitySource<'_>,
) -> Option<Finding> {
    let subject = format!("role {role}");
    let Some(iam) = &lookups.iam else {
        let message = "cannot check its trust policy: no IAM client is set";
        return Some(Finding::new(subject, FindingState::Unknown, message));
    };
    let cluster = match eks.describe_cluster().name(pods.cluster).send().await {
        Ok(answer) => answer.cluster?,
        Err(error) => return Some(lookup_failed(subject, "eks:DescribeCluster", &error)),
    };
    let account = cluster.arn().and_then(|arn| arn.split(':').nth(4));
    if account.is_some_and(|account| account != role.account()) {
        let message = match source {
            IdentitySource::Role { role, external_id, tags } => {
                let actions = if tags { "sts:AssumeRole and sts:TagSession" } else { "sts:AssumeRole" };
                let id = external_id.map(|id| format!(" with the external id {id}")).unwrap_or_default();
                format!(
                    "belongs to another account, which cannot be checked: its trust policy must allow {actions} for {role}{id}"
                )
            }
            IdentitySource::Irsa | IdentitySource::PodIdentity => {
                "belongs to another account, which cannot be checked".to_owned()
            }
        };
        return Some(finding(subject, FindingState::Unknown, message));
    }
    let name = role.as_str().rsplit('/').next().unwrap_or_default();
    let policy = match iam.get_role().role_name(name).send().await {
        Ok(answer) => answer.role.and_then(|role| role.assume_role_policy_document)?,
        Err(error) if error.code() == Some("NoSuchEntity") => {
            let message =
                "does not exist; create it, or correct the service account's annotation or association";
            return Some(finding(subject, FindingState::Missing, message));
        }
        Err(error) => return Some(lookup_failed(subject, "iam:GetRole", &error)),
    };
    let issuer = cluster.identity().and_then(|identity| identity.oidc()?.issuer()).unwrap_or_default();
    let account = format!("system:serviceaccount:{}:{}", pods.namespace, pods.account);
    let principal = match source {
        IdentitySource::Irsa => Principal::Irsa { issuer, account: &account },
        IdentitySource::PodIdentity => Principal::PodIdentity,
        IdentitySource::Role { role, external_id, tags } => {
            Principal::Role { role: role.as_str(), external_id, tags }
        }
    };
    Some(match trust::missing(&policy, principal) {
        Some(missing) => {
            finding(subject, FindingState::Invalid, format!("does not trust the pods: {missing}"))
        }
        None => Finding::new(subject, FindingState::Present, "trusts the pods"),
    })
}

/// The pods whose role is checked.
pub(super) struct Pods<'p> {
    pub(super) cluster: &'p str,
    pub(super) namespace: &'p str,
    /// Their service account.
    pub(super) account: &'p str,
}

/// How pods get a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "iam"), allow(dead_code))]
enum IdentitySource<'i> {
    /// By the annotation of the service account.
    Irsa,
    /// By an EKS Pod Identity association.
    PodIdentity,
    /// Assumed by the role of an EKS Pod Identity association, as its target role.
    Role {
        role: &'i RoleArn,
        external_id: Option<&'i str>,
        /// Whether the session has tags.
        tags: bool,
    },
}

/// An EKS Pod Identity association.
struct Association {
    role: RoleArn,
    /// The role that this one assumes.
    target: Option<RoleArn>,
    external_id: Option<String>,
    /// Whether sessions have tags.
    tags: bool,
    /// The session policy.
    policy: Option<String>,
}

/// The EKS Pod Identity association.
async fn associated(eks: &Client, pods: &Pods<'_>) -> Result<Option<Association>, Finding> {
    let subject = || format!("AWS role of the service account {}", pods.account);
    let list = eks.list_pod_identity_associations().cluster_name(pods.cluster);
    let list = list.namespace(pods.namespace).service_account(pods.account).send().await;
    let list = list.map_err(|error| lookup_failed(subject(), "eks:ListPodIdentityAssociations", &error))?;
    let Some(id) = list.associations().iter().find_map(|association| association.association_id()) else {
        return Ok(None);
    };
    let asked = eks.describe_pod_identity_association().cluster_name(pods.cluster).association_id(id);
    let answer = asked.send().await;
    let answer =
        answer.map_err(|error| lookup_failed(subject(), "eks:DescribePodIdentityAssociation", &error))?;
    let Some(found) = answer.association else { return Ok(None) };
    let role = |arn: Option<String>| arn.and_then(|arn| arn.parse::<RoleArn>().ok());
    let Some(own) = role(found.role_arn) else { return Ok(None) };
    Ok(Some(Association {
        role: own,
        target: role(found.target_role_arn),
        external_id: found.external_id,
        tags: found.disable_session_tags != Some(true),
        policy: found.policy,
    }))
}

fn lookup_failed<E>(subject: String, action: &str, error: &SdkError<E, HttpResponse>) -> Finding
where
    E: std::error::Error + ProvideErrorMetadata,
{
    let why = error.code().map_or_else(|| error.to_string(), str::to_owned);
    finding(subject, FindingState::Unknown, format!("lookup failed: {action} ({why})"))
}
