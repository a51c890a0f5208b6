//! Comparison of the results with the list of expected failures.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde::Deserialize;

/// The number of differences in a report.
const SHOWN: usize = 40;

/// The tests that fail, with the reason: by the kind of the reason, service and test.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Expected {
    /// An operation that the test calls is not modelled: the reason is the operation.
    not_modelled: Tests,
    /// moto is wrong about AWS.
    fault_of_moto: Tests,
    /// The test is about the mock, not about AWS.
    mock_only: Tests,
    /// The sandbox differs from AWS, knowingly.
    sandbox: Tests,
}

/// Service -> test -> reason.
type Tests = BTreeMap<String, BTreeMap<String, String>>;

/// Why a test is expected to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason<'a> {
    NotModelled(&'a str),
    Other,
}

/// The expected failures of one service, by the test's id.
#[derive(Debug)]
pub(super) struct ExpectedFailures<'a> {
    reasons: BTreeMap<String, Reason<'a>>,
    /// Tests that are listed twice.
    repeated: Vec<String>,
}

impl Expected {
    /// The expected failures of one service.
    pub(super) fn of(&self, service: &str) -> ExpectedFailures<'_> {
        let other = [&self.fault_of_moto, &self.mock_only, &self.sandbox];
        let other = other.into_iter().filter_map(|tests| tests.get(service)).flatten();
        let other = other.map(|(test, _)| (test, Reason::Other));
        let not_modelled = self.not_modelled.get(service).into_iter().flatten();
        let not_modelled = not_modelled.map(|(test, operation)| (test, Reason::NotModelled(operation)));
        let mut failures = ExpectedFailures { reasons: BTreeMap::new(), repeated: Vec::new() };
        for (test, reason) in not_modelled.chain(other) {
            let test = format!("tests/test_{service}/{test}");
            if failures.reasons.insert(test.clone(), reason).is_some() {
                failures.repeated.push(test);
            }
        }
        failures
    }
}

/// The result of one test, as written by the plugin.
#[derive(Debug, Deserialize)]
pub(super) struct TestResult {
    test: String,
    outcome: Outcome,
    message: String,
    /// The operations that the sandbox rejected as not modelled.
    #[serde(default)]
    not_modelled: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Passed,
    Failed,
    Skipped,
}

/// Checks that exactly the expected tests fail; returns a summary.
pub(super) fn compare(results: &[TestResult], expected: &ExpectedFailures<'_>) -> Result<String> {
    let mut differences: Vec<String> =
        expected.repeated.iter().map(|test| format!("{test} is listed twice")).collect();
    let by_test: BTreeMap<&str, &TestResult> =
        results.iter().map(|result| (result.test.as_str(), result)).collect();
    for (test, reason) in &expected.reasons {
        match by_test.get(test.as_str()) {
            None => differences.push(format!("{test} is listed, but does not exist")),
            Some(result) => differences.extend(listed(result, *reason)),
        }
    }
    for result in results.iter().filter(|result| !expected.reasons.contains_key(&result.test)) {
        if result.outcome == Outcome::Failed {
            let because = match result.not_modelled.first() {
                Some(operation) => format!("{operation} is not modelled"),
                None => result.message.lines().next().unwrap_or_default().to_owned(),
            };
            differences.push(format!("{} fails: {because}", result.test));
        }
    }
    ensure!(
        differences.is_empty(),
        "{} differences from the list of expected failures:\n     {}{}",
        differences.len(),
        differences[..differences.len().min(SHOWN)].join("\n     "),
        if differences.len() > SHOWN { "\n     ..." } else { "" }
    );
    let count = |outcome| results.iter().filter(|result| result.outcome == outcome).count();
    Ok(format!(
        "{} passed, {} failed as listed, {} skipped",
        count(Outcome::Passed),
        count(Outcome::Failed),
        count(Outcome::Skipped)
    ))
}

/// Why a test that is listed should not be, or not with this reason.
fn listed(result: &TestResult, reason: Reason<'_>) -> Option<String> {
    let test = &result.test;
    match (result.outcome, reason) {
        (Outcome::Passed, _) => Some(format!("{test} passes: remove it from the list")),
        (Outcome::Skipped, _) => Some(format!("{test} is listed, but skipped")),
        (Outcome::Failed, Reason::NotModelled(operation)) => {
            let called = result.not_modelled.iter().any(|called| called == operation);
            (!called).then(|| format!("{test} fails, but not because {operation} is not modelled"))
        }
        (Outcome::Failed, Reason::Other) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(test: &str, outcome: Outcome, not_modelled: &[&str]) -> TestResult {
        TestResult {
            test: format!("tests/test_ssm/{test}"),
            outcome,
            message: "assert 1 == 2\nmore".to_owned(),
            not_modelled: not_modelled.iter().map(|operation| (*operation).to_owned()).collect(),
        }
    }

    fn expected() -> Expected {
        toml::from_str(
            "[not-modelled.ssm]\n\"a.py::documents\" = \"ssm:CreateDocument\"\n\
             [fault-of-moto.ssm]\n\"a.py::message\" = \"the service sends no message\"\n\
             [mock-only]\n[sandbox]\n",
        )
        .unwrap()
    }

    #[test]
    fn accepts_exactly_the_listed_failures() {
        let results = [
            result("a.py::documents", Outcome::Failed, &["ssm:CreateDocument"]),
            result("a.py::message", Outcome::Failed, &[]),
            result("a.py::put", Outcome::Passed, &[]),
            result("a.py::docker", Outcome::Skipped, &[]),
        ];
        let summary = compare(&results, &expected().of("ssm")).unwrap();
        assert_eq!(summary, "1 passed, 2 failed as listed, 1 skipped");
    }

    #[test]
    fn rejects_everything_else() {
        let results = [
            result("a.py::documents", Outcome::Failed, &["ssm:SendCommand"]),
            result("a.py::message", Outcome::Passed, &[]),
            result("a.py::put", Outcome::Failed, &[]),
            result("a.py::tags", Outcome::Failed, &["ssm:AddTagsToResource"]),
        ];
        let error = compare(&results, &expected().of("ssm")).unwrap_err().to_string();
        for difference in [
            "4 differences",
            "a.py::documents fails, but not because ssm:CreateDocument is not modelled",
            "a.py::message passes: remove it from the list",
            "a.py::put fails: assert 1 == 2\n",
            "a.py::tags fails: ssm:AddTagsToResource is not modelled",
        ] {
            assert!(error.contains(difference), "{difference:?} is not in {error}");
        }
        let error = compare(&[], &expected().of("ssm")).unwrap_err().to_string();
        assert!(error.contains("a.py::message is listed, but does not exist"), "{error}");
    }
}
