//! Each library alone: in the workspace's build, another member's features hide what a crate forgot to ask for.

use anyhow::Result;

use super::{finding::Finding, workspace::Workspace};
use crate::{command, report};

const KUBERNETES: &str = "1.34";

pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for member in workspace.members().filter(|member| member.library().is_some()) {
        let each = member.features.keys().filter(|feature| *feature != "default").map(Some);
        for feature in std::iter::once(None).chain(each) {
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
            cargo.args(feature.map(|feature| format!("--features={feature}")));
            let (built, took) = crate::clock::timed(|| command::output(&mut cargo));
            report::line(format_args!("     {} ({:.1} s)", command::show(&cargo), took.as_secs_f64()));
            if let Err(error) = built {
                findings.push(Finding::failure(format!("{error:#}")));
            }
        }
    }
    Ok(findings)
}
