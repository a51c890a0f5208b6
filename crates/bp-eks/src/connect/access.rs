//! Why a cluster does not know its caller: what EKS says of the access entry.

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

/// The group that the files of `docs/iam` bind their Roles to.
const GROUP: &str = "bp-deployers";
/// An explanation is good for so long: many requests are refused at once.
const FRESH: Duration = Duration::from_secs(60);
/// A refusal is not held back longer than this for its explanation.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether a cluster's access entries let an identity in, as EKS says; displayed with the command that mends it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Access {
    /// The cluster.
    pub cluster: String,
    /// Its region.
    pub region: String,
    /// Who is let in or not: of a session its role, with its path if an entry names that.
    pub principal: String,
    /// `API`, `API_AND_CONFIG_MAP` or `CONFIG_MAP`, when EKS says so.
    pub authentication_mode: Option<String>,
    /// What there is.
    pub entry: AccessEntry,
}

/// What EKS says of an access entry.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccessEntry {
    /// There is one.
    Present {
        /// Its Kubernetes groups, which Roles are bound to.
        groups: Vec<String>,
    },
    /// There is none, nor one for a role of that name with a path.
    Missing,
    /// The cluster does not read access entries, but the ConfigMap `kube-system/aws-auth` alone.
    NotRead,
    /// It could not be looked at.
    Unknown {
        /// The IAM action, such as `eks:DescribeAccessEntry`.
        action: &'static str,
        /// Why not, in AWS's words.
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
                write!(f, "no access entry names {principal}: {create}")?;
                if principal.contains(":role/") {
                    f.write_str(" (a role that has a path with its path)")?;
                }
                if self.authentication_mode.as_deref() == Some("API_AND_CONFIG_MAP") {
                    f.write_str("; nor does the ConfigMap kube-system/aws-auth, which is read as well")?;
                }
                Ok(())
            }
            AccessEntry::NotRead => write!(
                f,
                "the cluster's authentication mode is CONFIG_MAP, and kube-system/aws-auth does not name {principal}: have \
                 it added by somebody who is let in (eksctl create iamidentitymapping --cluster {cluster} --region \
                 {region} --arn {principal} --username bp --group {GROUP}), or turn access entries on (aws eks \
                 update-cluster-config --name {cluster} --region {region} --access-config \
                 authenticationMode=API_AND_CONFIG_MAP) and then {create}"
            ),
            AccessEntry::Present { .. } => write!(
                f,
                "{principal} has an access entry and is refused all the same: if the role was deleted and made anew since, \
                 the entry is of the old one ({}, then {create}); if not, see that the credentials are still good (aws \
                 sts get-caller-identity), that this machine's clock is right, and that the entry is older than a minute",
                entry("delete")
            ),
            AccessEntry::Unknown { action, reason } => write!(
                f,
                "whether {principal} has an access entry could not be looked at, as {action} failed ({reason}): allow \
                 that, or ask somebody who may ({}); if there is none, {create}",
                entry("describe")
            ),
        }
    }
}

impl EksApi {
    /// Whether the cluster's access entries let `caller` in.
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

    /// The entry of a principal; of a role also one that names it with the path that its sessions do not show.
    async fn entry(&self, principal: &mut String) -> AccessEntry {
        match self.entry_of(principal).await {
            AccessEntry::Missing if principal.contains(":role/") => {}
            found => return found,
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

/// Whether an entry's role, without its path, is this one.
fn is_same_role(entry: &str, principal: &str) -> bool {
    let split = |arn: &str| {
        let (account, path) = arn.split_once(":role/")?;
        let name = path.rsplit('/').next()?;
        Some((account.to_owned(), name.to_owned()))
    };
    split(entry).is_some() && split(entry) == split(principal)
}

/// Finds out who the credentials are.
pub(super) type Caller = Arc<dyn Fn() -> BoxFuture<'static, Option<String>> + Send + Sync>;

/// Explains the refusals of one client.
pub(super) struct Refusals {
    api: EksApi,
    caller: Caller,
    time: TimeSource,
    told: Mutex<Option<(Timestamp, Access)>>,
}

impl Refusals {
    pub(super) fn new(api: EksApi, caller: Caller, time: TimeSource) -> Self {
        Refusals { api, caller, time, told: Mutex::default() }
    }

    /// The refusal in the API's own form, with the explanation as its message; `None` when there is none.
    pub(super) async fn explain(&self) -> Option<kube::Error> {
        let mut told = self.told.lock().await;
        let now = self.time.now();
        let access = match told.as_ref().filter(|(at, _)| now < *at + FRESH) {
            Some((_, access)) => access.clone(),
            None => {
                let ask = async { self.api.access(&(self.caller)().await?).await.ok() };
                let access = tokio::time::timeout(PATIENCE, ask).await.ok()??;
                *told = Some((now, access.clone()));
                access
            }
        };
        let details = StatusDetails {
            name: access.principal.clone(),
            group: "eks.amazonaws.com".to_owned(),
            kind: KIND.to_owned(),
            uid: String::new(),
            causes: Vec::new(),
            retry_after_seconds: 0,
        };
        Some(kube::Error::Api(Box::new(Status {
            status: Some(StatusSummary::Failure),
            code: 401,
            message: access.to_string(),
            metadata: None,
            reason: "Unauthorized".to_owned(),
            details: Some(details),
        })))
    }
}

const KIND: &str = "AccessEntry";

/// What EKS says of a refusal, if it was asked.
pub(crate) fn explanation(status: &Status) -> Option<&str> {
    let is_ours = status.details.as_ref().is_some_and(|details| details.kind == KIND);
    is_ours.then_some(status.message.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_known_with_or_without_its_path() {
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
    fn each_state_says_what_mends_it() {
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
            ("API", AccessEntry::Missing, "no access entry names"),
            ("API_AND_CONFIG_MAP", AccessEntry::Missing, "nor does the ConfigMap kube-system/aws-auth"),
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
