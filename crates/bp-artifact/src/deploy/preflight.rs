//! Preflight reports: what a deployment would change, and whether its dependencies exist.

use std::fmt;

use futures_core::future::BoxFuture;
use serde::Serialize;

pub use super::finding::{Finding, FindingState};
use super::{Cause, Change, RollbackCheck, TargetId};
use crate::{
    error::chain,
    exit::ExitCode,
    resolve::{Availability, ResolveError, Retention, Storage},
};

/// The finding about an image, from what its registry answered: whether it can be pulled, now and after the registry's
/// retention rules were applied. What the registry did not answer is unknown.
pub fn about_image(subject: impl Into<String>, found: Result<Availability, ResolveError>) -> Finding {
    let subject = subject.into();
    let Availability { storage, retention } = match found {
        Ok(found) => found,
        Err(error) if error.is_not_found() => {
            let message = format!("{}; push or copy it there again", chain(&error));
            return Finding::new(subject, FindingState::Missing, message).cause(Cause::ImageNotFound);
        }
        Err(error) => return Finding::new(subject, FindingState::Unknown, chain(&error)),
    };
    let lost =
        |message: String| Finding::new(&subject, FindingState::Invalid, message).cause(Cause::ImageNotFound);
    let rule = |rule: Option<i32>| rule.map_or_else(|| "a rule".to_owned(), |rule| format!("rule {rule}"));
    let of_policy = "of the repository's lifecycle policy selects it";
    let remedy = "change the rule, or tag the image so that no rule selects it";
    match (storage, retention) {
        (Storage::Archived, _) => {
            lost("is archived and cannot be pulled; restore it with UpdateImageStorageClass".to_owned())
        }
        (Storage::Activating, _) => {
            lost("is being restored from the archive and cannot be pulled yet; retry later".to_owned())
        }
        (_, Retention::Expires { rule: priority }) => {
            lost(format!("{} {of_policy} for deletion; {remedy}", rule(priority)))
        }
        (_, Retention::Archives { rule: priority }) => {
            lost(format!("{} {of_policy} for the archive; {remedy}", rule(priority)))
        }
        (Storage::Unknown { reason }, _) => Finding::new(subject, FindingState::Unknown, reason),
        (Storage::Active, Retention::Unknown { reason }) => {
            let message = format!("exists; whether a lifecycle rule selects it is unknown: {reason}");
            Finding::new(subject, FindingState::Unknown, message)
        }
        (Storage::Active, Retention::NotChecked) => {
            Finding::new(subject, FindingState::Present, "retention rules are not checked")
        }
        (Storage::Active, Retention::Kept) => Finding::new(subject, FindingState::Present, ""),
    }
}

/// What a deployment would change, and whether its dependencies exist. A preflight is read-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Preflight {
    /// The target.
    pub target: TargetId,
    /// What the new revision would change. Empty if nothing.
    pub changes: Vec<Change>,
    /// The findings.
    pub findings: Vec<Finding>,
    /// The secrets outside the platform that the new revision refers to, to be checked by a caller that can read them.
    pub secrets: Vec<SecretReference>,
    /// Whether the revision that a failure would return to can still run. `None` when it is not checked, because
    /// nothing would be changed, or the target has no such check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback: Option<RollbackCheck>,
}

impl Preflight {
    /// Creates a report for `target`.
    pub fn new(target: TargetId, findings: Vec<Finding>) -> Self {
        Preflight { target, changes: Vec::new(), findings, secrets: Vec::new(), rollback: None }
    }

    /// What the new revision would change.
    pub fn changes(mut self, changes: Vec<Change>) -> Self {
        self.changes = changes;
        self
    }

    /// Sets the secrets that it refers to.
    pub fn secrets(mut self, secrets: Vec<SecretReference>) -> Self {
        self.secrets = secrets;
        self
    }

    /// Sets the check of the rollback revision.
    pub fn rollback(mut self, check: Option<RollbackCheck>) -> Self {
        self.rollback = check;
        self
    }

    /// Whether there is no finding that the deployment would fail with, or would be refused for. A failed lookup is not
    /// such a finding.
    pub fn is_ready(&self) -> bool {
        !self.findings.iter().any(|finding| finding.state.is_fatal())
            && !self.rollback.as_ref().is_some_and(RollbackCheck::is_refused)
    }
}

impl From<&Preflight> for ExitCode {
    fn from(found: &Preflight) -> Self {
        if found.is_ready() { ExitCode::Done } else { ExitCode::Refused }
    }
}

impl fmt::Display for Preflight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_ready() { "can be deployed" } else { "would fail" };
        write!(f, "{}: {verdict}", self.target)?;
        self.changes.iter().try_for_each(|change| write!(f, "\n  {change}"))?;
        self.findings.iter().try_for_each(|finding| write!(f, "\n  {finding}"))?;
        let Some(rollback) = &self.rollback else { return Ok(()) };
        rollback.to_string().lines().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

/// A secret that a container refers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SecretReference {
    /// The container.
    pub container: String,
    /// The environment variable, the option of the log driver, or
    /// [the credentials of the registry](Self::REGISTRY_CREDENTIALS).
    pub name: String,
    /// The reference: an ARN or a parameter's name, with key, stage and version as ECS writes them. Of credentials of a
    /// registry an ARN, or a secret's name.
    pub value_from: String,
}

impl SecretReference {
    /// The name of the secret with which the image is pulled: `repositoryCredentials` of an ECS container.
    pub const REGISTRY_CREDENTIALS: &'static str = "repositoryCredentials.credentialsParameter";

    /// A reference of `container` to the secret `value_from`, read as `name`.
    pub fn new(container: &str, name: &str, value_from: &str) -> Self {
        let (container, name, value_from) = (container.into(), name.into(), value_from.into());
        SecretReference { container, name, value_from }
    }
}

impl fmt::Display for SecretReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "secret {} of {}: {}", self.name, self.container, self.value_from)
    }
}

/// Checks whether secrets that containers refer to exist, without reading their values. Implemented by a caller that has
/// clients for the stores.
pub trait CheckSecrets: Send + Sync {
    /// One finding for each of `secrets`, in their order. A failed lookup is a finding.
    ///
    /// # Cancel safety
    /// Reads only.
    fn check<'a>(&'a self, secrets: &'a [SecretReference]) -> BoxFuture<'a, Vec<Finding>>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::Cause;

    #[test]
    fn only_fatal_findings_make_a_deployment_not_ready() {
        for (state, code) in [
            (FindingState::Present, ExitCode::Done),
            (FindingState::Warning, ExitCode::Done),
            (FindingState::Unknown, ExitCode::Done),
            (FindingState::Missing, ExitCode::Refused),
            (FindingState::Invalid, ExitCode::Refused),
            (FindingState::Denied, ExitCode::Refused),
        ] {
            let finding = Finding::new("secret db", state, "");
            assert_eq!(ExitCode::from(&Preflight::new(TargetId::new("t"), vec![finding])), code, "{state:?}");
        }
    }

    #[test]
    fn a_refused_rollback_revision_makes_a_deployment_not_ready() {
        let missing = Finding::new("image web", FindingState::Missing, "push it again");
        let check = RollbackCheck::new(crate::deploy::Revision::new("web:41", "web"), vec![missing]);
        let found = Preflight::new(TargetId::new("ecs/a/b"), Vec::new()).rollback(Some(check.clone()));
        assert!(!found.is_ready());
        assert_eq!(
            found.to_string(),
            "ecs/a/b: would fail\n  rollback revision web:41: cannot run\n    MISSING: image web: push it again"
        );
        assert_eq!(serde_json::to_value(&found).unwrap()["rollback"]["revision"]["id"], "web:41");
        assert!(found.rollback(Some(check.accepted(true))).is_ready());
    }

    #[test]
    fn displays_changes_before_findings() {
        let finding =
            Finding::new("secret db", FindingState::Missing, "create it").cause(Cause::SecretMissing);
        let change = Change::new("image", None, Some("b".into()));
        let found = Preflight::new(TargetId::new("eks/a/b"), vec![finding]).changes(vec![change]);
        assert_eq!(found.to_string(), "eks/a/b: would fail\n  + image: b\n  MISSING: secret db: create it");
        assert_eq!(serde_json::to_value(&found).unwrap()["findings"][0]["cause"], "secret-missing");
    }
}
