//! Circles of imports between the files of one crate.
//!
//! In a circle no file can be understood, tested or moved without all the others. Test modules are left out: they may
//! look anywhere.

mod modules;
mod tokens;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use anyhow::Result;

use self::modules::Imports;
use super::{Finding, workspace::Workspace};

/// A circle: the files of one crate, below its `src`.
type Circle = BTreeSet<String>;

/// The circles that are still there, by crate. This list only gets shorter: a circle that is gone is taken out.
const KNOWN: &[(&str, &[&str])] = &[];

pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut crates: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for path in workspace.files("rs") {
        let shown = path.to_string_lossy();
        if let Some((name, file)) = shown.split_once("/src/") {
            let text = workspace.text(path)?.unwrap_or_default();
            crates.entry(name.to_owned()).or_default().push((file.to_owned(), text));
        }
    }
    let findings = crates.iter().flat_map(|(name, files)| {
        let known = KNOWN.iter().filter(|(of, _)| of == name);
        let known = known.map(|(_, files)| files.iter().map(|file| (*file).to_owned()).collect()).collect();
        let sources = files.iter().map(|(file, text)| (file.as_str(), text.as_str()));
        judge(name, &modules::imports(sources), known)
    });
    Ok(findings.collect())
}

/// Holds the circles of a crate against those that are known.
fn judge(name: &str, imports: &Imports, known: BTreeSet<Circle>) -> Vec<Finding> {
    let found = circles(imports);
    let new = found.difference(&known).map(|circle| {
        let mut message = format!("{name}: {} files import each other in a circle", circle.len());
        for (file, targets) in imports.iter().filter(|(file, _)| circle.contains(*file)) {
            for (target, names) in targets.iter().filter(|(target, _)| circle.contains(*target)) {
                let names: Vec<_> = names.iter().map(String::as_str).collect();
                let _ = write!(message, "\n    {file} -> {target}: {}", names.join(", "));
            }
        }
        Finding::failure(message)
    });
    let gone = known.difference(&found).map(|circle| {
        let files: Vec<_> = circle.iter().map(String::as_str).collect();
        Finding::failure(format!(
            "{name}: the circle of {} is gone: take it out of the list in xtask/src/check/circles/mod.rs",
            files.join(", ")
        ))
    });
    new.chain(gone).collect()
}

/// The largest sets of files of which each reaches all others.
fn circles(imports: &Imports) -> BTreeSet<Circle> {
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        imports.keys().map(|file| (file.as_str(), reached(imports, file))).collect();
    let circle_of = |(file, reached_from_it): (&&str, &BTreeSet<&str>)| -> Circle {
        let back = |other: &&&str| reached.get(**other).is_some_and(|from_other| from_other.contains(file));
        reached_from_it.iter().filter(back).map(|other| (*other).to_owned()).collect()
    };
    reached.iter().map(circle_of).filter(|circle| !circle.is_empty()).collect()
}

/// The files that `start` imports from, straight or through others.
fn reached<'a>(imports: &'a Imports, start: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut waiting = vec![start];
    while let Some(file) = waiting.pop() {
        for target in imports.get(file).into_iter().flat_map(BTreeMap::keys) {
            if reached.insert(target.as_str()) {
                waiting.push(target);
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND: [(&str, &str); 4] = [
        ("lib.rs", "mod a; mod b; mod c; pub use a::A;"),
        ("a.rs", "use crate::b::B; use crate::c::C; pub struct A;"),
        ("b.rs", "use crate::c; use super::C; pub struct B;"),
        ("c.rs", "use crate::A; pub struct C;"),
    ];

    fn messages(sources: &[(&'static str, &'static str)], known: &[&[&str]]) -> Vec<String> {
        let imports = modules::imports(sources.iter().copied());
        let known = known.iter().map(|files| files.iter().map(|file| (*file).to_owned()).collect());
        let findings = judge("crates/x", &imports, known.collect());
        findings.into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn a_circle_is_shown_with_what_ties_it() {
        let messages = messages(&ROUND, &[]);
        assert_eq!(
            messages,
            [
                "crates/x: 3 files import each other in a circle\n    a.rs -> b.rs: B\n    a.rs -> c.rs: C\n    \
              b.rs -> c.rs: c\n    c.rs -> a.rs: A"
            ]
        );
    }

    #[test]
    fn a_known_circle_is_let_be_and_must_leave_the_list_when_it_is_gone() {
        assert!(messages(&ROUND, &[&["a.rs", "b.rs", "c.rs"]]).is_empty());
        let mut open = ROUND;
        open[3].1 = "pub struct C;";
        assert!(messages(&open, &[]).is_empty());
        let messages = messages(&open, &[&["a.rs", "b.rs", "c.rs"]]);
        assert!(matches!(&messages[..], [gone] if gone.contains("is gone")), "{messages:?}");
    }
}
