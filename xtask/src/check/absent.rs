//! Crates that a given build must not contain.

use std::collections::BTreeSet;

use anyhow::Result;

use super::{finding::Finding, workspace::Workspace};
use crate::command;

/// A build, and what it must not pull in.
struct Rule {
    package: &'static str,
    features: &'static [&'static str],
    /// Names, or beginnings of names that end in `*`.
    without: &'static [&'static str],
    why: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        package: "bp-artifact",
        features: &["--no-default-features"],
        without: &["hyper*", "reqwest", "aws-*", "kube*", "k8s-openapi", "rustls*", "git2", "gix", "axum"],
        why: "without features the contract has no HTTP, SDK or git",
    },
    Rule {
        package: "bp-examples",
        features: &["--no-default-features"],
        without: &["bp-sandbox", "rcgen"],
        why: "a pipeline build does not compile the sandbox",
    },
    Rule {
        package: "bp-sandbox",
        features: &["--all-features"],
        without: &["aws-sdk-*", "aws-config", "kube*", "oci-client", "reqwest"],
        why: "an oracle does not build on the clients that it judges",
    },
    Rule {
        package: "bp-secrets",
        features: &["--no-default-features"],
        without: &["aws-sdk-*"],
        why: "every SDK is a feature",
    },
    Rule {
        package: "bp-promote",
        features: &["--no-default-features"],
        without: &["aws-sdk-*", "aws-config", "aws-smithy-*"],
        why: "a copy between registries needs no AWS SDK",
    },
];

pub(super) fn check(_: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for rule in RULES {
        for found in built(rule)?.iter().filter(|name| rule.forbids(name)) {
            findings.push(Finding::failure(format!(
                "{} {} pulls in {found}: {}; `cargo tree -p {0} {1} -e normal -i {found}` shows the way",
                rule.package,
                rule.features.join(" "),
                rule.why
            )));
        }
    }
    Ok(findings)
}

impl Rule {
    fn forbids(&self, name: &str) -> bool {
        self.without.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == *pattern,
        })
    }
}

/// The crates that are linked into a build, by name.
fn built(rule: &Rule) -> Result<BTreeSet<String>> {
    let tree = command::output(
        command::cargo()
            .args([
                "tree",
                "--locked",
                "--edges=normal",
                "--prefix=none",
                "--format={p}",
                "--package",
                rule.package,
            ])
            .args(rule.features),
    )?;
    Ok(tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
}
