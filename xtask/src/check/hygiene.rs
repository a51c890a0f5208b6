//! What a repository should not hold.

use std::path::Path;

use anyhow::Result;

use super::{finding::Finding, workspace::Workspace};

/// A text that must not occur, in which files, and why. Written in pieces, so that this file passes its own check.
struct Banned {
    text: &'static str,
    only: Option<&'static str>,
    why: &'static str,
}

const BANNED: &[Banned] = &[
    Banned { text: concat!("/wo", "rk/"), only: None, why: "a path of one machine" },
    Banned { text: concat!("/ro", "ot/"), only: None, why: "a path of one machine" },
    Banned { text: concat!("/ho", "me/"), only: None, why: "a path of one machine" },
    Banned { text: concat!("/Us", "ers/"), only: None, why: "a path of one machine" },
    Banned { text: concat!("<<<<", "<<< "), only: None, why: "a merge that was not finished" },
    Banned { text: concat!("to", "do!("), only: Some("rs"), why: "code that was not finished" },
    Banned { text: concat!("unimpl", "emented!("), only: Some("rs"), why: "code that was not finished" },
    Banned { text: concat!("//! place", "holder"), only: Some("rs"), why: "code that was not finished" },
    Banned { text: concat!("FIX", "ME"), only: None, why: "a note for an issue, not for the code" },
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
    fn an_offence_is_named_with_its_line_and_only_where_it_applies() {
        let text = concat!("fine\nto", "do!()\n");
        let found = offences(Path::new("src/a.rs"), text);
        assert_eq!(found.len(), 1);
        assert!(found[0].message.starts_with("src/a.rs:2: "), "{}", found[0].message);
        assert!(offences(Path::new("docs/a.md"), text).is_empty());
    }
}
