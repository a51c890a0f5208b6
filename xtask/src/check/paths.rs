//! Paths of this repository that Markdown names in backticks.

use anyhow::Result;

use super::{finding::Finding, markdown::prose, workspace::Workspace};

/// Where paths of the repository begin. Others are examples of a user's own files.
const ROOTS: &[&str] =
    &["crates/", "docs/", "examples/", "xtask/", "fuzz/", "benchmarks/", ".ci/", ".cargo/"];

pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in workspace.files("md") {
        let text = workspace.text(file)?.unwrap_or_default();
        for (number, path) in named(&text) {
            if !workspace.path(path).exists() {
                findings
                    .push(Finding::failure(format!("{}:{number}: {path} does not exist", file.display())));
            }
        }
    }
    Ok(findings)
}

/// The paths between backticks, outside code blocks, with their line numbers.
fn named(text: &str) -> Vec<(usize, &str)> {
    // Odd pieces between backticks are code. A pattern or a command is not one path.
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
    fn paths_of_the_repository_are_found_and_nothing_else() {
        let page = "see `crates/a/src/b.rs`, `bp.toml`, `docs/*.md` and `cargo run`\n```\n`docs/no.md`\n```\n`docs/a.md`";
        assert_eq!(named(page), [(1, "crates/a/src/b.rs"), (5, "docs/a.md")]);
    }
}
