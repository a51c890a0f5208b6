//! Rewriting a receipt of a later minor version without losing what this version does not know.

use serde_json::{Map, Value};

/// The member that holds the targets, and the one that identifies each of them.
const TARGETS: &str = "targets";
const TARGET: &str = "target";

/// A document as it was read, beside what this version understood of it. Empty when it understood all of it.
///
/// Unknown members and values of closed sets (a verdict, a cause) are lost in the types. Where this version has not
/// replaced a member since, the member is written as it was read; members that it does not know stay.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Origin(Option<Box<Documents>>);

#[derive(Debug, Clone, PartialEq)]
struct Documents {
    read: Value,
    understood: Value,
}

impl Origin {
    /// Compares what was read with what the types made of it.
    pub(super) fn new(read: Value, understood: Value) -> Self {
        Origin((read != understood).then(|| Box::new(Documents { read, understood })))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Forgets these members of the document and of each target: a new run writes its own.
    pub(super) fn forget(&mut self, members: &[&str], of_targets: &[&str]) {
        let Some(documents) = &mut self.0 else { return };
        for document in [&mut documents.read, &mut documents.understood] {
            let Some(fields) = document.as_object_mut() else { continue };
            fields.retain(|name, _| !members.contains(&name.as_str()));
            let targets = fields.get_mut(TARGETS).and_then(Value::as_array_mut);
            for target in targets.into_iter().flatten().filter_map(Value::as_object_mut) {
                target.retain(|name, _| !of_targets.contains(&name.as_str()));
            }
        }
    }

    /// `now` with everything that was read, not understood and not replaced since.
    pub(super) fn restore(&self, now: Value) -> Value {
        let Some(documents) = &self.0 else { return now };
        members(&documents.read, &documents.understood, now, |name, read, understood, now| match now {
            Value::Array(entries) if name == TARGETS => {
                let entry = |entry| {
                    let (read, understood) = (same(read, &entry), same(understood, &entry));
                    members(read, understood, entry, |_, _, _, now| now)
                };
                entries.into_iter().map(entry).collect()
            }
            now => now,
        })
    }
}

/// The target of this list that is `entry`.
fn same<'a>(list: &'a Value, entry: &Value) -> &'a Value {
    let mut entries = list.as_array().into_iter().flatten();
    entries.find(|candidate| candidate[TARGET] == entry[TARGET]).unwrap_or(&Value::Null)
}

/// Merges the members of an object. Those that were changed since go through `changed`, with their name.
fn members(
    read: &Value,
    understood: &Value,
    now: Value,
    changed: impl Fn(&str, &Value, &Value, Value) -> Value,
) -> Value {
    let (Value::Object(read), Value::Object(understood), Value::Object(now)) = (read, understood, &now)
    else {
        return now;
    };
    let member = |(name, value): (&String, &Value)| {
        let value = match (read.get(name), understood.get(name)) {
            (Some(read), Some(understood)) if understood == value => read.clone(),
            (Some(read), Some(understood)) => changed(name, read, understood, value.clone()),
            _ => value.clone(),
        };
        (name.clone(), value)
    };
    let mut merged: Map<String, Value> = now.iter().map(member).collect();
    let unknown = read.iter().filter(|(name, _)| !understood.contains_key(*name) && !now.contains_key(*name));
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
        let understood = json!({
            "schema": "1.1", "verdict": "unobserved",
            "targets": [
                { "target": "a", "outcome": { "verdict": "unobserved" } },
                { "target": "b", "outcome": { "verdict": "deployed" } },
            ],
        });
        Origin::new(read, understood)
    }

    #[test]
    fn what_was_not_touched_is_written_as_it_was_read() {
        let Origin(Some(documents)) = origin() else { panic!("it was not all understood") };
        assert_eq!(origin().restore(documents.understood.clone()), documents.read);
        assert!(Origin::new(json!({ "a": 1 }), json!({ "a": 1 })).is_empty());
        assert_eq!(Origin::default().restore(json!({ "a": 1 })), json!({ "a": 1 }));
    }

    #[test]
    fn what_was_replaced_or_removed_is_not_brought_back() {
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
    fn what_a_new_run_writes_itself_is_forgotten() {
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
