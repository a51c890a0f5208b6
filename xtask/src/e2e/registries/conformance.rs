//! The official conformance suite of the distribution specification.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use anyhow::{Context, Result, bail, ensure};

use super::{
    super::{test_run::TestRun, tools::CONFORMANCE},
    servers::{CURRENT, DEBIAN, DEBIAN_TOO, FERRO_OCI, Registry, SANDBOX},
};
use crate::command;

/// The released version of the specification, and the one that is being written.
const RELEASED: &str = "1.1";
const NEXT: &str = "dev";

/// A group of tests, the part of their names after the first slash, and why some of them fail.
type Failing = (&'static str, &'static str);

const NO_API: &str = "it has no referrers API";
const SHA512: &str = "it stores and reports blobs by sha256 only";
const DELETE: &str = "a deleted blob can still be read";
const URLS: &str = "it rejects layers with URLs by default";

/// The groups that a registry is known to fail at [`RELEASED`]. The sandbox fails none.
const KNOWN: [(&str, &[Failing]); 3] = [
    (
        DEBIAN,
        &[
            ("artifacts-with-subject", NO_API),
            ("empty", NO_API),
            ("index-with-subject", NO_API),
            ("missing-subject", NO_API),
            ("invalid-digest-format", "it responds with 500 instead of 400"),
            ("non-distributable-layers", URLS),
            ("sha256 blobs", "it accepts chunks out of order"),
            ("sha512", SHA512),
            ("sha512 blobs", SHA512),
        ],
    ),
    (
        CURRENT,
        &[
            ("artifacts-with-subject", NO_API),
            ("empty", NO_API),
            ("index-with-subject", NO_API),
            ("missing-subject", NO_API),
            ("non-distributable-layers", URLS),
            ("sha512", SHA512),
            ("sha512 blobs", SHA512),
        ],
    ),
    (
        FERRO_OCI,
        &[
            ("artifact", DELETE),
            ("artifact-index", DELETE),
            ("artifact-without-layers", DELETE),
            ("artifacts-with-subject", DELETE),
            ("index-with-subject", DELETE),
            ("missing-subject", DELETE),
            ("non-distributable-layers", "it requires the blobs of layers with URLs"),
            ("sha256 blobs", "it rejects chunks out of order with 400, and a deleted blob can still be read"),
            ("sha512", SHA512),
            ("sha512 blobs", SHA512),
        ],
    ),
];

/// The groups of [`NEXT`] that the sandbox fails.
const NOT_YET: &[Failing] = &[];

pub(super) fn run(test_run: &mut TestRun, registries: &[Registry]) -> Result<()> {
    for registry in registries.iter().filter(|registry| registry.name != DEBIAN_TOO) {
        let known =
            KNOWN.iter().find(|(name, _)| *name == registry.name).map_or(&[][..], |(_, known)| *known);
        conform(test_run, registry, RELEASED, known);
    }
    for registry in registries.iter().filter(|registry| registry.name == SANDBOX) {
        conform(test_run, registry, NEXT, NOT_YET);
    }
    Ok(())
}

/// Runs the suite of a version against a registry, and compares the groups that fail with the known ones.
fn conform(test_run: &mut TestRun, registry: &Registry, version: &str, known: &[Failing]) {
    let TestRun { tools, scratch, table, .. } = test_run;
    table.scenario(registry.name, &format!("the official conformance suite, {version}"), || {
        let home = scratch.join(format!("conformance-{version}-{}", registry.name.replace(' ', "-")));
        fs::create_dir_all(&home)?;
        let mut suite = tools.command(CONFORMANCE)?;
        let settings = [
            ("OCI_REGISTRY", registry.address.as_str()),
            ("OCI_TLS", "disabled"),
            ("OCI_VERSION", version),
            ("OCI_REPO1", "conformance/one"),
            ("OCI_REPO2", "conformance/two"),
            ("OCI_RESULTS_DIR", "results"),
        ];
        suite.current_dir(&home).envs(settings);
        let ended = command::ended_within(Duration::from_secs(300), &mut suite)?;
        fs::write(home.join("output.txt"), format!("{}\n{}", ended.stdout, ended.stderr))?;
        let cases = read(&home.join("results/junit.xml"))?;
        let count = |status: &str| cases.iter().filter(|case| case.status == status).count();
        ensure!(count("passed") > 0, "no test passed: see {}", home.display());
        let failed: Vec<&Case> = cases.iter().filter(|case| case.is_failed()).collect();
        let new = failed.iter().find(|case| !known.iter().any(|(group, _)| *group == case.group()));
        if let Some(case) = new {
            bail!("{} failed: see {}", case.name, home.display());
        }
        let fixed = known.iter().find(|(group, _)| !failed.iter().any(|case| case.group() == *group));
        if let Some((group, reason)) = fixed {
            bail!("the known deviation has changed: all tests of {group} pass, although {reason}");
        }
        let reasons: BTreeSet<&str> = known.iter().map(|(_, reason)| *reason).collect();
        let reasons: String = reasons.iter().map(|reason| format!("; known: {reason}")).collect();
        let (passed, skipped) = (count("passed"), count("skipped"));
        Ok(format!("{passed} passed, {} failed, {skipped} skipped{reasons}", failed.len()))
    });
}

/// A test of the suite: its name, and `passed`, `skipped`, `failure` or `error`.
#[derive(Debug, PartialEq, Eq)]
struct Case {
    name: String,
    status: String,
}

impl Case {
    fn is_failed(&self) -> bool {
        matches!(self.status.as_str(), "failure" | "error")
    }

    /// The group, the second part of the name.
    fn group(&self) -> &str {
        self.name.split('/').nth(1).unwrap_or(&self.name)
    }
}

fn read(report: &Path) -> Result<Vec<Case>> {
    let text = fs::read_to_string(report).with_context(|| format!("cannot read {}", report.display()))?;
    Ok(cases(&text))
}

/// The tests in a JUnit report.
fn cases(report: &str) -> Vec<Case> {
    let attribute = |element: &str, name: &str| {
        let (_, rest) = element.split_once(&format!(" {name}=\""))?;
        Some(rest.split_once('"')?.0.replace("&#34;", "\"").replace("&amp;", "&"))
    };
    let elements = report.split("<testcase").skip(1).filter_map(|rest| rest.split_once('>'));
    let case = |(element, _): (&str, &str)| {
        Some(Case { name: attribute(element, "name")?, status: attribute(element, "status")? })
    };
    elements.filter_map(case).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_tests_of_a_report() {
        let report = r#"<testsuites><testsuite name="all" tests="2">
            <testcase name="OCI/push &#34;a&#34;" classname="" time="0.1" status="passed"></testcase>
            <testcase name="OCI/tags" classname="" status="failure"><system-out>a &lt;testcase</system-out></testcase>
            </testsuite></testsuites>"#;
        let case = |name: &str, status: &str| Case { name: name.to_owned(), status: status.to_owned() };
        assert_eq!(cases(report), [case("OCI/push \"a\"", "passed"), case("OCI/tags", "failure")]);
        assert_eq!((cases(report)[1].group(), cases(report)[1].is_failed()), ("tags", true));
        assert!(cases("").is_empty());
    }
}
