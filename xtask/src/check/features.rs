//! Check: each library builds on its own, without features, and with each and all of them.
//!
//! In a workspace build, feature unification can hide a feature that a crate forgot to enable.

use anyhow::Result;

use super::{
    finding::Finding,
    workspace::{Package, Workspace},
};
use crate::{command, report};

const KUBERNETES: &str = "1.34";

/// Builds the published libraries without features.
pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    build(workspace.libraries(), |_| vec![Vec::new()])
}

/// Builds with each feature separately and with all of them, also the examples.
pub(super) fn check_each(workspace: &Workspace) -> Result<Vec<Finding>> {
    build(workspace.members(), |features| {
        let separately = features.iter().map(|feature| vec![*feature]);
        separately.chain([features.to_vec()]).collect()
    })
}

fn build<'w>(
    packages: impl Iterator<Item = &'w Package>,
    sets: impl Fn(&[&'w str]) -> Vec<Vec<&'w str>>,
) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for member in packages.filter(|package| package.library().is_some()) {
        let features = member.features.keys().map(String::as_str).filter(|feature| *feature != "default");
        let mut sets = sets(&features.collect::<Vec<_>>());
        sets.dedup();
        for features in sets {
            let mut cargo = command::cargo();
            cargo.args([
                "check",
                "--quiet",
                "--locked",
                "--lib",
                "--no-default-features",
                "--package",
                &member.name,
            ]);
            // Only binaries select the Kubernetes API version: a library built on its own needs this variable.
            cargo.env("K8S_OPENAPI_ENABLED_VERSION", KUBERNETES);
            cargo.args((!features.is_empty()).then(|| format!("--features={}", features.join(","))));
            let (built, took) = crate::clock::timed(|| command::output(&mut cargo));
            report::line(format_args!("     {} ({:.1} s)", command::show(&cargo), took.as_secs_f64()));
            if let Err(error) = built {
                findings.push(Finding::failure(format!("{error:#}")));
            }
        }
    }
    Ok(findings)
}
