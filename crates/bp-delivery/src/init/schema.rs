//! The type of a setting in `bp.toml`, from its JSON Schema.

use bp_artifact::config::config_schema;
use serde_json::Value;

/// How the value of a setting is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Number,
    /// A number, or a percentage in quotes.
    NumberOrText,
    True,
    List,
}

/// Whether `bp.toml` has this setting in an environment.
pub(crate) fn is_setting(key: &str) -> bool {
    form(key).is_some()
}

/// The form of a setting of an environment. `None` if there is no such setting.
pub(super) fn form(key: &str) -> Option<Form> {
    let schema = config_schema();
    let mut at = schema.pointer("/properties/environment/items")?;
    for segment in segments(key) {
        at = match at.get("properties").and_then(|properties| properties.get(&segment)) {
            Some(below) => below,
            None => at.get("additionalProperties").filter(|below| below.is_object())?,
        };
    }
    if at.get("anyOf").is_some() {
        return Some(Form::NumberOrText);
    }
    if at.get("const") == Some(&Value::Bool(true)) {
        return Some(Form::True);
    }
    if at.get("enum").is_some() {
        return Some(Form::Text);
    }
    match at.get("type")?.as_str()? {
        "string" => Some(Form::Text),
        "integer" => Some(Form::Number),
        "array" => Some(Form::List),
        _ => None,
    }
}

/// The tables of names, in which a name may contain dots.
const OPEN: [&str; 12] = [
    "ecs.environment",
    "ecs.secrets",
    "ecs.log-options",
    "ecs.images",
    "ecs.before",
    "ecs.after",
    "eks.environment",
    "eks.set",
    "eks.set-string",
    "eks.set-file",
    "eks.set-json",
    "tags",
];

/// The segments of a key, such as `eks`, `set`, `image.pullPolicy`.
pub(super) fn segments(key: &str) -> Vec<String> {
    for table in OPEN {
        if let Some(name) = key.strip_prefix(table).and_then(|rest| rest.strip_prefix('.')) {
            return table.split('.').chain([name]).map(str::to_owned).collect();
        }
    }
    key.split('.').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_form_of_every_kind_of_setting() {
        for (key, expected) in [
            ("region", Some(Form::Text)),
            ("ecs.cluster", Some(Form::Text)),
            ("deploy.on-failure", Some(Form::Text)),
            ("limits.failures", Some(Form::NumberOrText)),
            ("limits.transfers", Some(Form::Number)),
            ("tags.Team", Some(Form::Text)),
            ("eks.set.image.pullPolicy", Some(Form::Text)),
            ("ecs.before.migrate", Some(Form::List)),
            ("gate.go-live.approval", Some(Form::True)),
            ("gate.smoke.url", Some(Form::Text)),
            ("eks.traffic.steps", Some(Form::Text)),
            ("regions", None),
            ("ecs", None),
            ("ecs.", None),
            ("", None),
            ("gate.smoke", None),
        ] {
            assert_eq!(form(key), expected, "{key}");
        }
    }

    /// Every open table of the schema is listed.
    #[test]
    fn lists_every_table_with_names_of_the_user() {
        fn open(schema: &Value, path: &str, found: &mut Vec<String>) {
            let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
            for (name, below) in properties {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let names = below.get("additionalProperties").filter(|names| names.is_object());
                if names.is_some_and(|names| names.get("properties").is_none()) {
                    found.push(path.clone());
                }
                open(below, &path, found);
            }
        }
        let mut found = Vec::new();
        open(config_schema().pointer("/properties/environment/items").unwrap(), "", &mut found);
        found.sort();
        let mut listed = OPEN.map(str::to_owned).to_vec();
        listed.sort();
        assert_eq!(found, listed);
    }
}
