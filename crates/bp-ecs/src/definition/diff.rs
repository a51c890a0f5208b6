//! Differences between two task definitions, for display.

use bp_artifact::deploy::Change;

use super::{TaskDefinition, normal};

impl TaskDefinition {
    /// The changes from this definition to `wanted`, in order of their paths. Empty when they are
    /// [the same](Self::is_same).
    pub fn changes(&self, wanted: &TaskDefinition) -> Vec<Change> {
        Change::between(&normal::form(&self.input), &normal::form(&wanted.input))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(containers: Value) -> TaskDefinition {
        let json = json!({ "family": "web", "memory": "512", "containerDefinitions": containers });
        TaskDefinition::from_json("test", &json.to_string()).unwrap()
    }

    #[test]
    fn lists_only_the_changes() {
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
