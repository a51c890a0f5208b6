//! Check: direction of dependencies between workspace crates.

use anyhow::Result;

use super::{finding::Finding, workspace::Workspace};

/// Allowed dependencies on sibling crates. In addition, any crate may have `bp-sandbox` as a dev-dependency.
const ALLOWED: &[(&str, &[&str])] = &[
    ("bp-artifact", &[]),
    ("bp-secrets", &["bp-artifact"]),
    ("bp-sandbox", &[]),
    ("bp-promote", &["bp-artifact"]),
    ("bp-ecs", &["bp-artifact"]),
    ("bp-eks", &["bp-artifact"]),
    ("bp-cli", &["bp-delivery"]),
    ("bp-delivery", &["bp-artifact", "bp-promote", "bp-ecs", "bp-eks", "bp-secrets"]),
    (
        "bp-examples",
        &["bp-artifact", "bp-delivery", "bp-promote", "bp-ecs", "bp-eks", "bp-secrets", "bp-sandbox"],
    ),
    ("xtask", &[]),
];

pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let siblings: Vec<&str> = workspace.members().map(|member| member.name.as_str()).collect();
    let mut findings = Vec::new();
    for member in workspace.members() {
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == member.name) else {
            findings.push(Finding::failure(format!(
                "{} is not listed: add its allowed siblings in xtask/src/check/direction.rs",
                member.name
            )));
            continue;
        };
        for used in member.dependencies.iter().filter(|d| siblings.contains(&d.name.as_str())) {
            // A crate may also depend on itself, to enable its features in tests.
            // The tests of `bp` run the examples' pipelines and the guides in the examples' world.
            let runs_examples =
                member.name == "bp-cli" && ["bp-artifact", "bp-examples"].contains(&used.name.as_str());
            let for_tests = used.name == "bp-sandbox" || used.name == member.name || runs_examples;
            let is_test_dependency = for_tests && used.kind.as_deref() == Some("dev");
            if !is_test_dependency && !allowed.contains(&used.name.as_str()) {
                findings.push(Finding::failure(format!(
                    "{} must not depend on {} ({} dependency): sibling crates are combined in their callers",
                    member.name,
                    used.name,
                    used.kind.as_deref().unwrap_or("normal")
                )));
            }
        }
    }
    Ok(findings)
}
