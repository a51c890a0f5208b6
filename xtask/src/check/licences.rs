//! Check: licences, banned crates and sources of deny.toml, with cargo alone.
//!
//! Advisories require a database: use `cargo deny check advisories`.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, Result};
use serde::Deserialize;
use spdx::{Expression, Licensee, ParseMode};

use super::{
    finding::Finding,
    workspace::{Package, Workspace},
};
use crate::command;

#[derive(Deserialize)]
struct Policy {
    licenses: Licences,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Licences {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let policy = fs::read_to_string(workspace.path("deny.toml")).context("cannot read deny.toml")?;
    let policy: Policy = toml::from_str(&policy).context("cannot parse deny.toml")?;
    let allowed: Vec<Licensee> = policy
        .licenses
        .allow
        .iter()
        .map(|licence| {
            Licensee::parse(licence)
                .with_context(|| format!("deny.toml allows {licence:?}, which is not a valid licence"))
        })
        .collect::<Result<_>>()?;

    let mut findings = Vec::new();
    for package in workspace.packages() {
        findings.extend(licence(package, &allowed));
        findings.extend(source(package, &policy.sources));
    }
    let built = built()?;
    for ban in policy.bans.deny.iter().filter(|ban| built.contains(&ban.name)) {
        findings.push(Finding::failure(format!(
            "{} is banned ({}); run `cargo tree --workspace --all-features --target=all -i {0}` for the path",
            ban.name, ban.reason
        )));
    }
    Ok(findings)
}

fn licence(package: &Package, allowed: &[Licensee]) -> Option<Finding> {
    let shown = format!("{} {}", package.name, package.version);
    let Some(expression) = &package.license else {
        return Some(Finding::failure(format!("{shown} has no licence")));
    };
    match Expression::parse_mode(expression, ParseMode::LAX) {
        Ok(parsed) => {
            let met = parsed.evaluate(|asked| allowed.iter().any(|licence| licence.satisfies(asked)));
            (!met).then(|| {
                Finding::failure(format!(
                    "{shown} has licence {expression:?}, which deny.toml does not allow"
                ))
            })
        }
        Err(_) => Some(Finding::failure(format!(
            "{shown} has licence {expression:?}, which is not a valid SPDX expression"
        ))),
    }
}

fn source(package: &Package, sources: &Sources) -> Option<Finding> {
    let source = package.source.as_deref()?;
    let known =
        source.strip_prefix("registry+").is_some_and(|url| sources.allow_registry.iter().any(|a| a == url));
    (!known).then(|| {
        Finding::failure(format!("{} comes from {source}, which deny.toml does not allow", package.name))
    })
}

/// Every crate that any build of the workspace contains. Cargo.lock also lists crates that no feature enables.
fn built() -> Result<BTreeSet<String>> {
    let tree = command::output(command::cargo().args([
        "tree",
        "--locked",
        "--workspace",
        "--all-features",
        "--target=all",
        "--prefix=none",
        "--format={p}",
    ]))?;
    Ok(tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
}
