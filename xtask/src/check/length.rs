//! Check: length of source files.

use anyhow::Result;

use super::{finding::Finding, workspace::Workspace};

const WARNING: usize = 500;
const LIMIT: usize = 700;

pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in
        workspace.files("rs").filter(|file| !file.iter().any(|part| part == "tests" || part == "benches"))
    {
        let lines = code_lines(&workspace.text(file)?.unwrap_or_default());
        let file = file.display();
        if lines > LIMIT {
            findings.push(Finding::failure(format!(
                "{file} has {lines} lines (limit {LIMIT}): split it by concept"
            )));
        } else if lines > WARNING {
            findings.push(Finding::warning(format!("{file} has {lines} lines (more than {WARNING})")));
        }
    }
    Ok(findings)
}

/// The number of lines before the test module at the end of the file.
fn code_lines(text: &str) -> usize {
    text.lines().take_while(|line| *line != "#[cfg(test)]").count()
}
