//! Explain why a cluster rejects its caller (401): look up the caller's EKS access entry.

use std::{fmt, sync::Arc, time::Duration};

use aws_sdk_eks::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use bp_artifact::time::TimeSource;
use futures_core::future::BoxFuture;
use jiff::Timestamp;
use kube::core::{
    Status,
    response::{StatusDetails, StatusSummary},
};
use tokio::sync::Mutex;

use super::{api::EksApi, aws_auth::principal, error::ConnectError};

/// The Kubernetes group that the RoleBindings in `docs/iam` use.
const GROUP: &str = "bp-deployers";
/// How long an explanation is cached: many requests are rejected at the same time.
const FRESH: Duration = Duration::from_secs(60);
/// The timeout of the lookup.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether a cluster has an access entry for an identity; displayed with the command that fixes a missing one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Access {
    /// The cluster.
    pub cluster: String,
    /// Its region.
    pub region: String,
    /// The IAM principal: for a session its role, with the role's path if the entry has it.
    pub principal: String,
    /// `API`, `API_AND_CONFIG_MAP` or `CONFIG_MAP`, if EKS returns it.
    pub authentication_mode: Option<String>,
    /// The access entry of the principal.
    pub entry: AccessEntry,
}

/// The state of an access entry.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccessEntry {
    /// The entry exists.
    Present {
        /// Its Kubernetes groups, for RoleBindings.
        groups: Vec<String>,
    },
    /// No entry exists, not even for a role of that name with a path.
    Missing,
    /// The cluster ignores access entries: it reads only the ConfigMap `kube-system/aws-auth`.
    NotRead,
    /// The lookup failed.
    Unknown {
        /// The IAM action, such as `eks:DescribeAccessEntry`.
        action: &'static str,
        /// The AWS error.
        reason: String,
    },
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Access { cluster, region, principal, .. } = self;
        let entry = |verb: &str| {
            format!(
                "aws eks {verb}-access-entry --cluster-name {cluster} --region {region} --principal-arn {principal}"
            )
        };
        let create = format!("{} --kubernetes-groups {GROUP}", entry("create"));
        match &self.entry {
            AccessEntry::Missing => {
                write!(f, "no access entry exists for {principal}: {create}")?;
                if principal.contains(":role/") {
                    f.write_str(" (for a role with a path, include the path)")?;
                }
                if self.authentication_mode.as_deref() == Some("API_AND_CONFIG_MAP") {
                    f.write_str(
                        "; the ConfigMap kube-system/aws-auth, which is read too, has no entry either",
                    )?;
                }
                Ok(())
            }
            AccessEntry::NotRead => write!(
                f,
                "the cluster's authentication mode is CONFIG_MAP, and kube-system/aws-auth has no entry for {principal}: \
                ask a cluster administrator to add it (eksctl create iamidentitymapping --cluster {cluster} --region \
                {region} --arn {principal} --username bp --group {GROUP}), or enable access entries (aws eks \
                update-cluster-config --name {cluster} --region {region} --access-config \
                authenticationMode=API_AND_CONFIG_MAP) and then {create}"
            ),
            AccessEntry::Present { .. } => write!(
                f,
                "{principal} has an access entry but is rejected: if the role was deleted and recreated, the entry belongs \
                to the old role ({}, then {create}); otherwise check that the credentials are valid (aws sts \
                get-caller-identity), that this machine's clock is correct, and that the entry is older than a minute",
                entry("delete")
            ),
            AccessEntry::Unknown { action, reason } => write!(
                f,
                "cannot check the access entry of {principal} because {action} failed ({reason}): grant that permission, or \
                have an administrator check ({}); if no entry exists, {create}",
                entry("describe")
            ),
        }
    }
}

impl EksApi {
    /// Looks up the access entry of `caller`.
    pub(super) async fn access(&self, caller: &str) -> Result<Access, ConnectError> {
        let authentication_mode = self.describe().await?.authentication_mode;
        let mut principal = principal(caller);
        let entry = match authentication_mode.as_deref() {
            Some("CONFIG_MAP") => AccessEntry::NotRead,
            _ => self.entry(&mut principal).await,
        };
        let (cluster, region) = (self.cluster.clone(), self.region.clone());
        Ok(Access { cluster, region, principal, authentication_mode, entry })
    }

    /// The entry of a principal; for a role also an entry with the role's path, which session ARNs omit.
    async fn entry(&self, principal: &mut String) -> AccessEntry {
        let found = self.entry_of(principal).await;
        if !matches!(found, AccessEntry::Missing) || !principal.contains(":role/") {
            return found;
        }
        let mut pages = self.eks.list_access_entries().cluster_name(&self.cluster).into_paginator().send();
        loop {
            match pages.next().await {
                None => return AccessEntry::Missing,
                Some(Err(error)) => return unknown("eks:ListAccessEntries", &error),
                Some(Ok(page)) => {
                    let with_path = page.access_entries().iter().find(|entry| is_same_role(entry, principal));
                    if let Some(entry) = with_path {
                        *principal = entry.clone();
                        return self.entry_of(principal).await;
                    }
                }
            }
        }
    }

    async fn entry_of(&self, principal: &str) -> AccessEntry {
        let asked = self.eks.describe_access_entry().cluster_name(&self.cluster).principal_arn(principal);
        match asked.send().await {
            Ok(answer) => {
                let entry = answer.access_entry();
                let groups = entry.map(|entry| entry.kubernetes_groups().to_vec()).unwrap_or_default();
                AccessEntry::Present { groups }
            }
            Err(error) if error.code() == Some("ResourceNotFoundException") => AccessEntry::Missing,
            Err(error) => unknown("eks:DescribeAccessEntry", &error),
        }
    }
}

fn unknown<E>(action: &'static str, error: &SdkError<E, HttpResponse>) -> AccessEntry
where
    E: std::error::Error + ProvideErrorMetadata,
{
    let code = error.code().map(|code| format!("{code}: {}", error.message().unwrap_or_default()));
    AccessEntry::Unknown { action, reason: code.unwrap_or_else(|| error.to_string()) }
}

/// Whether an entry's role, ignoring its path, is this role.
fn is_same_role(entry: &str, principal: &str) -> bool {
    let split = |arn: &str| {
        let (account, path) = arn.split_once(":role/")?;
        let name = path.rsplit('/').next()?;
        Some((account.to_owned(), name.to_owned()))
    };
    split(entry).is_some() && split(entry) == split(principal)
}

/// Returns the ARN of the caller.
pub(super) type Caller = Arc<dyn Fn() -> BoxFuture<'static, Option<String>> + Send + Sync>;

/// Explains rejected requests (401) of one client.
pub(super) struct Refusals {
    api: EksApi,
    caller: Caller,
    time: TimeSource,
    cached: Mutex<Option<(Timestamp, Access)>>,
}

impl Refusals {
    pub(super) fn new(api: EksApi, caller: Caller, time: TimeSource) -> Self {
        Refusals { api, caller, time, cached: Mutex::default() }
    }

    /// The caller's access entry; `None` when the lookup fails.
    pub(super) async fn explain(&self) -> Option<Access> {
        let mut cached = self.cached.lock().await;
        let now = self.time.now();
        if let Some((_, access)) = cached.as_ref().filter(|(at, _)| now < *at + FRESH) {
            return Some(access.clone());
        }
        let ask = async { self.api.access(&(self.caller)().await?).await.ok() };
        let access = tokio::time::timeout(LOOKUP_TIMEOUT, ask).await.ok()??;
        *cached = Some((now, access.clone()));
        Some(access)
    }
}

const KIND: &str = "AccessEntry";

/// A Kubernetes `Status` 401 with an explanation as its message.
pub(super) fn unauthorized(explanation: String) -> kube::Error {
    let details = StatusDetails {
        name: String::new(),
        group: "eks.amazonaws.com".to_owned(),
        kind: KIND.to_owned(),
        uid: String::new(),
        causes: Vec::new(),
        retry_after_seconds: 0,
    };
    kube::Error::Api(Box::new(Status {
        status: Some(StatusSummary::Failure),
        code: 401,
        message: explanation,
        metadata: None,
        reason: "Unauthorized".to_owned(),
        details: Some(details),
    }))
}

/// The explanation in a `Status` that [`unauthorized`] made.
pub(crate) fn explanation(status: &Status) -> Option<&str> {
    let is_ours = status.details.as_ref().is_some_and(|details| details.kind == KIND);
    is_ours.then_some(status.message.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_a_role_with_and_without_its_path() {
        let role = "arn:aws:iam::111111111111:role/deploy";
        for (entry, same) in [
            ("arn:aws:iam::111111111111:role/ci/deploy", true),
            (role, true),
            ("arn:aws:iam::222222222222:role/ci/deploy", false),
            ("arn:aws:iam::111111111111:role/deploy/other", false),
            ("arn:aws:iam::111111111111:user/deploy", false),
        ] {
            assert_eq!(is_same_role(entry, role), same, "{entry}");
        }
    }

    #[test]
    fn displays_the_command_that_fixes_each_state() {
        let said = |mode: &str, entry: AccessEntry| {
            Access {
                cluster: "shop".into(),
                region: "eu-central-1".into(),
                principal: "arn:aws:iam::1:role/deploy".into(),
                authentication_mode: Some(mode.into()),
                entry,
            }
            .to_string()
        };
        let create = "aws eks create-access-entry --cluster-name shop --region eu-central-1 --principal-arn \
                      arn:aws:iam::1:role/deploy --kubernetes-groups bp-deployers";
        let unknown =
            AccessEntry::Unknown { action: "eks:DescribeAccessEntry", reason: "AccessDenied: no".into() };
        for (mode, entry, words) in [
            ("API", AccessEntry::Missing, "no access entry exists for"),
            (
                "API_AND_CONFIG_MAP",
                AccessEntry::Missing,
                "the ConfigMap kube-system/aws-auth, which is read too",
            ),
            ("CONFIG_MAP", AccessEntry::NotRead, "authenticationMode=API_AND_CONFIG_MAP"),
            ("API", AccessEntry::Present { groups: vec![] }, "aws eks delete-access-entry"),
            ("API", unknown, "eks:DescribeAccessEntry failed (AccessDenied: no)"),
        ] {
            let said = said(mode, entry);
            assert!(said.contains(words) && said.contains(create), "{said}");
        }
        assert!(!said("API", AccessEntry::Missing).contains("aws-auth"));
    }
}
