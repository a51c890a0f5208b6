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

/// The finding about the role of a service account with the annotated role `annotated`; `None` without an EKS client.
pub(super) async fn check_role(
    lookups: &Lookups,
    pods: &Pods<'_>,
    annotated: Option<RoleArn>,
) -> Option<Finding> {
    let eks = lookups.eks.as_ref()?;
    let associated = match associated(eks, pods).await {
        Ok(associated) => associated,
        Err(finding) => return Some(finding),
    };
    // If both exist, the AWS SDKs use the role of the annotation.
    let (role, source) = match (annotated, associated) {
        (Some(role), _) => (role, IdentitySource::Irsa),
        (None, Some(role)) => (role, IdentitySource::PodIdentity),
        (None, None) if pods.account == "default" => return None,
        (None, None) => {
            let message = "has no AWS role, neither by IRSA nor by EKS Pod Identity; a program that calls AWS needs one";
            return Some(finding(
                format!("service account {}", pods.account),
                FindingState::Warning,
                message,
            ));
        }
    };
    check_trust(lookups, eks, pods, &role, source).await
}

#[cfg(not(feature = "iam"))]
async fn check_trust(
    _: &Lookups,
    _: &Client,
    _: &Pods<'_>,
    role: &RoleArn,
    _: IdentitySource,
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
    source: IdentitySource,
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
        return Some(finding(
            subject,
            FindingState::Unknown,
            "belongs to another account, which cannot be checked",
        ));
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
enum IdentitySource {
    /// By the annotation of the service account.
    Irsa,
    /// By an EKS Pod Identity association.
    PodIdentity,
}

/// The role of the EKS Pod Identity association.
async fn associated(eks: &Client, pods: &Pods<'_>) -> Result<Option<RoleArn>, Finding> {
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
    let role = answer.association.and_then(|association| association.role_arn);
    Ok(role.and_then(|role| role.parse().ok()))
}

fn lookup_failed<E>(subject: String, action: &str, error: &SdkError<E, HttpResponse>) -> Finding
where
    E: std::error::Error + ProvideErrorMetadata,
{
    let why = error.code().map_or_else(|| error.to_string(), str::to_owned);
    finding(subject, FindingState::Unknown, format!("lookup failed: {action} ({why})"))
}
