//! The columns of custom resources: `additionalPrinterColumns`.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{super::definition::Definition, age::since, columns::column};

/// The name, then the columns of the definition, or the age if it has none.
pub(super) fn columns(definition: &Definition) -> Value {
    let mut columns = vec![column("Name", 0)];
    for own in &definition.columns {
        let mut shown = own.clone();
        if let Some(map) = shown.as_object_mut() {
            map.remove("jsonPath");
            for field in ["format", "description"] {
                map.entry(field).or_insert_with(|| json!(""));
            }
            map.entry("priority").or_insert_with(|| json!(0));
        }
        columns.push(shown);
    }
    if definition.columns.is_empty() {
        columns.push(column("Age", 0));
    }
    json!(columns)
}

pub(super) fn cells(definition: &Definition, object: &Value, now: Timestamp) -> Vec<Value> {
    let mut cells = vec![object["metadata"]["name"].clone()];
    for own in &definition.columns {
        let found = find(object, own["jsonPath"].as_str().unwrap_or_default());
        cells.push(match (own["type"].as_str(), found) {
            (_, None) => json!("<none>"),
            (Some("date"), Some(at)) => json!(since(at, now)),
            (_, Some(value)) if value.is_object() || value.is_array() => json!(value.to_string()),
            (_, Some(value)) => value.clone(),
        });
    }
    if definition.columns.is_empty() {
        cells.push(json!(since(&object["metadata"]["creationTimestamp"], now)));
    }
    cells
}

/// The value at a JSON path of fields, indexes and filters by equality: `.status.conditions[?(@.type=="Ready")].status`.
fn find<'v>(object: &'v Value, path: &str) -> Option<&'v Value> {
    let (mut at, mut rest) = (object, path);
    while !rest.is_empty() {
        if let Some(filter) = rest.strip_prefix("[?(@.") {
            let (condition, after) = filter.split_once(")]")?;
            let (field, value) = condition.split_once("==")?;
            let value = value.trim().trim_matches(['"', '\'']);
            at = at.as_array()?.iter().find(|item| item[field.trim()] == value)?;
            rest = after;
        } else if let Some(index) = rest.strip_prefix('[') {
            let (index, after) = index.split_once(']')?;
            at = match index.parse::<usize>() {
                Ok(index) => at.get(index)?,
                Err(_) => at.get(index.trim_matches(['"', '\'']))?,
            };
            rest = after;
        } else {
            rest = rest.strip_prefix('.').unwrap_or(rest);
            let mut end = 0;
            // A dot that belongs to a name is escaped.
            while let Some(c) = rest[end..].chars().next().filter(|c| !matches!(c, '.' | '[')) {
                end += c.len_utf8();
                if c == '\\' && rest[end..].starts_with('.') {
                    end += 1;
                }
            }
            let name = rest[..end].replace("\\.", ".");
            at = at.get(&name)?;
            rest = &rest[end..];
        }
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_values_by_path() {
        let object = json!({
            "metadata": { "annotations": { "example.com/a": "b" } },
            "spec": { "parts": [{ "name": "x" }] },
            "status": { "conditions": [{ "type": "Other", "status": "False" }, { "type": "Ready", "status": "True" }] },
        });
        for (path, expected) in [
            (".spec.parts[0].name", Some("x")),
            (".status.conditions[?(@.type==\"Ready\")].status", Some("True")),
            (".status.conditions[?(@.type=='Ready')].status", Some("True")),
            (".metadata.annotations.example\\.com/a", Some("b")),
            (".metadata.annotations['example.com/a']", Some("b")),
            (".spec.none", None),
            (".spec.parts[7].name", None),
            (".spec.parts[?(@.name", None),
            ("..", None),
        ] {
            assert_eq!(find(&object, path).and_then(Value::as_str), expected, "{path}");
        }
    }
}
