//! Check: crate documentation and examples of libraries.

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
            None => findings.push(Finding::failure(format!(
                "{}: lib.rs does not start with crate documentation",
                member.name
            ))),
            Some(first) if first.len() < 20 => {
                findings.push(Finding::failure(format!(
                    "{}: the crate documentation starts with {first:?}, which is not a sentence",
                    member.name
                )));
            }
            Some(_) => {}
        }
        // The binaries are the examples of the library they share.
        let has_example =
            member.has_example() || member.name == "bp-examples" || docs.iter().any(|l| starts_example(l));
        if !has_example {
            findings.push(Finding::failure(format!(
                "{}: no example in the crate documentation and no file in examples/",
                member.name
            )));
        }
    }
    Ok(findings)
}

/// Whether a line of documentation starts a code block that rustdoc compiles.
fn starts_example(line: &str) -> bool {
    line.strip_prefix("```").is_some_and(|info| {
        info.split(',')
            .all(|word| matches!(word.trim(), "" | "rust" | "no_run" | "compile_fail" | "should_panic"))
    }) && line.len() <= "```rust,should_panic".len()
}
