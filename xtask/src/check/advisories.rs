//! Check: no package of the graph has an advisory of the committed snapshot of the RustSec database.
//!
//! `cargo deny check advisories` reads the newest database. The snapshot is for builds that cannot fetch it; its date is
//! printed, because it does not contain what was found later.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use semver::{Version, VersionReq};
use serde::Deserialize;

use super::{finding::Finding, workspace::Workspace};
use crate::{command, report};

const SNAPSHOT: &str = "xtask/advisories.txt";

/// The advisories that deny.toml accepts.
#[derive(Deserialize)]
struct Policy {
    advisories: Accepted,
}

#[derive(Deserialize)]
struct Accepted {
    #[serde(default)]
    ignore: Vec<Exception>,
}

#[derive(Deserialize)]
struct Exception {
    id: String,
}

/// One line of the snapshot.
#[derive(Debug, PartialEq)]
struct Advisory<'a> {
    id: &'a str,
    package: &'a str,
    kind: &'a str,
    /// The versions that are not affected.
    fine: Vec<VersionReq>,
}

impl<'a> Advisory<'a> {
    fn read(line: &'a str) -> Result<Self> {
        let mut words = line.splitn(4, ' ');
        let mut next = || words.next().unwrap_or_default();
        let (id, package, kind, ranges) = (next(), next(), next(), next());
        let ranges = ranges.split(';').map(str::trim).filter(|range| !range.is_empty());
        let fine = ranges.map(|range| range.parse().with_context(|| format!("{id} has the range {range:?}")));
        if kind.is_empty() {
            bail!("{SNAPSHOT} has a line without id, package and kind: {line:?}");
        }
        Ok(Advisory { id, package, kind, fine: fine.collect::<Result<_>>()? })
    }

    fn affects(&self, version: &Version) -> bool {
        // As RustSec compares: a pre-release is as its release would be.
        let release = Version::new(version.major, version.minor, version.patch);
        !self.fine.iter().any(|range| range.matches(version) || range.matches(&release))
    }
}

pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let policy: Policy = toml::from_str(&fs::read_to_string(workspace.path("deny.toml"))?)?;
    let snapshot = fs::read_to_string(workspace.path(SNAPSHOT)).context("cannot read the snapshot")?;
    let mut packages: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in workspace.packages().iter().filter(|package| package.source.is_some()) {
        packages.entry(&package.name).or_default().push(&package.version);
    }
    let lines: Vec<&str> = snapshot.lines().filter(|line| !line.starts_with('#')).collect();
    let header = snapshot.lines().next().unwrap_or_default().trim_start_matches("# ");
    let mut findings = vec![Finding::warning(format!("{} advisories: {header}", lines.len()))];
    let later = snapshot.lines().find_map(|line| line.strip_prefix("# Looked up ")?.split_once(": "));
    if let Some((when, packages)) = later {
        let count = packages.split(", ").count();
        findings.push(Finding::warning(format!("later ones: {count} packages, looked up {when}")));
    }
    for line in lines {
        let advisory = Advisory::read(line)?;
        for version in packages.get(advisory.package).into_iter().flatten() {
            let parsed = version.parse().with_context(|| format!("{} {version}", advisory.package))?;
            let is_accepted = policy.advisories.ignore.iter().any(|exception| exception.id == advisory.id);
            if advisory.affects(&parsed) && !is_accepted {
                let Advisory { id, package, kind, .. } = &advisory;
                findings
                    .push(Finding::failure(format!("{package} {version} has the advisory {id} ({kind})")));
            }
        }
    }
    Ok(findings)
}

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Clone of <https://github.com/RustSec/advisory-db>
    database: PathBuf,
}

#[derive(Deserialize)]
struct Document {
    advisory: Head,
    #[serde(default)]
    versions: Versions,
}

#[derive(Deserialize)]
struct Head {
    id: String,
    package: String,
    informational: Option<String>,
    withdrawn: Option<String>,
}

#[derive(Default, Deserialize)]
struct Versions {
    #[serde(default)]
    patched: Vec<String>,
    #[serde(default)]
    unaffected: Vec<String>,
}

/// Writes the snapshot from a clone of the database.
pub(crate) fn write(arguments: &Arguments) -> Result<bool> {
    let git =
        |args: &[&str]| command::output(Command::new("git").arg("-C").arg(&arguments.database).args(args));
    let at = git(&["log", "-1", "--format=commit %H of %cs"])?;
    let mut lines = Vec::new();
    for file in git(&["ls-tree", "-r", "--name-only", "HEAD", "crates"])?.lines() {
        if Path::new(file).extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = git(&["show", &format!("HEAD:{file}")])?;
        let (_, front) =
            text.split_once("```toml\n").with_context(|| format!("{file} has no front matter"))?;
        let (front, _) = front.split_once("\n```").with_context(|| format!("{file} has no front matter"))?;
        let Document { advisory, versions } = toml::from_str(front).with_context(|| file.to_owned())?;
        if advisory.withdrawn.is_some() {
            continue;
        }
        let kind = advisory.informational.unwrap_or_else(|| "vulnerability".to_owned());
        let fine = [versions.patched, versions.unaffected].concat().join("; ");
        lines.push(format!("{} {} {kind} {fine}", advisory.id, advisory.package).trim_end().to_owned());
    }
    lines.sort();
    let head = format!(
        "# RustSec advisory database, {}, without withdrawn ones\n\
         # Written by `cargo xtask advisories`: id, package, kind, and the ranges of versions that are not affected.\n",
        at.trim()
    );
    fs::write(command::root().join(SNAPSHOT), head + &lines.join("\n") + "\n")?;
    report::line(format_args!("{SNAPSHOT}: {} advisories, {}", lines.len(), at.trim()));
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_outside_of_the_ranges_is_affected() {
        let line = "RUSTSEC-2020-0071 time vulnerability >= 0.2.23; =0.2.0; <0.1.0";
        let advisory = Advisory::read(line).unwrap();
        for (version, affected) in
            [("0.2.22", true), ("0.2.23", false), ("0.2.0", false), ("0.3.0", false), ("0.1.40", true)]
        {
            assert_eq!(advisory.affects(&version.parse().unwrap()), affected, "{version}");
        }
        let never = Advisory::read("RUSTSEC-2020-0001 x unmaintained").unwrap();
        assert!(never.affects(&Version::new(9, 0, 0)));
        assert!(Advisory::read("RUSTSEC-2020-0001 x").is_err());
        assert!(Advisory::read("RUSTSEC-2020-0001 x unsound soon").is_err());
    }
}
