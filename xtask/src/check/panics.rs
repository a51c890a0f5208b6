//! Check: the libraries deny the lints against panics by arithmetic, indexing and slicing, and exceptions have a reason.

use std::path::Path;

use anyhow::Result;

use super::{finding::Finding, workspace::Workspace};

const LINTS: [&str; 3] =
    ["clippy::arithmetic_side_effects", "clippy::indexing_slicing", "clippy::string_slice"];

/// The sandbox is used in tests, on loopback, by its own author.
const EXEMPT: &[&str] = &["bp-sandbox"];

/// Libraries whose input is parsed by an SDK or by the other libraries. They do not deny the lints yet.
const PARSED_BY_OTHERS: &[&str] = &["bp-ecs", "bp-eks", "bp-delivery"];

pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for package in workspace.libraries().filter(|package| !EXEMPT.contains(&&*package.name)) {
        let source = package.library().and_then(Path::parent).unwrap_or(Path::new(""));
        let root = Path::new("crates").join(&package.name).join("src");
        if !source.ends_with(&root) {
            findings.push(Finding::failure(format!("{} is not in {}", package.name, root.display())));
        }
        let library = workspace.text(&root.join("lib.rs"))?.unwrap_or_default();
        if !denies(&library) {
            let message = format!("{}/lib.rs does not deny {}", root.display(), LINTS.join(", "));
            let is_known = PARSED_BY_OTHERS.contains(&&*package.name);
            findings.push(if is_known { Finding::warning(message) } else { Finding::failure(message) });
        }
        for file in workspace.files("rs").filter(|file| file.starts_with(&root)) {
            let text = workspace.text(file)?.unwrap_or_default();
            findings.extend(unexplained(&text).map(|line| {
                Finding::failure(format!(
                    "{}:{line}: an exception to these lints has no reason",
                    file.display()
                ))
            }));
        }
    }
    Ok(findings)
}

/// Whether the crate denies the lints outside of its tests.
fn denies(library: &str) -> bool {
    let denied = library.lines().find_map(|line| line.strip_prefix("#![cfg_attr(not(test), deny("));
    denied.is_some_and(|denied| LINTS.iter().all(|lint| denied.contains(lint)))
}

/// The lines of exceptions without a reason.
fn unexplained(text: &str) -> impl Iterator<Item = usize> {
    let attributes = text.match_indices("allow(").filter_map(|(at, _)| {
        let (before, rest) = text.split_at(at);
        let (attribute, _) = rest.split_once(")]")?;
        Some((before.lines().count(), attribute))
    });
    attributes
        .filter(|(_, attribute)| {
            LINTS.iter().any(|lint| attribute.contains(lint)) && !attribute.contains("reason = ")
        })
        .map(|(line, _)| line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_missing_lints_and_reasons() {
        let all = LINTS.join(", ");
        assert!(denies(&format!("//! x\n#![cfg_attr(not(test), deny({all}))]\n")));
        assert!(!denies(&format!("#![cfg_attr(not(test), warn({all}))]\n")));
        assert!(!denies("#![cfg_attr(not(test), deny(clippy::indexing_slicing))]\n"));
        let text = "\n#[allow(clippy::indexing_slicing)]\nfn a() {}\n#[allow(clippy::string_slice, reason = \"x\")]\n\
                    #[allow(dead_code)]\n#[allow(\n    clippy::string_slice,\n)]\n";
        assert_eq!(unexplained(text).collect::<Vec<_>>(), [2, 6]);
    }
}
