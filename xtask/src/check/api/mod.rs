//! Check: the public API of each library, and the external types in it, are as committed in `docs/api`.
//!
//! `docs/api/<crate>.txt` lists the public items, so that a change of the API is visible in review. `docs/api/README.md`
//! lists the external crates whose types are part of an API: a new major version of one is a breaking change here.

mod external;
mod rustdoc;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use self::external::{EXTERNAL, Uses};
use super::{finding::Finding, workspace::Workspace};
use crate::{command, report};

/// The lines shown of a difference.
const SHOWN: usize = 40;

pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let apis = apis(workspace)?;
    let mut findings = Vec::new();
    for (name, api) in &apis.listings {
        let committed = fs::read_to_string(workspace.path(file(name))).unwrap_or_default();
        findings.extend(compare(name, &committed, api));
    }
    for stale in stale(workspace, &apis) {
        findings.push(Finding::failure(format!("{stale} lists a crate that does not exist: delete it")));
    }
    let page =
        fs::read_to_string(workspace.path(EXTERNAL)).with_context(|| format!("cannot read {EXTERNAL}"))?;
    findings.extend(external::compare(&external::allowed(&page), &apis.external));
    Ok(findings)
}

/// Writes the listings; returns whether the external types are as committed.
pub(super) fn write(workspace: &Workspace) -> Result<bool> {
    let apis = apis(workspace)?;
    for (name, api) in &apis.listings {
        let file = file(name);
        fs::write(workspace.path(&file), api).with_context(|| format!("cannot write {}", file.display()))?;
        report::line(format_args!("     {}: {} items", file.display(), api.lines().count()));
    }
    for stale in stale(workspace, &apis) {
        fs::remove_file(workspace.path(&stale)).with_context(|| format!("cannot delete {stale}"))?;
    }
    let page =
        fs::read_to_string(workspace.path(EXTERNAL)).with_context(|| format!("cannot read {EXTERNAL}"))?;
    let findings = external::compare(&external::allowed(&page), &apis.external);
    findings.iter().for_each(report::line);
    Ok(findings.is_empty())
}

/// The public APIs of this source.
struct Apis {
    /// The text of the listing of each library.
    listings: BTreeMap<String, String>,
    external: Uses,
}

fn apis(workspace: &Workspace) -> Result<Apis> {
    let documents = rustdoc::documents(workspace)?;
    let (mut listings, mut external) = (BTreeMap::new(), Uses::new());
    for (name, path) in &documents {
        listings.insert(name.clone(), listing(workspace, path)?);
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let document =
            serde_json::from_str(&text).with_context(|| format!("cannot parse {}", path.display()))?;
        for (krate, example) in external::crates(&document) {
            // Our own crates are released together.
            if !documents.keys().any(|ours| ours.replace('-', "_") == krate) {
                external.entry(krate).or_default().insert(name.clone(), example);
            }
        }
    }
    Ok(Apis { listings, external })
}

/// The items of a public API, one per line.
fn listing(workspace: &Workspace, document: &Path) -> Result<String> {
    let mut cargo = command::cargo();
    cargo
        .args(["run", "--quiet", "--locked", "--manifest-path", "xtask/listing/Cargo.toml", "--"])
        .arg(document);
    cargo.env("CARGO_TARGET_DIR", workspace.target().join("listing"));
    command::output(&mut cargo)
}

/// The listing of a library, relative to the root.
fn file(name: &str) -> PathBuf {
    PathBuf::from(format!("docs/api/{name}.txt"))
}

/// Listings without a library.
fn stale<'w>(workspace: &'w Workspace, apis: &'w Apis) -> impl Iterator<Item = String> + 'w {
    workspace.files("txt").filter_map(|file| {
        let name = file.strip_prefix("docs/api").ok()?.file_stem()?.to_str()?;
        (!apis.listings.contains_key(name)).then(|| file.to_string_lossy().into_owned())
    })
}

/// Compares a committed listing with the API: one finding with the lines that differ.
fn compare(name: &str, committed: &str, api: &str) -> Option<Finding> {
    if committed == api {
        return None;
    }
    let lines = difference(committed, api);
    let more = match lines.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!("\n    and {more} more lines"),
    };
    let shown: String = lines.iter().take(SHOWN).map(|line| format!("\n    {line}")).collect();
    Some(Finding::failure(format!(
        "the public API of {name} differs from {}; run `cargo xtask api` and commit the result:{shown}{more}",
        file(name).display()
    )))
}

/// The lines that were removed (`-`) and added (`+`), each as often as it was.
fn difference(before: &str, after: &str) -> Vec<String> {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    before.lines().for_each(|line| *counts.entry(line).or_default() -= 1);
    after.lines().for_each(|line| *counts.entry(line).or_default() += 1);
    let changed = counts.into_iter().filter(|(_, count)| *count != 0);
    let lines: Vec<_> =
        changed.map(|(line, count)| format!("{} {line}", if count < 0 { '-' } else { '+' })).collect();
    if lines.is_empty() { vec!["(the same lines in another order)".to_owned()] } else { lines }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_and_an_added_item_are_shown_with_the_command_to_run() {
        let finding =
            compare("bp-x", "pub mod bp_x\npub fn bp_x::old()\n", "pub mod bp_x\npub fn bp_x::new()\n");
        let message = finding.unwrap().to_string();
        assert!(message.contains("run `cargo xtask api`"), "{message}");
        assert!(message.contains("docs/api/bp-x.txt"), "{message}");
        assert!(message.contains("\n    + pub fn bp_x::new()\n    - pub fn bp_x::old()"), "{message}");
        assert!(!message.contains("pub mod"), "{message}");
    }

    #[test]
    fn only_equal_listings_in_the_same_order_pass() {
        assert!(compare("bp-x", "a\nb\n", "a\nb\n").is_none());
        assert!(compare("bp-x", "a\nb\n", "b\na\n").unwrap().to_string().contains("another order"));
        assert!(compare("bp-x", "a\n", "a\na\n").unwrap().to_string().contains("+ a"));
    }

    #[test]
    fn a_long_difference_is_shortened() {
        let api: String = (0..100).map(|number| format!("pub fn f{number:03}()\n")).collect();
        let message = compare("bp-x", "", &api).unwrap().to_string();
        assert!(message.contains("f039()") && !message.contains("f040()"), "{message}");
        assert!(message.ends_with("and 60 more lines"), "{message}");
    }
}
