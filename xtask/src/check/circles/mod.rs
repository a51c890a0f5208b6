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
        findings(name, &modules::imports(sources))
    });
    Ok(findings.collect())
}

/// A finding for each cycle of a crate, with its imports.
fn findings(name: &str, imports: &Imports) -> Vec<Finding> {
    let finding = |cycle: Cycle| {
        let mut message = format!("{name}: import cycle of {} files", cycle.len());
        for (file, targets) in imports.iter().filter(|(file, _)| cycle.contains(*file)) {
            for (target, names) in targets.iter().filter(|(target, _)| cycle.contains(*target)) {
                let names: Vec<_> = names.iter().map(String::as_str).collect();
                let _ = write!(message, "\n    {file} -> {target}: {}", names.join(", "));
            }
        }
        Finding::failure(message)
    };
    cycles(imports).into_iter().map(finding).collect()
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

    #[test]
    fn reports_a_cycle_with_its_imports() {
        let findings = findings("crates/x", &modules::imports(ROUND));
        let [cycle] = &findings[..] else { panic!("one cycle") };
        assert!(cycle.severity == Severity::Failure);
        let arrows: Vec<_> = cycle.message.lines().map(str::trim).collect();
        let all = ["a.rs -> b.rs: B", "a.rs -> c.rs: C", "b.rs -> c.rs: c", "c.rs -> a.rs: A"];
        assert_eq!(arrows[0], "crates/x: import cycle of 3 files");
        assert_eq!(arrows[1..], all);
    }

    #[test]
    fn files_that_import_in_one_direction_pass() {
        let mut open = ROUND;
        open[3].1 = "pub struct C;";
        assert!(findings("crates/x", &modules::imports(open)).is_empty());
    }
}
