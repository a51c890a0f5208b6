//! Preserve unknown fields and values when a receipt of a later minor version is rewritten.

use serde_json::{Map, Value};

/// The field with the targets, and the field that identifies a target.
const TARGETS: &str = "targets";
const TARGET: &str = "target";

/// The document as read, and as parsed by this version. Empty if nothing was lost in parsing.
///
/// Unknown fields and unknown enum values (a verdict, a cause) are lost in parsing. A field that was not replaced since
/// is written as it was read; unknown fields are kept.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Origin(Option<Box<Documents>>);

#[derive(Debug, Clone, PartialEq)]
struct Documents {
    read: Value,
    parsed: Value,
}

impl Origin {
    /// Compares the document as read with the document as parsed.
    pub(super) fn new(read: Value, parsed: Value) -> Self {
        Origin((read != parsed).then(|| Box::new(Documents { read, parsed })))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Drops these fields of the document and of each target: a new run writes its own.
    pub(super) fn forget(&mut self, members: &[&str], of_targets: &[&str]) {
        let Some(documents) = &mut self.0 else { return };
        for document in [&mut documents.read, &mut documents.parsed] {
            let Some(fields) = document.as_object_mut() else { continue };
            fields.retain(|name, _| !members.contains(&name.as_str()));
            let targets = fields.get_mut(TARGETS).and_then(Value::as_array_mut);
            for target in targets.into_iter().flatten().filter_map(Value::as_object_mut) {
                target.retain(|name, _| !of_targets.contains(&name.as_str()));
            }
        }
    }

    /// `now` with everything that was read, lost in parsing and not replaced since.
    pub(super) fn restore(&self, now: Value) -> Value {
        let Some(documents) = &self.0 else { return now };
        merge_fields(&documents.read, &documents.parsed, now, |name, read, parsed, now| match now {
            Value::Array(entries) if name == TARGETS => {
                let entry = |entry| {
                    let (read, parsed) = (same_target(read, &entry), same_target(parsed, &entry));
                    merge_fields(read, parsed, entry, |_, _, _, now| now)
                };
                entries.into_iter().map(entry).collect()
            }
            now => now,
        })
    }
}

/// The entry of this list for the same target as `entry`.
fn same_target<'a>(list: &'a Value, entry: &Value) -> &'a Value {
    let mut entries = list.as_array().into_iter().flatten();
    entries.find(|candidate| candidate[TARGET] == entry[TARGET]).unwrap_or(&Value::Null)
}

/// Merges the fields of an object. Fields that were replaced since are passed to `changed`, with their name.
fn merge_fields(
    read: &Value,
    parsed: &Value,
    now: Value,
    changed: impl Fn(&str, &Value, &Value, Value) -> Value,
) -> Value {
    let (Value::Object(read), Value::Object(parsed), Value::Object(now)) = (read, parsed, &now) else {
        return now;
    };
    let member = |(name, value): (&String, &Value)| {
        let value = match (read.get(name), parsed.get(name)) {
            (Some(read), Some(parsed)) if parsed == value => read.clone(),
            (Some(read), Some(parsed)) => changed(name, read, parsed, value.clone()),
            _ => value.clone(),
        };
        (name.clone(), value)
    };
    let mut merged: Map<String, Value> = now.iter().map(member).collect();
    let unknown = read.iter().filter(|(name, _)| !parsed.contains_key(*name) && !now.contains_key(*name));
    merged.extend(unknown.map(|(name, value)| (name.clone(), value.clone())));
    Value::Object(merged)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn origin() -> Origin {
        let read = json!({
            "schema": "1.1", "verdict": "half", "later": { "a": [1] },
            "targets": [
                { "target": "a", "outcome": { "verdict": "half", "took": 3 }, "zone": "b" },
                { "target": "b", "outcome": { "verdict": "deployed", "took": 4 } },
            ],
        });
        let parsed = json!({
            "schema": "1.1", "verdict": "unobserved",
            "targets": [
                { "target": "a", "outcome": { "verdict": "unobserved" } },
                { "target": "b", "outcome": { "verdict": "deployed" } },
            ],
        });
        Origin::new(read, parsed)
    }

    #[test]
    fn writes_unchanged_fields_as_they_were_read() {
        let Origin(Some(documents)) = origin() else { panic!("the document has unknown fields") };
        assert_eq!(origin().restore(documents.parsed.clone()), documents.read);
        assert!(Origin::new(json!({ "a": 1 }), json!({ "a": 1 })).is_empty());
        assert_eq!(Origin::default().restore(json!({ "a": 1 })), json!({ "a": 1 }));
    }

    #[test]
    fn does_not_restore_replaced_or_removed_fields() {
        let now = json!({
            "schema": "1.1",
            "targets": [
                { "target": "b", "outcome": { "verdict": "deployed" }, "restored": { "verdict": "deployed" } },
                { "target": "a", "outcome": { "verdict": "deployed" } },
            ],
        });
        let expected = json!({
            "schema": "1.1", "later": { "a": [1] },
            "targets": [
                {
                    "target": "b", "outcome": { "verdict": "deployed", "took": 4 },
                    "restored": { "verdict": "deployed" },
                },
                { "target": "a", "outcome": { "verdict": "deployed" }, "zone": "b" },
            ],
        });
        assert_eq!(origin().restore(now), expected);
    }

    #[test]
    fn drops_fields_that_a_new_run_writes() {
        let mut origin = origin();
        origin.forget(&["verdict"], &["outcome"]);
        let now = json!({
            "schema": "1.1", "verdict": "unobserved",
            "targets": [{ "target": "a", "outcome": { "verdict": "unobserved" } }],
        });
        let mut expected = now.clone();
        expected["later"] = json!({ "a": [1] });
        expected["targets"][0]["zone"] = json!("b");
        assert_eq!(origin.restore(now), expected);
    }
}
