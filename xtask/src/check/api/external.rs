//! External crates whose types, traits or modules are part of a public API.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::finding::Finding;

/// The page with the allowed crates.
pub(super) const EXTERNAL: &str = "docs/api/README.md";

/// For each external crate the libraries that expose it, each with the path of an exposed item.
pub(super) type Uses = BTreeMap<String, BTreeMap<String, String>>;

/// Crates of the standard library.
const STANDARD: [&str; 3] = ["alloc", "core", "std"];

/// The external crates in a rustdoc JSON document, each with the path of one of their items.
pub(super) fn crates(document: &Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let items = document["index"].as_object().into_iter().flatten().map(|(_, item)| item);
    for item in items.filter(|item| item["crate_id"] == 0) {
        // Blanket implementations and auto traits are written by rustdoc for each type.
        let implementation = &item["inner"]["impl"];
        if implementation["is_synthetic"] != true && implementation["blanket_impl"].is_null() {
            collect(&item["inner"], document, &mut found);
        }
    }
    found
}

/// Adds what the value references: rustdoc writes a type or trait as an object with `path` and `id`, and a reexport as
/// one with `source` and `id`.
fn collect(value: &Value, document: &Value, found: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(members) => {
            if (members.contains_key("path") || members.contains_key("source"))
                && let Some(id) = members.get("id").and_then(Value::as_u64)
                && let Some((name, path)) = external(id, document)
            {
                let first = found.entry(name).or_insert_with(|| path.clone());
                if path < *first {
                    *first = path;
                }
            }
            members.values().for_each(|member| collect(member, document, found));
        }
        Value::Array(members) => members.iter().for_each(|member| collect(member, document, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The crate and the path of an item, unless it is of this crate or of the standard library.
fn external(id: u64, document: &Value) -> Option<(String, String)> {
    let summary = &document["paths"][id.to_string()];
    let krate = summary["crate_id"].as_u64().filter(|krate| *krate != 0)?;
    let name = document["external_crates"][krate.to_string()]["name"].as_str()?;
    let path: Vec<_> = summary["path"].as_array()?.iter().filter_map(Value::as_str).collect();
    (!STANDARD.contains(&name)).then(|| (name.to_owned(), path.join("::")))
}

/// The allowed external crates and the libraries that may expose them: the rows ``| `crate` | library, library | reason |``
/// of the page.
pub(super) fn allowed(page: &str) -> BTreeMap<String, BTreeSet<String>> {
    let rows = page.lines().filter_map(|line| {
        let cells: Vec<_> = line.strip_prefix("| `")?.split('|').map(str::trim).collect();
        let [name, libraries, reason, _] = cells.as_slice() else { return None };
        let name = name.strip_suffix('`').filter(|_| !reason.is_empty())?;
        Some((name.to_owned(), libraries.split(", ").map(str::to_owned).collect()))
    });
    rows.collect()
}

/// Compares the allowed crates with those found.
pub(super) fn compare(allowed: &BTreeMap<String, BTreeSet<String>>, found: &Uses) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, libraries) in found {
        for (library, path) in libraries {
            if !allowed.get(name).is_some_and(|allowed| allowed.contains(library)) {
                findings.push(Finding::failure(format!(
                    "{library} exposes {path}: do not expose types of {name}, or add {name} and {library} to {EXTERNAL} \
                     with the reason"
                )));
            }
        }
    }
    for (name, libraries) in allowed {
        for library in libraries {
            if !found.get(name).is_some_and(|found| found.contains_key(library)) {
                findings.push(Finding::failure(format!(
                    "{EXTERNAL} allows {name} in {library}, which does not expose it: delete the entry"
                )));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A function of this crate that takes `http::Uri` and returns `Vec`; an implementation of a trait, a blanket
    /// implementation, a reexport, and an item of another crate.
    fn document() -> Value {
        json!({
            "index": {
                "1": {"crate_id": 0, "inner": {"function": {"sig": {
                    "inputs": [["uri", {"borrowed_ref": {"type": {"resolved_path": {"path": "Uri", "id": 10}}}}]],
                    "output": {"resolved_path": {"path": "Vec", "id": 11, "args": {"angle_bracketed": {"args": [
                        {"type": {"resolved_path": {"path": "Own", "id": 12}}}
                    ]}}}},
                }}}},
                "2": {"crate_id": 0, "inner": {"impl": {
                    "is_synthetic": false, "blanket_impl": null, "trait": {"path": "Serialize", "id": 13}
                }}},
                "3": {"crate_id": 0, "inner": {"impl": {
                    "is_synthetic": false, "blanket_impl": {"generic": "T"}, "trait": {"path": "Instrument", "id": 14}
                }}},
                "4": {"crate_id": 0, "inner": {"use": {"source": "kube", "name": "kube", "id": 15, "is_glob": false}}},
                "5": {"crate_id": 9, "inner": {"function": {"sig": {"output": {"resolved_path": {"path": "X", "id": 14}}}}}},
            },
            "paths": {
                "10": {"crate_id": 1, "path": ["http", "uri", "Uri"]},
                "11": {"crate_id": 2, "path": ["alloc", "vec", "Vec"]},
                "12": {"crate_id": 0, "path": ["own", "Own"]},
                "13": {"crate_id": 3, "path": ["serde_core", "ser", "Serialize"]},
                "14": {"crate_id": 4, "path": ["tracing", "Instrument"]},
                "15": {"crate_id": 5, "path": ["kube"]},
            },
            "external_crates": {
                "1": {"name": "http"}, "2": {"name": "alloc"}, "3": {"name": "serde_core"}, "4": {"name": "tracing"},
                "5": {"name": "kube"},
            },
        })
    }

    #[test]
    fn finds_types_traits_and_reexports_of_external_crates() {
        let found: Vec<_> = crates(&document()).into_iter().collect();
        let expected =
            [("http", "http::uri::Uri"), ("kube", "kube"), ("serde_core", "serde_core::ser::Serialize")];
        assert_eq!(found, expected.map(|(name, path)| (name.to_owned(), path.to_owned())));
    }

    #[test]
    fn a_new_crate_and_an_unused_entry_are_findings() {
        let page = "| crate | libraries | reason |\n|---|---|---|\n| `http` | bp-a, bp-b | requests |\n| `kube` | bp-a | |\n";
        let allowed = allowed(page);
        assert_eq!(allowed.keys().collect::<Vec<_>>(), ["http"], "an entry without a reason does not count");
        let found =
            crates(&document()).into_iter().map(|(name, path)| (name, [("bp-a".to_owned(), path)].into()));
        let messages: Vec<_> = compare(&allowed, &found.collect()).iter().map(ToString::to_string).collect();
        assert_eq!(messages.len(), 3, "{messages:?}");
        assert!(messages[0].contains("bp-a exposes kube: "), "{messages:?}");
        assert!(messages[1].contains("bp-a exposes serde_core::ser::Serialize: "), "{messages:?}");
        assert!(messages[2].contains("allows http in bp-b, which does not expose it"), "{messages:?}");
    }
}
