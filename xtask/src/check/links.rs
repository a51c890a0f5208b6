//! Check: relative links in Markdown.

use std::path::{Component, Path, PathBuf};

use anyhow::Result;

use super::{finding::Finding, markdown::prose, workspace::Workspace};

pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in workspace.files("md") {
        let text = workspace.text(file)?.unwrap_or_default();
        for (number, target) in links(&text) {
            let Some(target) = relative(target) else { continue };
            let place = normal(&file.parent().unwrap_or(Path::new("")).join(target));
            if !workspace.path(&place).exists() {
                findings
                    .push(Finding::failure(format!("{}:{number}: {target} does not exist", file.display())));
            }
        }
    }
    Ok(findings)
}

/// The targets of inline links outside code, with their line numbers.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        // Even pieces between backticks are prose, odd ones code.
        for prose in line.split('`').step_by(2) {
            let targets = prose.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
            found.extend(targets.map(|target| (number, target)));
        }
    }
    found
}

/// The file that a link points to, unless it is a URL or an anchor on the same page.
fn relative(target: &str) -> Option<&str> {
    let file = target.split('#').next().unwrap_or_default();
    (!file.is_empty() && !file.contains("://") && !file.starts_with("mailto:")).then_some(file)
}

/// The path with `.` and `..` resolved.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
            Component::Normal(name) => out.push(name),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_links_in_prose_and_not_in_code() {
        let text = "see [a](docs/a.md#top) and [b](../b.md \"title\")\n`[no](code.md)`\n```\n[no](fence.md)\n```\n[c](c.md)";
        assert_eq!(links(text), [(1, "docs/a.md#top"), (1, "../b.md"), (6, "c.md")]);
    }

    #[test]
    fn ignores_urls_and_anchors() {
        assert_eq!(relative("docs/a.md#top"), Some("docs/a.md"));
        assert_eq!(relative("#top"), None);
        assert_eq!(relative("https://example.com/a.md"), None);
        assert_eq!(normal(Path::new("docs/adr/../iam/./a.md")), Path::new("docs/iam/a.md"));
    }
}
