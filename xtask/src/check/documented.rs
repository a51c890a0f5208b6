//! Libraries that say what they are and show how they are used.

use anyhow::{Context, Result};

use super::{finding::Finding, workspace::Workspace};

pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for member in workspace.members() {
        let Some(library) = member.library() else { continue };
        let text =
            std::fs::read_to_string(library).with_context(|| format!("cannot read {}", library.display()))?;
        let docs: Vec<&str> =
            text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim).collect();
        match docs.first() {
            None => findings
                .push(Finding::failure(format!("{}: lib.rs does not open with its docs", member.name))),
            Some(first) if first.len() < 20 => {
                findings.push(Finding::failure(format!(
                    "{}: the docs open with {first:?}, no sentence",
                    member.name
                )));
            }
            Some(_) => {}
        }
        // The library that the binaries share has the binaries for an example.
        let exemplary =
            member.has_example() || member.name == "bp-examples" || docs.iter().any(|l| opens_example(l));
        if !exemplary {
            findings.push(Finding::failure(format!(
                "{}: neither an example in the opening docs nor a file in examples/",
                member.name
            )));
        }
    }
    Ok(findings)
}

/// Whether a line of docs opens a block that rustdoc compiles.
fn opens_example(line: &str) -> bool {
    line.strip_prefix("```").is_some_and(|info| {
        info.split(',')
            .all(|word| matches!(word.trim(), "" | "rust" | "no_run" | "compile_fail" | "should_panic"))
    }) && line.len() <= "```rust,should_panic".len()
}
