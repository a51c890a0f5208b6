//! What would change between two definitions, for people to read.

use std::collections::BTreeMap;

use bp_artifact::Change;
use serde_json::Value;

use super::{TaskDefinition, normal};

impl TaskDefinition {
    /// What registering `wanted` in place of this one would change, in order of the path. Empty when they are
    /// [the same](Self::is_same).
    pub fn changes(&self, wanted: &TaskDefinition) -> Vec<Change> {
        let (from, to) = (leaves(&normal::form(&self.input)), leaves(&normal::form(&wanted.input)));
        let mut paths: Vec<&String> = from.keys().chain(to.keys()).collect();
        paths.sort_unstable();
        paths.dedup();
        let change = |path: &String| Change::new(path, from.get(path).cloned(), to.get(path).cloned());
        paths.into_iter().map(change).filter(|change| change.from != change.to).collect()
    }
}

fn leaves(value: &Value) -> BTreeMap<String, String> {
    let mut leaves = BTreeMap::new();
    collect(String::new(), value, &mut leaves);
    leaves
}

/// Items that have a name are known by it, so that a new one in front does not change all behind it.
fn collect(path: String, value: &Value, leaves: &mut BTreeMap<String, String>) {
    let name = |item: &Value| ["name", "key"].iter().find_map(|n| Some(item.get(n)?.as_str()?.to_owned()));
    match value {
        Value::Object(fields) => {
            let dot = if path.is_empty() { "" } else { "." };
            let inner = fields.iter().filter(|(field, _)| !path.ends_with(']') || *field != "name");
            inner.for_each(|(field, value)| collect(format!("{path}{dot}{field}"), value, leaves));
        }
        Value::Array(items) if items.iter().all(|item| name(item).is_some()) => {
            for item in items {
                collect(format!("{path}[{}]", name(item).unwrap_or_default()), item, leaves);
            }
        }
        Value::String(text) => drop(leaves.insert(path, text.clone())),
        other => drop(leaves.insert(path, other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(containers: Value) -> TaskDefinition {
        let json = json!({ "family": "web", "memory": "512", "containerDefinitions": containers });
        TaskDefinition::from_json("test", &json.to_string()).unwrap()
    }

    #[test]
    fn names_what_changes_and_nothing_else() {
        let from = read(json!([{
            "name": "web", "image": "i:1", "essential": true,
            "environment": [{ "name": "A", "value": "1" }, { "name": "GONE", "value": "x" }],
            "secrets": [{ "name": "DB", "valueFrom": "/shop/db" }],
        }]));
        let to = read(json!([
            { "name": "proxy", "image": "p:1" },
            {
                "name": "web", "image": "i:2",
                "environment": [{ "name": "DEPLOY_PLATFORM", "value": "ecs" }, { "name": "A", "value": "1" }],
                "secrets": [{ "name": "DB", "valueFrom": "/shop/db:2" }],
            },
        ]));
        let changes: Vec<String> = from.changes(&to).iter().map(Change::to_string).collect();
        assert_eq!(
            changes,
            [
                "+ containerDefinitions[proxy].image: p:1",
                "+ containerDefinitions[web].environment[DEPLOY_PLATFORM].value: ecs",
                "- containerDefinitions[web].environment[GONE].value: x",
                "~ containerDefinitions[web].image: i:1 -> i:2",
                "~ containerDefinitions[web].secrets[DB].valueFrom: /shop/db -> /shop/db:2",
            ]
        );
        assert!(from.changes(&from).is_empty());
    }
}
