//! The results of all checks of an environment: one table, one exit code, one document.

use std::{fmt, path::Path, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::CheckVerdict;
use crate::{
    deploy::{Change, GateName},
    document::{self, DocumentError, Schema},
    exit::ExitCode,
    parse::ParseError,
    text,
};

const KIND: &str = "bp.verification";
const MAJOR: u32 = 1;
/// The maximum length of a detail in the table, in characters.
const DETAIL: usize = 400;
/// The maximum width of the column with the targets; a longer target pushes its line to the right.
const TARGET: usize = 48;

/// What a check of an environment examines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CheckKind {
    /// The state of the service or workload: a deployment in progress or failed, too few tasks or pods.
    Rollout,
    /// The digests that run.
    Digest,
    /// The task definition or pod template against bp.toml and the artifact.
    Definition,
    /// Whether the image is in the environment's registry, and not archived.
    Image,
    /// Whether the secrets exist to which the containers refer.
    Secrets,
    /// Whether their JSON keys exist, for which values are read. Refines [`Secrets`](Self::Secrets).
    SecretKeys,
    /// The health of the targets in Elastic Load Balancing.
    Targets,
    /// The address of the load balancer or Ingress.
    Address,
    /// Whether the host name resolves.
    Dns,
    /// The TLS handshake with the host, and its certificate.
    Tls,
    /// An HTTP endpoint.
    Http,
    /// CloudWatch alarms.
    Alarms,
    /// The command of a gate.
    Command,
    /// The Kubernetes Job of a gate.
    Job,
    /// A check of a later version.
    #[serde(other)]
    Other,
}

impl CheckKind {
    /// The kinds that can be selected, in the order of the table.
    pub const ALL: [CheckKind; 14] = [
        CheckKind::Rollout,
        CheckKind::Digest,
        CheckKind::Definition,
        CheckKind::Image,
        CheckKind::Secrets,
        CheckKind::SecretKeys,
        CheckKind::Targets,
        CheckKind::Address,
        CheckKind::Dns,
        CheckKind::Tls,
        CheckKind::Http,
        CheckKind::Alarms,
        CheckKind::Command,
        CheckKind::Job,
    ];

    /// The name: `secret-keys`.
    pub fn as_str(self) -> &'static str {
        match self {
            CheckKind::Rollout => "rollout",
            CheckKind::Digest => "digest",
            CheckKind::Definition => "definition",
            CheckKind::Image => "image",
            CheckKind::Secrets => "secrets",
            CheckKind::SecretKeys => "secret-keys",
            CheckKind::Targets => "targets",
            CheckKind::Address => "address",
            CheckKind::Dns => "dns",
            CheckKind::Tls => "tls",
            CheckKind::Http => "http",
            CheckKind::Alarms => "alarms",
            CheckKind::Command => "command",
            CheckKind::Job => "job",
            CheckKind::Other => "other",
        }
    }
}

impl fmt::Display for CheckKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for CheckKind {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let known = CheckKind::ALL.iter().find(|kind| kind.as_str() == text).copied();
        known.ok_or_else(|| {
            let all = CheckKind::ALL.map(CheckKind::as_str).join(", ");
            ParseError::new("a check", text, format!("expected one of {all}"))
        })
    }
}

/// The result of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum CheckResult {
    /// As it has to be.
    Pass,
    /// Not as it has to be.
    Fail,
    /// Could not be observed: neither passed nor failed. Also a result of a later version.
    #[serde(other)]
    Unknown,
}

impl CheckResult {
    /// The result of both: a failure wins over what could not be observed, and that over success.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (CheckResult::Fail, _) | (_, CheckResult::Fail) => CheckResult::Fail,
            (CheckResult::Unknown, _) | (_, CheckResult::Unknown) => CheckResult::Unknown,
            (CheckResult::Pass, CheckResult::Pass) => CheckResult::Pass,
        }
    }
}

impl fmt::Display for CheckResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            CheckResult::Pass => "pass",
            CheckResult::Unknown => "unknown",
            CheckResult::Fail => "FAIL",
        })
    }
}

/// One line of a [`Verification`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Verified {
    /// What was checked: `ecs/prod/web`, a host, an image, a URL without its query.
    pub target: String,
    /// The check.
    pub check: CheckKind,
    /// The gate of bp.toml that defines the check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateName>,
    /// The result.
    pub result: CheckResult,
    /// What was found, on one line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// The differences from the desired state: `from` is desired, `to` was found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
}

impl Verified {
    /// A line of the table.
    pub fn new(
        target: impl fmt::Display,
        check: CheckKind,
        result: CheckResult,
        detail: impl AsRef<str>,
    ) -> Self {
        Verified {
            target: text::single_line(&target.to_string()),
            check,
            gate: None,
            result,
            detail: text::single_line(detail.as_ref()),
            changes: Vec::new(),
        }
    }

    /// The line of a [`Check`](super::Check) of this kind.
    pub fn of(target: impl fmt::Display, check: CheckKind, verdict: &CheckVerdict) -> Self {
        let (result, detail) = match verdict {
            CheckVerdict::Passed => (CheckResult::Pass, ""),
            CheckVerdict::Failed { reason } => (CheckResult::Fail, reason.as_str()),
            CheckVerdict::Unobserved { reason } => (CheckResult::Unknown, reason.as_str()),
        };
        Verified::new(target, check, result, detail)
    }

    /// Sets the gate that defines the check.
    pub fn gate(mut self, gate: Option<GateName>) -> Self {
        self.gate = gate;
        self
    }

    /// Sets the differences from the desired state.
    pub fn changes(mut self, changes: Vec<Change>) -> Self {
        self.changes = changes;
        self
    }

    /// The name of the check, with its gate.
    fn name(&self) -> String {
        match &self.gate {
            Some(gate) => format!("{} ({gate})", self.check),
            None => self.check.to_string(),
        }
    }
}

/// The results of all checks of an environment. Displays as a table with one line for each.
///
/// ```
/// use bp_artifact::{ExitCode, check::{CheckKind, CheckResult, Verification, Verified}};
///
/// let row = Verified::new("ecs/prod/web", CheckKind::Rollout, CheckResult::Unknown, "access is denied");
/// let found = Verification::new("prod", "2026-01-01T00:00:00Z".parse()?, vec![row]);
/// assert_eq!(found.result, CheckResult::Unknown);
/// assert_eq!(ExitCode::from(&found), ExitCode::Unavailable);
/// # Ok::<(), jiff::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Verification {
    schema: Schema,
    /// The environment.
    pub environment: String,
    /// When the checks ended.
    #[cfg_attr(feature = "schema", schemars(with = "String", extend("format" = "date-time")))]
    pub at: Timestamp,
    /// `fail` if a check failed; otherwise `unknown` if one could not be observed.
    pub result: CheckResult,
    /// The checks.
    pub checks: Vec<Verified>,
}

impl Verification {
    /// The results of `checks`. Without a check, the result is unknown.
    pub fn new(environment: impl Into<String>, at: Timestamp, checks: Vec<Verified>) -> Self {
        let result = checks.iter().map(|check| check.result).reduce(CheckResult::and);
        let result = result.unwrap_or(CheckResult::Unknown);
        let schema = Schema::new(KIND, MAJOR);
        Verification { schema, environment: environment.into(), at, result, checks }
    }

    /// Whether the results are the same; the time, and details that count, do not matter.
    pub fn is_same(&self, other: &Verification) -> bool {
        let key = |check: &Verified| {
            (
                check.target.clone(),
                check.name(),
                check.result,
                (check.result != CheckResult::Pass).then(|| check.detail.clone()),
            )
        };
        self.checks.iter().map(key).eq(other.checks.iter().map(key))
    }

    /// The table, line by line: the names of the columns, one line for each check, and the sum.
    pub fn lines(&self) -> Vec<String> {
        let width = |texts: &mut dyn Iterator<Item = usize>, most: usize| texts.max().unwrap_or(0).min(most);
        let names: Vec<String> = self.checks.iter().map(Verified::name).collect();
        let targets = self.checks.iter().map(|check| check.target.chars().count());
        let target = width(&mut targets.chain([6]), TARGET);
        let name = width(&mut names.iter().map(|name| name.chars().count()).chain([5]), TARGET);
        let line = |a: &str, b: &str, c: &str, d: &str| {
            format!("{a:<target$}  {b:<name$}  {c:<7}  {d}").trim_end().to_owned()
        };
        let row = |(check, name): (&Verified, &String)| {
            let detail = text::truncate(&check.detail, DETAIL);
            line(&check.target, name, &check.result.to_string(), &detail)
        };
        let head = line("TARGET", "CHECK", "RESULT", "DETAIL");
        let rows = self.checks.iter().zip(&names).map(row);
        [head].into_iter().chain(rows).chain([self.summary()]).collect()
    }

    /// `prod: 12 checks: 10 passed, 1 failed, 1 unknown`
    fn summary(&self) -> String {
        let count = |result| self.checks.iter().filter(|check| check.result == result).count();
        let all = self.checks.len();
        let word = if all == 1 { "check" } else { "checks" };
        format!(
            "{}: {all} {word}: {} passed, {} failed, {} unknown",
            self.environment,
            count(CheckResult::Pass),
            count(CheckResult::Fail),
            count(CheckResult::Unknown)
        )
    }

    /// Reads a report.
    ///
    /// # Errors
    /// When the file cannot be read, or is not such a report.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, DocumentError> {
        let path = path.as_ref();
        document::from_versioned_json(&document::read(path)?, &path.display().to_string(), KIND, MAJOR)
    }

    /// Writes the report atomically.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), DocumentError> {
        document::write(path.as_ref(), document::to_json(self).as_bytes())
    }
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("\n"))
    }
}

/// 0 if all checks passed, 6 if one failed, 7 if none failed and one could not be observed.
impl From<&Verification> for ExitCode {
    fn from(verification: &Verification) -> Self {
        match verification.result {
            CheckResult::Pass => ExitCode::Done,
            CheckResult::Fail => ExitCode::Drift,
            CheckResult::Unknown => ExitCode::Unavailable,
        }
    }
}

/// The JSON Schema of the report, generated from the types.
#[cfg(feature = "schema")]
pub fn verification_schema() -> serde_json::Value {
    schemars::schema_for!(Verification).to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(target: &str, check: CheckKind, result: CheckResult, detail: &str) -> Verified {
        Verified::new(target, check, result, detail)
    }

    fn of(checks: Vec<Verified>) -> Verification {
        Verification::new("prod", Timestamp::UNIX_EPOCH, checks)
    }

    #[test]
    fn a_failure_wins_over_an_unknown_result_and_that_over_success() {
        use CheckResult::{Fail, Pass, Unknown};
        for (results, code) in [
            (&[Pass, Pass][..], 0),
            (&[Pass, Unknown], 7),
            (&[Unknown, Fail, Pass], 6),
            // Nothing was checked.
            (&[], 7),
        ] {
            let rows = results.iter().map(|result| row("a", CheckKind::Http, *result, "")).collect();
            assert_eq!(ExitCode::from(&of(rows)).code(), code, "{results:?}");
        }
    }

    #[test]
    fn displays_one_line_for_each_check_whatever_its_detail_contains() {
        let long = format!("first\nFAKE  rollout  pass\u{1b}[2J {}", "x".repeat(1000));
        let gate = row("GET https://shop.example.com/", CheckKind::Http, CheckResult::Fail, &long)
            .gate("smoke".parse().ok());
        let found = of(vec![row("ecs/prod/web\nx", CheckKind::Rollout, CheckResult::Pass, "2 tasks"), gate]);
        let lines = found.lines();
        assert_eq!(
            lines[..2],
            [
                "TARGET                         CHECK         RESULT   DETAIL",
                "ecs/prod/web x                 rollout       pass     2 tasks",
            ],
            "{found}"
        );
        assert!(lines[2].starts_with(
            "GET https://shop.example.com/  http (smoke)  FAIL     first FAKE  rollout  pass x"
        ));
        assert!(lines[2].contains("more characters)") && lines[2].chars().count() < 500, "{}", lines[2]);
        assert_eq!(lines[3], "prod: 2 checks: 1 passed, 1 failed, 0 unknown");
        assert_eq!(lines.len(), found.to_string().lines().count());
    }

    #[test]
    fn a_report_is_read_back_and_one_of_a_later_version_too() {
        let change = Change::new("image", Some("a".into()), Some("b".into()));
        let row = row("eks/prod/shop/deployment/web", CheckKind::Definition, CheckResult::Fail, "image")
            .changes(vec![change]);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report.json");
        let found = of(vec![row]);
        found.write(&path).unwrap();
        assert_eq!(Verification::read(&path).unwrap(), found);
        let text = std::fs::read_to_string(&path).unwrap();
        let later = text.replace("\"definition\"", "\"certificate\"").replace("\"fail\"", "\"skipped\"");
        std::fs::write(&path, later.replace("verification/1.0", "verification/1.7")).unwrap();
        let later = Verification::read(&path).unwrap();
        assert_eq!((later.checks[0].check, later.result), (CheckKind::Other, CheckResult::Unknown));
        std::fs::write(&path, text.replace("verification/1.0", "verification/2.0")).unwrap();
        assert!(Verification::read(&path).is_err());
    }

    #[test]
    fn only_a_changed_result_or_reason_is_a_change() {
        use CheckResult::{Fail, Pass};
        let one = |result, detail| of(vec![row("a", CheckKind::Tls, result, detail)]);
        assert!(one(Pass, "1 of 1").is_same(&one(Pass, "2 of 2")));
        assert!(!one(Pass, "").is_same(&one(Fail, "")));
        assert!(!one(Fail, "expired").is_same(&one(Fail, "unknown issuer")));
    }

    #[test]
    fn kinds_have_the_names_of_their_serialized_form() {
        for kind in CheckKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        let error = "tsl".parse::<CheckKind>().unwrap_err().to_string();
        assert!(error.contains("expected one of rollout, digest"), "{error}");
    }
}
