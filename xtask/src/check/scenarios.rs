//! Check: tests listed in docs/*-scenarios.md exist.

use std::{collections::HashSet, path::Path};

use anyhow::Result;

use super::{finding::Finding, workspace::Workspace};

pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut functions = HashSet::new();
    for file in workspace.files("rs") {
        let text = workspace.text(file)?.unwrap_or_default();
        functions.extend(defined(&text).map(str::to_owned));
    }
    let mut findings = Vec::new();
    let pages = workspace.files("md").filter(|file| is_page(file));
    for page in pages {
        let text = workspace.text(page)?.unwrap_or_default();
        for (number, name) in listed(&text) {
            if !functions.contains(name) {
                findings.push(Finding::failure(format!(
                    "{}:{number}: test {name} does not exist",
                    page.display()
                )));
            }
        }
    }
    Ok(findings)
}

fn is_page(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.to_string_lossy().ends_with("-scenarios.md"))
}

/// The functions of a source file.
fn defined(text: &str) -> impl Iterator<Item = &str> {
    text.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next())
}

/// The names in the last column of tables whose last column is `test`, with their line numbers.
fn listed(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut of_tests = false;
    let mut above = "";
    for (index, line) in text.lines().enumerate() {
        let last =
            line.trim_end().strip_suffix('|').and_then(|line| line.rsplit('|').next()).unwrap_or_default();
        if !above.starts_with('|') {
            of_tests = last.trim() == "test";
        }
        if of_tests && line.starts_with('|') {
            let is_name = |word: &&str| {
                word.contains('_') && word.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_'))
            };
            // Odd pieces between backticks are code.
            found.extend(last.split('`').skip(1).step_by(2).filter(is_name).map(|name| (index + 1, name)));
        }
        above = line;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_test_names_in_the_last_column_only() {
        let page = "| what | test |\n|---|---|\n| `not_this` | `a_test`, `b_2`; the same; `file.rs` |\n\n| a | b |\n|---|---|\n| x | `no_test` |\n";
        assert_eq!(listed(page), [(3, "a_test"), (3, "b_2")]);
        assert!(defined("async fn a_test() {}\nfn b<T>() {}").eq(["a_test", "b"]));
    }
}
