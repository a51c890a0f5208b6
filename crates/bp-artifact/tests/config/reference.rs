//! The reference of `bp.toml` in `docs/artifact.md` lists every key of the schema, and no other one.

use std::collections::BTreeSet;

use bp_artifact::config::config_schema;
use serde_json::Value;

/// The keys of a table and of those in it: `ecs.cluster`, `ecs.environment.*`, `gate.*.url`.
fn keys(table: &Value, path: &str, found: &mut BTreeSet<String>) {
    let join = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    for (name, value) in table["properties"].as_object().into_iter().flatten() {
        let path = join(name);
        let below = &value["additionalProperties"];
        if value["properties"].is_object() {
            keys(value, &path, found);
        } else if below["properties"].is_object() {
            keys(below, &format!("{path}.*"), found);
        } else if below.is_object() {
            found.insert(format!("{path}.*"));
        } else {
            found.insert(path);
        }
    }
}

/// The keys in backquotes in the first column of the reference.
fn documented(page: &str) -> BTreeSet<String> {
    let (_, section) = page.split_once("\n## bp.toml\n").expect("the reference");
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned)).collect()
}

#[test]
fn the_reference_lists_every_key() {
    let schema = config_schema();
    let mut project = BTreeSet::new();
    keys(&schema["properties"]["project"], "project", &mut project);
    let mut expected = BTreeSet::new();
    for kind in ["service", "environment"] {
        keys(&schema["properties"][kind]["items"], "", &mut expected);
    }
    // The services of an environment have the same keys; the name of a table identifies it.
    expected.retain(|key| !key.starts_with("service.*.") && key != "name");
    expected.extend(project);
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/artifact.md");
    let found = documented(&std::fs::read_to_string(page).unwrap());
    let missing: Vec<_> = expected.difference(&found).collect();
    let unknown: Vec<_> = found.difference(&expected).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "not in the reference: {missing:?}; not a key: {unknown:?}"
    );
    assert!(found.len() > 80, "{}", found.len());
}

/// In a file a key with dots is a nested table, so an editor would reject a property with a dot in its name.
#[test]
fn the_schema_nests_the_tables_of_keys_with_dots() {
    fn names(value: &Value, found: &mut Vec<String>) {
        if let Some(properties) = value["properties"].as_object() {
            found.extend(properties.keys().cloned());
        }
        value.as_object().into_iter().flatten().for_each(|(_, below)| names(below, found));
    }
    let mut found = Vec::new();
    names(&config_schema(), &mut found);
    assert!(
        found.iter().any(|name| name == "traffic") && !found.iter().any(|name| name.contains('.')),
        "{found:?}"
    );
}
