//! Check: import cycles between the files of one crate.
//!
//! No file of a cycle can be understood, tested or moved without the others. Test modules are ignored: they may import
//! any file.

mod modules;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use anyhow::Result;

use self::modules::Imports;
use super::{finding::Finding, workspace::Workspace};

/// The files of an import cycle, relative to the `src` of their crate.
type Cycle = BTreeSet<String>;

/// Existing cycles, one per line: the crate and its files. Resolved cycles are removed, smaller ones are updated, and
/// new ones are not added.
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
        compare(name, &modules::imports(sources), &known(name))
    });
    Ok(findings.collect())
}

/// The known cycles of a crate.
fn known(name: &str) -> BTreeSet<Cycle> {
    let cycles = KNOWN.lines().filter_map(|line| line.split_once(": ")).filter(|(of, _)| *of == name);
    cycles.map(|(_, files)| files.split(' ').map(str::to_owned).collect()).collect()
}

/// Compares the cycles of a crate with the known ones.
fn compare(name: &str, imports: &Imports, known: &BTreeSet<Cycle>) -> Vec<Finding> {
    let found = cycles(imports);
    let new = found.difference(known).map(|cycle| {
        if known.iter().any(|known| cycle.is_subset(known)) {
            let files = shown(cycle);
            return Finding::warning(format!(
                "{name}: an import cycle has become smaller: list only {files} in {LIST}"
            ));
        }
        let mut message = format!("{name}: import cycle of {} files", cycle.len());
        for (file, targets) in imports.iter().filter(|(file, _)| cycle.contains(*file)) {
            for (target, names) in targets.iter().filter(|(target, _)| cycle.contains(*target)) {
                let names: Vec<_> = names.iter().map(String::as_str).collect();
                let _ = write!(message, "\n    {file} -> {target}: {}", names.join(", "));
            }
        }
        Finding::failure(message)
    });
    let gone = known.iter().filter(|known| !found.iter().any(|cycle| cycle.is_subset(known)));
    let gone = gone.map(|cycle| {
        Finding::failure(format!(
            "{name}: the import cycle of {} no longer exists: remove it from {LIST}",
            shown(cycle)
        ))
    });
    new.chain(gone).collect()
}

const LIST: &str = "xtask/src/check/circles/known.txt";

fn shown(cycle: &Cycle) -> String {
    cycle.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
}

/// The strongly connected components of the import graph.
fn cycles(imports: &Imports) -> BTreeSet<Cycle> {
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        imports.keys().map(|file| (file.as_str(), reached(imports, file))).collect();
    let cycle_of = |(file, reached_from_it): (&&str, &BTreeSet<&str>)| -> Cycle {
        let back = |other: &&&str| reached.get(**other).is_some_and(|from_other| from_other.contains(file));
        reached_from_it.iter().filter(back).map(|other| (*other).to_owned()).collect()
    };
    reached.iter().map(cycle_of).filter(|cycle| !cycle.is_empty()).collect()
}

/// The files that `start` imports from, directly or transitively.
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
        compare("crates/x", &imports, &known.collect())
    }

    #[test]
    fn reports_a_cycle_with_its_imports() {
        let findings = findings(&ROUND, &[]);
        let [cycle] = &findings[..] else { panic!("one cycle") };
        assert!(cycle.severity == Severity::Failure);
        let arrows: Vec<_> = cycle.message.lines().map(str::trim).collect();
        let all = ["a.rs -> b.rs: B", "a.rs -> c.rs: C", "b.rs -> c.rs: c", "c.rs -> a.rs: A"];
        assert_eq!(arrows[0], "crates/x: import cycle of 3 files");
        assert_eq!(arrows[1..], all);
    }

    #[test]
    fn a_known_cycle_may_only_shrink_and_must_be_removed_once_resolved() {
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
    fn reads_the_known_cycles_by_crate() {
        for line in KNOWN.lines() {
            let (name, files) = line.split_once(": ").expect("a crate and its files");
            assert!(known(name).contains(&files.split(' ').map(str::to_owned).collect()));
        }
        assert!(known("crates/none").is_empty());
    }
}
