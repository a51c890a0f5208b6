//! Check: text that must not be committed, such as machine paths and conflict markers.

use std::path::Path;

use anyhow::Result;

use super::{finding::Finding, workspace::Workspace};

/// A banned text, its files, and the reason. The texts are split, so that this file passes its own check.
struct Banned {
    text: &'static str,
    only: Option<&'static str>,
    why: &'static str,
}

const BANNED: &[Banned] = &[
    Banned { text: concat!("/wo", "rk/"), only: None, why: "a machine-specific path" },
    Banned { text: concat!("/ro", "ot/"), only: None, why: "a machine-specific path" },
    Banned { text: concat!("/ho", "me/"), only: None, why: "a machine-specific path" },
    Banned { text: concat!("/Us", "ers/"), only: None, why: "a machine-specific path" },
    Banned { text: concat!("<<<<", "<<< "), only: None, why: "an unresolved merge conflict" },
    Banned { text: concat!("to", "do!("), only: Some("rs"), why: "unfinished code" },
    Banned { text: concat!("unimpl", "emented!("), only: Some("rs"), why: "unfinished code" },
    Banned { text: concat!("//! place", "holder"), only: Some("rs"), why: "unfinished code" },
    Banned { text: concat!("FIX", "ME"), only: None, why: "belongs in an issue, not in the code" },
];

pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in workspace.all_files() {
        let Some(text) = workspace.text(file)? else { continue };
        findings.extend(offences(file, &text));
    }
    Ok(findings)
}

fn offences(file: &Path, text: &str) -> Vec<Finding> {
    let applies = |banned: &&Banned| {
        banned.only.is_none_or(|extension| file.extension().is_some_and(|found| found == extension))
    };
    let mut found = Vec::new();
    for banned in BANNED.iter().filter(applies) {
        for (index, _) in text.lines().enumerate().filter(|(_, line)| line.contains(banned.text)) {
            let (file, number) = (file.display(), index + 1);
            found.push(Finding::failure(format!("{file}:{number}: {:?}: {}", banned.text, banned.why)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_banned_text_with_its_line_in_matching_files_only() {
        let text = concat!("fine\nto", "do!()\n");
        let found = offences(Path::new("src/a.rs"), text);
        assert_eq!(found.len(), 1);
        assert!(found[0].message.starts_with("src/a.rs:2: "), "{}", found[0].message);
        assert!(offences(Path::new("docs/a.md"), text).is_empty());
    }
}
