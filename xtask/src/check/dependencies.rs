//! Check: docs/dependencies.md has one row with a reason for every direct dependency, and no others.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::{finding::Finding, workspace::Workspace};

const PAGE: &str = "docs/dependencies.md";

pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let own: BTreeSet<&str> = workspace.members().map(|member| member.name.as_str()).collect();
    let mut used: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for member in workspace.members() {
        for dependency in
            member.dependencies.iter().filter(|dependency| !own.contains(dependency.name.as_str()))
        {
            used.entry(&dependency.name).or_default().insert(&member.name);
        }
    }
    let page = std::fs::read_to_string(workspace.path(PAGE))?;
    Ok(compare(&used, &page))
}

fn compare(used: &BTreeMap<&str, BTreeSet<&str>>, page: &str) -> Vec<Finding> {
    let mut rows: BTreeMap<&str, usize> = BTreeMap::new();
    let mut findings = Vec::new();
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let names = cells.next().unwrap_or_default();
        if cells.next_back().unwrap_or_default().is_empty() {
            findings.push(Finding::failure(format!("{PAGE}: {names} has no reason")));
        }
        for name in names.split(", ") {
            *rows.entry(name.trim_matches('`')).or_default() += 1;
        }
    }
    for (name, users) in used.iter().filter(|(name, _)| !rows.contains_key(*name)) {
        let users: Vec<&str> = users.iter().copied().collect();
        let users = users.join(", ");
        findings.push(Finding::failure(format!("{PAGE} has no row for {name}, which {users} depends on")));
    }
    for (name, number) in rows {
        if !used.contains_key(name) {
            findings
                .push(Finding::failure(format!("{PAGE} has a row for {name}, on which no package depends")));
        } else if number > 1 {
            findings.push(Finding::failure(format!("{PAGE} has {number} rows for {name}")));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dependency_has_one_row_with_a_reason() {
        let used = BTreeMap::from([("a", BTreeSet::from(["x"])), ("b", BTreeSet::from(["x", "y"]))]);
        let found = |page: &str| compare(&used, page).iter().map(|f| f.message.clone()).collect::<Vec<_>>();
        assert!(found("| `a`, `b` | because |\n").is_empty());
        assert_eq!(found("| `a` | because |"), [format!("{PAGE} has no row for b, which x, y depends on")]);
        assert_eq!(found("| `a` | why |\n| `b` | |"), [format!("{PAGE}: `b` has no reason")]);
        let twice = "| `a`, `b` | why |\n| `b`, `c` | why |";
        assert_eq!(
            found(twice),
            [
                format!("{PAGE} has 2 rows for b"),
                format!("{PAGE} has a row for c, on which no package depends")
            ]
        );
    }
}
