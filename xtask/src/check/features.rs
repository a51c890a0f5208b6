//! Each library alone: in the workspace's build, another member's features hide what a crate forgot to ask for.

use anyhow::Result;

use super::{finding::Finding, workspace::Workspace};
use crate::{command, report};

const KUBERNETES: &str = "1.34";

/// Without features, and with all of them.
pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    build(workspace, |features| vec![Vec::new(), features.to_vec()])
}

/// With each feature alone too.
pub(super) fn check_each(workspace: &Workspace) -> Result<Vec<Finding>> {
    build(workspace, |features| features.iter().map(|feature| vec![*feature]).collect())
}

fn build<'w>(
    workspace: &'w Workspace,
    sets: impl Fn(&[&'w str]) -> Vec<Vec<&'w str>>,
) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for member in workspace.members().filter(|member| member.library().is_some()) {
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
            // The binary picks the version of the Kubernetes API, never a library: alone it needs to be told.
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
