//! Check: terms that docs/STYLE.md replaces.
//!
//! `list.txt` contains the terms, `exceptions.txt` the lines where one is right. The list covers what a reader sees: comments,
//! doc comments, string literals, names of functions, Markdown, and the comments of TOML, YAML and shell files.

use std::path::Path;

use anyhow::{Context, Result, bail};
use regex::{Regex, RegexBuilder};

use super::{finding::Finding, markdown, workspace::Workspace};
use crate::rust;

const LIST: &str = include_str!("list.txt");
const EXCEPTIONS: &str = include_str!("exceptions.txt");

/// A term and what to write instead.
struct Term {
    pattern: Regex,
    instead: &'static str,
}

/// A line where a term is right.
struct Exception {
    file: &'static str,
    /// Part of the line.
    text: &'static str,
}

pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let (terms, exceptions) = (terms(LIST)?, exceptions(EXCEPTIONS)?);
    let mut used = vec![false; exceptions.len()];
    let mut findings = Vec::new();
    for file in workspace.all_files().filter(|file| is_ours(file)) {
        let Some(text) = workspace.text(file)? else { continue };
        for hit in hits(file, &text, &terms) {
            let path = file.to_string_lossy();
            let excepted = exceptions.iter().position(|e| path == e.file && hit.context.contains(e.text));
            match excepted {
                Some(index) => used[index] = true,
                None => findings
                    .push(Finding::failure(format!("{path}:{}: {:?}: {}", hit.line, hit.found, hit.instead))),
            }
        }
    }
    for (exception, _) in exceptions.iter().zip(used).filter(|(_, used)| !used) {
        findings.push(Finding::failure(format!(
            "exceptions.txt: {}: {:?} is no longer needed",
            exception.file, exception.text
        )));
    }
    Ok(findings)
}

/// Recorded responses of real services and the table of the style guide are not checked.
fn is_ours(file: &Path) -> bool {
    let path = file.to_string_lossy();
    !path.contains("/recorded/") && path != "docs/STYLE.md" && !path.starts_with("LICENSE")
}

struct Hit {
    line: usize,
    found: String,
    instead: &'static str,
    /// The line of the term, and the next one if the term continues there.
    context: String,
}

fn hits(file: &Path, text: &str, terms: &[Term]) -> Vec<Hit> {
    let extension = file.extension().and_then(|extension| extension.to_str());
    let texts: Vec<(usize, String)> = match extension {
        Some("rs") => rust::prose(text).into_iter().map(|prose| (prose.line, prose.text)).collect(),
        Some("md") => markdown::prose(text).map(|(number, line)| (number, line.to_owned())).collect(),
        Some("toml" | "yml" | "yaml" | "sh") | None => text
            .lines()
            .enumerate()
            .filter_map(|(index, line)| Some((index + 1, line.split_once('#')?.1.to_owned())))
            .collect(),
        Some(_) => Vec::new(),
    };
    texts.iter().flat_map(|(line, text)| in_text(*line, text, terms)).collect()
}

fn in_text(line: usize, text: &str, terms: &[Term]) -> Vec<Hit> {
    let flat = text.replace('\n', " ");
    let found = terms.iter().flat_map(|term| term.pattern.find_iter(&flat).map(move |found| (term, found)));
    found
        .map(|(term, found)| {
            let before = text.get(..found.start()).unwrap_or_default();
            let from = before.rfind('\n').map_or(0, |at| at + 1);
            let to = text
                .get(found.end()..)
                .and_then(|rest| rest.find('\n'))
                .map_or(text.len(), |at| found.end() + at);
            Hit {
                line: line + before.matches('\n').count(),
                found: found.as_str().trim().to_owned(),
                instead: term.instead,
                context: flat.get(from..to).unwrap_or(&flat).to_owned(),
            }
        })
        .collect()
}

fn entries(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
}

/// Each line is a regular expression, ` => `, and what to write instead.
fn terms(list: &'static str) -> Result<Vec<Term>> {
    let term = |line: &'static str| {
        let (pattern, instead) =
            line.split_once(" => ").with_context(|| format!("no \" => \" in {line:?}"))?;
        let pattern = RegexBuilder::new(pattern).case_insensitive(true).build()?;
        Ok(Term { pattern, instead })
    };
    entries(list).map(term).collect()
}

/// Each line is a file, a part of the line in it, and the reason, separated by ` | `.
fn exceptions(list: &'static str) -> Result<Vec<Exception>> {
    let exception = |line: &'static str| match line.split(" | ").collect::<Vec<_>>().as_slice() {
        [file, text, reason] if !reason.trim().is_empty() => Ok(Exception { file, text }),
        _ => bail!("{line:?} is not \"file | text | reason\""),
    };
    entries(list).map(exception).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(file: &str, text: &str) -> Vec<(usize, String)> {
        let terms = terms(concat!("\\bm", "ends\\b => fixes\n\\bthe way ba", "ck\\b => rollback")).unwrap();
        hits(Path::new(file), text, &terms).into_iter().map(|hit| (hit.line, hit.found)).collect()
    }

    #[test]
    fn finds_a_term_in_prose_only_and_across_the_lines_of_a_comment() {
        let source = concat!(
            "// one\n// the way\n// ba",
            "ck\nfn m",
            "ends() { f(\"it m",
            "ends\"); m",
            "ends(amends); }\n"
        );
        let expected =
            [(2, concat!("the way ba", "ck")), (4, concat!("m", "ends")), (4, concat!("m", "ends"))];
        assert_eq!(found("a.rs", source), expected.map(|(line, text)| (line, text.to_owned())));
    }

    #[test]
    fn leaves_code_blocks_and_the_values_of_configuration_alone() {
        let term = concat!("m", "ends");
        assert!(found("a.md", &format!("```\n{term}\n```\n")).is_empty());
        assert_eq!(found("a.md", &format!("It {term}.\n")).len(), 1);
        assert!(found("a.toml", &format!("a = \"{term}\"\n")).is_empty());
        assert_eq!(found("a.toml", &format!("# {term}\n")).len(), 1);
    }

    #[test]
    fn the_committed_lists_are_well_formed() {
        assert!(terms(LIST).is_ok_and(|terms| terms.len() > 20));
        assert!(exceptions(EXCEPTIONS).is_ok());
    }
}
