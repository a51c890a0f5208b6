//! The official conformance suite of the distribution specification.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};

use super::{
    super::{test_run::TestRun, tools::CONFORMANCE},
    servers::{CURRENT, DEBIAN, DEBIAN_TOO, FERRO_OCI, Registry},
};
use crate::command;

/// The number of tests that a registry is known to fail, for the deviations recorded with the probes. The sandbox fails
/// none.
const KNOWN: [(&str, usize); 3] = [(DEBIAN, 6), (CURRENT, 0), (FERRO_OCI, 0)];

pub(super) fn run(test_run: &mut TestRun, registries: &[Registry]) -> Result<()> {
    let TestRun { tools, scratch, table, .. } = test_run;
    for registry in registries.iter().filter(|registry| registry.name != DEBIAN_TOO) {
        table.scenario(registry.name, "the official conformance suite", || {
            let home = scratch.join(format!("conformance-{}", registry.name.replace(' ', "-")));
            fs::create_dir_all(&home)?;
            let mut suite = tools.command(CONFORMANCE)?;
            suite
                .current_dir(&home)
                .env("OCI_ROOT_URL", format!("http://{}", registry.address))
                .envs(SETTINGS);
            let ended = command::ended_within(Duration::from_secs(300), &mut suite)?;
            fs::write(home.join("output.txt"), &ended.stdout)?;
            let [passed, failed, _, skipped] = summary(&ended.stdout).with_context(|| {
                format!("cannot parse the output of the suite: {}", command::tail(&ended.stdout, 5))
            })?;
            let known = KNOWN.iter().find(|(name, _)| *name == registry.name).map_or(0, |(_, known)| *known);
            ensure!(
                failed == known,
                "{passed} passed, {failed} failed instead of {known}: see {}",
                home.display()
            );
            Ok(format!("{passed} passed, {failed} failed, {skipped} skipped"))
        });
    }
    Ok(())
}

const SETTINGS: [(&str, &str); 7] = [
    ("OCI_NAMESPACE", "conformance/one"),
    ("OCI_CROSSMOUNT_NAMESPACE", "conformance/two"),
    ("OCI_AUTOMATIC_CROSSMOUNT", "0"),
    ("OCI_TEST_PULL", "1"),
    ("OCI_TEST_PUSH", "1"),
    ("OCI_TEST_CONTENT_DISCOVERY", "1"),
    ("OCI_TEST_CONTENT_MANAGEMENT", "1"),
];

/// The four numbers of `SUCCESS! -- 64 Passed | 0 Failed | 0 Pending | 4 Skipped`, between ANSI colour codes.
fn summary(output: &str) -> Option<[usize; 4]> {
    let line = output.lines().rfind(|line| line.contains(" Passed") && line.contains(" Skipped"))?;
    let number = |word: &str| -> Option<usize> {
        let before = line[..line.find(word)?].trim_end();
        before.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    Some([number("Passed")?, number("Failed")?, number("Pending")?, number("Skipped")?])
}

#[cfg(test)]
mod tests {
    use super::summary;

    #[test]
    fn parses_a_coloured_summary() {
        let line = "\u{1b}[1mFAIL!\u{1b}[0m -- \u{1b}[1m61 Passed\u{1b}[0m | \u{1b}[91m\u{1b}[1m3 Failed\u{1b}[0m | \
                    \u{1b}[33m\u{1b}[1m0 Pending\u{1b}[0m | \u{1b}[36m\u{1b}[1m4 Skipped\u{1b}[0m";
        assert_eq!(summary(line), Some([61, 3, 0, 4]));
        assert_eq!(summary("PASS"), None);
    }
}
