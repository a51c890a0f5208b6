//! The direction of dependencies between our own crates.

use anyhow::Result;

use super::{finding::Finding, workspace::Workspace};

/// Which siblings a crate may build on. `bp-sandbox` is an oracle: besides this, any crate may test against it.
const MAY_USE: &[(&str, &[&str])] = &[
    ("bp-artifact", &[]),
    ("bp-secrets", &["bp-artifact"]),
    ("bp-sandbox", &[]),
    ("bp-promote", &["bp-artifact"]),
    ("bp-ecs", &["bp-artifact"]),
    ("bp-eks", &["bp-artifact"]),
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
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == member.name) else {
            findings.push(Finding::failure(format!(
                "{} is new: say in xtask/src/check/direction.rs which siblings it may use",
                member.name
            )));
            continue;
        };
        for used in member.dependencies.iter().filter(|d| siblings.contains(&d.name.as_str())) {
            // A crate may also name itself, to test with all its features on.
            let oracle = used.name == "bp-sandbox" || used.name == member.name;
            let tested_against = oracle && used.kind.as_deref() == Some("dev");
            if !tested_against && !allowed.contains(&used.name.as_str()) {
                findings.push(Finding::failure(format!(
                    "{} must not depend on {} ({} dependency): siblings meet through values, in the binaries",
                    member.name,
                    used.name,
                    used.kind.as_deref().unwrap_or("normal")
                )));
            }
        }
    }
    Ok(findings)
}
