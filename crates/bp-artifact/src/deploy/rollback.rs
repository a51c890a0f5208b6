//! Whether the revision that a failed deployment returns to can still run.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Revision, finding::Finding};

/// Whether the revision that a failed deployment returns to can still run: its definition, images and secrets, checked
/// before the first change.
///
/// A fatal finding refuses the deployment, unless it is accepted. What could not be looked up is shown, and refuses
/// nothing.
///
/// ```
/// use bp_artifact::deploy::{Revision, RollbackCheck, preflight::{Finding, FindingState}};
///
/// let image = Finding::new("image web:41 (web)", FindingState::Missing, "push it again");
/// let check = RollbackCheck::new(Revision::new("web:41", "web:41"), vec![image]);
/// assert!(check.is_refused() && !check.clone().accepted(true).is_refused());
/// assert_eq!(check.reasons(), "image web:41 (web): push it again");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RollbackCheck {
    /// The rollback revision. `None` when there is none, as for a first deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
    /// The findings.
    pub findings: Vec<Finding>,
    /// Whether the caller accepts fatal findings.
    #[serde(default)]
    pub accepted: bool,
}

impl RollbackCheck {
    /// The check of `revision`.
    pub fn new(revision: Revision, findings: Vec<Finding>) -> Self {
        RollbackCheck { revision: Some(revision), findings, accepted: false }
    }

    /// There is no revision to return to; `finding` states why.
    pub fn no_revision(finding: Finding) -> Self {
        RollbackCheck { revision: None, findings: vec![finding], accepted: false }
    }

    /// Sets whether the caller accepts fatal findings.
    pub fn accepted(mut self, yes: bool) -> Self {
        self.accepted = yes;
        self
    }

    /// Whether the deployment must not start: there is a fatal finding that is not accepted.
    pub fn is_refused(&self) -> bool {
        !self.accepted && self.fatal().next().is_some()
    }

    fn fatal(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.state.is_fatal())
    }

    /// The fatal findings, for an error message: each object with what is wrong and what to do.
    pub fn reasons(&self) -> String {
        let reasons: Vec<String> =
            self.fatal().map(|finding| format!("{}: {}", finding.subject, finding.message)).collect();
        reasons.join("; ")
    }

    /// The revision, and every finding that is not `ok`, on one line.
    pub fn summary(&self) -> String {
        let open: Vec<String> = self
            .findings
            .iter()
            .filter(|finding| !finding.state.is_present())
            .map(Finding::to_string)
            .collect();
        let open = if open.is_empty() { "ok".to_owned() } else { open.join("; ") };
        match &self.revision {
            Some(revision) => format!("rollback revision {}: {open}", revision.short_id()),
            None => open,
        }
    }
}

/// The verdict, and one line for each finding.
impl fmt::Display for RollbackCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match (self.is_refused(), self.fatal().next().is_some()) {
            (true, _) => "cannot run",
            (false, true) => "cannot run, which is accepted",
            (false, false) => "can run",
        };
        match &self.revision {
            Some(revision) => write!(f, "rollback revision {}: {verdict}", revision.short_id())?,
            None => f.write_str("rollback revision: none")?,
        }
        self.findings.iter().try_for_each(|finding| write!(f, "\n  {finding}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::preflight::FindingState;

    fn check(state: FindingState) -> RollbackCheck {
        let definition = Finding::new("task definition web:41", FindingState::Present, "");
        let image = Finding::new("image web (web)", state, "push it again");
        RollbackCheck::new(Revision::new("arn:x:task-definition/web:41", "web"), vec![definition, image])
    }

    #[test]
    fn only_a_fatal_finding_that_is_not_accepted_refuses() {
        for (state, refused) in [
            (FindingState::Present, false),
            (FindingState::Warning, false),
            (FindingState::Unknown, false),
            (FindingState::Missing, true),
            (FindingState::Invalid, true),
            (FindingState::Denied, true),
        ] {
            assert_eq!(check(state).is_refused(), refused, "{state:?}");
            assert!(!check(state).accepted(true).is_refused(), "{state:?}");
        }
    }

    #[test]
    fn shows_what_is_not_ok() {
        assert_eq!(check(FindingState::Present).summary(), "rollback revision web:41: ok");
        let missing = check(FindingState::Missing);
        assert_eq!(missing.summary(), "rollback revision web:41: MISSING: image web (web): push it again");
        assert_eq!(
            missing.accepted(true).to_string(),
            "rollback revision web:41: cannot run, which is accepted\n  ok: task definition web:41\n  \
             MISSING: image web (web): push it again"
        );
        let none =
            RollbackCheck::no_revision(Finding::new("rollback revision", FindingState::Warning, "none"));
        assert_eq!(none.summary(), "warning: rollback revision: none");
    }

    #[test]
    fn a_receipt_of_a_later_version_is_read() {
        let json = r#"{ "findings": [{ "subject": "x", "state": "haunted", "message": "" }], "more": 1 }"#;
        let read: RollbackCheck = serde_json::from_str(json).unwrap();
        assert_eq!(read.findings[0].state, FindingState::Unknown);
        let written = serde_json::to_value(check(FindingState::Missing)).unwrap();
        assert_eq!(written["findings"][1]["state"], "missing");
        assert_eq!(serde_json::from_value::<RollbackCheck>(written).unwrap(), check(FindingState::Missing));
    }
}
