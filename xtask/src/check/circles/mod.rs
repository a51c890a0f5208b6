//! Circles of imports between the files of one crate.
//!
//! In a circle no file can be understood, tested or moved without all the others. Test modules are left out: they may
//! look anywhere.

mod modules;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use anyhow::Result;

use self::modules::Imports;
use super::{finding::Finding, workspace::Workspace};

/// A circle: the files of one crate, below its `src`.
type Circle = BTreeSet<String>;

/// The circles that are still there, one a line: the crate and its files. A circle that is gone is taken out, one that
/// has shrunk is written anew, and none is added.
const KNOWN: &str = include_str!("known.txt");

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
        let sources = files.iter().map(|(file, text)| (file.as_str(), text.as_str()));
        judge(name, &modules::imports(sources), &known(name))
    });
    Ok(findings.collect())
}

/// The known circles of a crate.
fn known(name: &str) -> BTreeSet<Circle> {
    let circles = KNOWN.lines().filter_map(|line| line.split_once(": ")).filter(|(of, _)| *of == name);
    circles.map(|(_, files)| files.split(' ').map(str::to_owned).collect()).collect()
}

/// Holds the circles of a crate against those that are known.
fn judge(name: &str, imports: &Imports, known: &BTreeSet<Circle>) -> Vec<Finding> {
    let found = circles(imports);
    let new = found.difference(known).map(|circle| {
        if known.iter().any(|known| circle.is_subset(known)) {
            let files = shown(circle);
            return Finding::warning(format!("{name}: a circle has shrunk: list only {files} in {LIST}"));
        }
        let mut message = format!("{name}: {} files import each other in a circle", circle.len());
        for (file, targets) in imports.iter().filter(|(file, _)| circle.contains(*file)) {
            for (target, names) in targets.iter().filter(|(target, _)| circle.contains(*target)) {
                let names: Vec<_> = names.iter().map(String::as_str).collect();
                let _ = write!(message, "\n    {file} -> {target}: {}", names.join(", "));
            }
        }
        Finding::failure(message)
    });
    let gone = known.iter().filter(|known| !found.iter().any(|circle| circle.is_subset(known)));
    let gone = gone.map(|circle| {
        Finding::failure(format!("{name}: the circle of {} is gone: take it out of {LIST}", shown(circle)))
    });
    new.chain(gone).collect()
}

const LIST: &str = "xtask/src/check/circles/known.txt";

fn shown(circle: &Circle) -> String {
    circle.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
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
    use super::{super::finding::Severity, *};

    const ROUND: [(&str, &str); 4] = [
        ("lib.rs", "mod a; mod b; mod c; pub use a::A;"),
        ("a.rs", "use crate::b::B; use crate::c::C; pub struct A;"),
        ("b.rs", "use super::c; pub struct B;"),
        ("c.rs", "use crate::A; pub struct C;"),
    ];

    fn findings(sources: &[(&'static str, &'static str)], known: &[&[&str]]) -> Vec<Finding> {
        let imports = modules::imports(sources.iter().copied());
        let known = known.iter().map(|files| files.iter().map(|file| (*file).to_owned()).collect());
        judge("crates/x", &imports, &known.collect())
    }

    #[test]
    fn a_circle_is_shown_with_what_ties_it() {
        let findings = findings(&ROUND, &[]);
        let [circle] = &findings[..] else { panic!("one circle") };
        assert!(circle.severity == Severity::Failure);
        let arrows: Vec<_> = circle.message.lines().map(str::trim).collect();
        let all = ["a.rs -> b.rs: B", "a.rs -> c.rs: C", "b.rs -> c.rs: c", "c.rs -> a.rs: A"];
        assert_eq!(arrows[0], "crates/x: 3 files import each other in a circle");
        assert_eq!(arrows[1..], all);
    }

    #[test]
    fn a_known_circle_may_only_shrink_and_must_leave_the_list_when_it_is_gone() {
        assert!(findings(&ROUND, &[&["a.rs", "b.rs", "c.rs"]]).is_empty());
        let larger = findings(&ROUND, &[&["a.rs", "b.rs", "c.rs", "d.rs"]]);
        assert!(matches!(&larger[..], [shrunk] if shrunk.severity == Severity::Warning));
        let smaller = findings(&ROUND, &[&["a.rs", "b.rs"]]);
        assert_eq!(smaller.iter().filter(|finding| finding.severity == Severity::Failure).count(), 2);
        let mut open = ROUND;
        open[3].1 = "pub struct C;";
        assert!(findings(&open, &[]).is_empty());
        let gone = findings(&open, &[&["a.rs", "b.rs", "c.rs"]]);
        assert!(matches!(&gone[..], [gone] if gone.severity == Severity::Failure), "one finding");
    }

    #[test]
    fn the_list_is_read_by_crate() {
        for line in KNOWN.lines() {
            let (name, files) = line.split_once(": ").expect("a crate and its files");
            assert!(known(name).contains(&files.split(' ').map(str::to_owned).collect()));
        }
        assert!(known("crates/none").is_empty());
    }
}
