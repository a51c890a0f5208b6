//! Check: crates that a build must not depend on.

use std::collections::BTreeSet;

use anyhow::Result;

use super::{finding::Finding, workspace::Workspace};
use crate::command;

/// A build and the crates it must not contain.
struct Rule {
    package: &'static str,
    features: &'static [&'static str],
    /// Crate names, or prefixes that end in `*`.
    without: &'static [&'static str],
    why: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        package: "bp-artifact",
        features: &["--no-default-features"],
        without: &["hyper*", "reqwest", "aws-*", "kube*", "k8s-openapi", "rustls*", "git2", "gix", "axum"],
        why: "without features, the shared types depend on no HTTP, SDK or git crate",
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
        why: "the sandbox must be independent of the clients that are tested against it",
    },
    Rule {
        package: "bp-secrets",
        features: &["--no-default-features"],
        without: &["aws-sdk-*"],
        why: "every SDK is optional",
    },
    Rule {
        package: "bp-promote",
        features: &["--no-default-features"],
        without: &["aws-sdk-*", "aws-config", "aws-smithy-*"],
        why: "a copy between registries does not require an AWS SDK",
    },
];

pub(super) fn check(_: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for rule in RULES {
        for found in built(rule)?.iter().filter(|name| rule.forbids(name)) {
            findings.push(Finding::failure(format!(
                "{} {} depends on {found}: {}; run `cargo tree -p {0} {1} -e normal -i {found}` for the path",
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
            Some(prefix) => name.starts_with(prefix),
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
