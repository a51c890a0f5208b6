//! Check: paths of this repository in backticks in Markdown.

use anyhow::Result;

use super::{finding::Finding, markdown::prose, workspace::Workspace};

/// Prefixes of repository paths. Other paths are examples of a user's files.
const ROOTS: &[&str] =
    &["crates/", "docs/", "examples/", "xtask/", "fuzz/", "benchmarks/", ".ci/", ".cargo/"];

pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in workspace.files("md") {
        let text = workspace.text(file)?.unwrap_or_default();
        for (number, path) in paths(&text) {
            if !workspace.path(path).exists() {
                findings
                    .push(Finding::failure(format!("{}:{number}: {path} does not exist", file.display())));
            }
        }
    }
    Ok(findings)
}

/// The paths between backticks, outside code blocks, with their line numbers.
fn paths(text: &str) -> Vec<(usize, &str)> {
    // Odd pieces between backticks are code. Patterns and commands are not paths.
    let is_path = |code: &&str| {
        ROOTS.iter().any(|root| code.starts_with(root)) && !code.contains([' ', '*', '<', '{', '$'])
    };
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        found.extend(line.split('`').skip(1).step_by(2).filter(is_path).map(|path| (number, path)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_only_paths_of_the_repository() {
        let page = "see `crates/a/src/b.rs`, `bp.toml`, `docs/*.md` and `cargo run`\n```\n`docs/no.md`\n```\n`docs/a.md`";
        assert_eq!(paths(page), [(1, "crates/a/src/b.rs"), (5, "docs/a.md")]);
    }
}
