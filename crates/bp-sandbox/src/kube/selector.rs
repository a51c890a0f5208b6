//! Label selectors and field selectors.

use serde_json::Value;

/// A selector of objects: all label and field requirements must match.
#[derive(Debug, Clone, Default)]
pub(super) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<(String, bool, String)>,
}

#[derive(Debug, Clone)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Missing(String),
}

impl Selector {
    /// Reads the query parameters `labelSelector` and `fieldSelector`.
    pub(super) fn read(labels: &str, fields: &str) -> Self {
        Selector {
            labels: split(labels).iter().filter_map(|text| requirement(text)).collect(),
            fields: fields.split(',').filter_map(field).collect(),
        }
    }

    pub(super) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        let label = |requirement: &Requirement| match requirement {
            Requirement::In(key, values) => {
                labels[key].as_str().is_some_and(|v| values.iter().any(|w| w == v))
            }
            Requirement::NotIn(key, values) => {
                labels[key].as_str().is_none_or(|v| values.iter().all(|w| w != v))
            }
            Requirement::Exists(key) => !labels[key].is_null(),
            Requirement::Missing(key) => labels[key].is_null(),
        };
        let field = |(path, equal, value): &(String, bool, String)| {
            let found = path.split('.').fold(object, |at, name| &at[name]);
            let text = match found {
                Value::String(text) => text.clone(),
                Value::Null => String::new(),
                other => other.to_string(),
            };
            (text == *value) == *equal
        };
        self.labels.iter().all(label) && self.fields.iter().all(field)
    }
}

/// Whether a `LabelSelector` object matches these labels.
pub(super) fn selects(selector: &Value, labels: &Value) -> bool {
    let equal = |(key, value): (&String, &Value)| labels[key] == *value;
    let expression = |e: &Value| {
        let label = e["key"].as_str().map_or(&Value::Null, |key| &labels[key]);
        let listed = || e["values"].as_array().is_some_and(|values| values.contains(label));
        match e["operator"].as_str() {
            Some("In") => listed(),
            Some("NotIn") => !listed(),
            Some("Exists") => !label.is_null(),
            Some("DoesNotExist") => label.is_null(),
            _ => false,
        }
    };
    selector["matchLabels"].as_object().is_none_or(|m| m.iter().all(equal))
        && selector["matchExpressions"].as_array().is_none_or(|m| m.iter().all(expression))
}

/// Splits at commas outside parentheses.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0;
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().expect("never empty").push(c);
    }
    parts
}

fn requirement(text: &str) -> Option<Requirement> {
    let text = text.trim();
    let set = |list: &str| -> Vec<String> {
        list.trim().trim_matches(['(', ')']).split(',').map(|v| v.trim().to_owned()).collect()
    };
    if text.is_empty() {
        return None;
    }
    if let Some((key, list)) = text.split_once(" notin ") {
        return Some(Requirement::NotIn(key.trim().to_owned(), set(list)));
    }
    if let Some((key, list)) = text.split_once(" in ") {
        return Some(Requirement::In(key.trim().to_owned(), set(list)));
    }
    if let Some((key, value)) = text.split_once("!=") {
        return Some(Requirement::NotIn(key.trim().to_owned(), vec![value.trim().to_owned()]));
    }
    if let Some((key, value)) = text.split_once('=') {
        let value = value.trim_start_matches('=').trim();
        return Some(Requirement::In(key.trim().to_owned(), vec![value.to_owned()]));
    }
    Some(match text.strip_prefix('!') {
        Some(key) => Requirement::Missing(key.to_owned()),
        None => Requirement::Exists(text.to_owned()),
    })
}

fn field(text: &str) -> Option<(String, bool, String)> {
    if let Some((path, value)) = text.split_once("!=") {
        return Some((path.to_owned(), false, value.to_owned()));
    }
    let (path, value) = text.split_once('=')?;
    Some((path.to_owned(), true, value.trim_start_matches('=').to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selects_by_labels_and_fields() {
        let object = json!({
            "metadata": { "name": "web", "labels": { "app": "web", "tier": "front" } },
            "type": "Warning",
        });
        for (labels, fields, matches) in [
            ("", "", true),
            ("app=web", "", true),
            ("app==web,tier!=back", "", true),
            ("app in (api, web),tier notin (back)", "", true),
            ("app,!canary", "", true),
            ("app=api", "", false),
            ("!app", "", false),
            ("", "metadata.name=web", true),
            ("", "metadata.name=web,type!=Normal", true),
            ("", "metadata.name!=web", false),
            ("app=web", "type=Normal", false),
        ] {
            assert_eq!(Selector::read(labels, fields).matches(&object), matches, "{labels} {fields}");
        }
    }
}
