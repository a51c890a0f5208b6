//! One scheduled task as raw JSON: the target of an EventBridge rule, or a schedule of EventBridge Scheduler.

use std::fmt;

use bp_artifact::{deploy::ScheduledTask, text};
use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};
use serde_json::{Map, Value};

use crate::{error::Error, names::name_of};

/// The settings of a schedule in the response of GetSchedule that UpdateSchedule accepts.
///
/// Source: <https://docs.aws.amazon.com/scheduler/latest/APIReference/API_UpdateSchedule.html>
const ACCEPTED: [&str; 11] = [
    "ActionAfterCompletion",
    "Description",
    "EndDate",
    "FlexibleTimeWindow",
    "GroupName",
    "KmsKeyArn",
    "ScheduleExpression",
    "ScheduleExpressionTimezone",
    "StartDate",
    "State",
    "Target",
];
/// Members of GetSchedule's response that UpdateSchedule does not accept in its body.
const READ_ONLY: [&str; 4] = ["Arn", "CreationDate", "LastModificationDate", "Name"];
/// The end of the ARN of a schedule's universal target that calls `ecs:RunTask`, in any partition.
const UNIVERSAL: &str = ":scheduler:::aws-sdk:ecs:runTask";
/// The largest difference between two time zones.
const ANY_ZONE: SignedDuration = SignedDuration::from_hours(26);

/// The object that starts the tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    /// A target of an EventBridge rule.
    Rule { bus: String, rule: String, target: String },
    /// A schedule of EventBridge Scheduler.
    Schedule { group: String, name: String },
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Rule { bus, rule, target } => write!(f, "rule/{bus}/{rule}/{target}"),
            Key::Schedule { group, name } => write!(f, "schedule/{group}/{name}"),
        }
    }
}

/// When it starts tasks, and whether it does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Timing {
    /// `cron(…)`, `rate(…)`, `at(…)`; empty for a rule with an event pattern.
    pub(crate) expression: String,
    pub(crate) disabled: bool,
    /// The AWS service that manages the rule.
    pub(crate) managed_by: Option<String>,
}

/// A scheduled task, as it was read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    pub(crate) timing: Timing,
    /// The task definition as written: an ARN, with or without a revision.
    definition: String,
    /// The target of the rule, or the response of GetSchedule.
    raw: Map<String, Value>,
    /// Whether the task definition is written in the input of `ecs:RunTask`.
    universal: bool,
}

impl Entry {
    /// Reads a target of a rule. `None` if it starts no ECS tasks.
    pub(super) fn of_target(bus: &str, rule: &str, timing: &Timing, raw: Value) -> Option<Entry> {
        let definition = raw["EcsParameters"]["TaskDefinitionArn"].as_str()?.to_owned();
        let target = raw["Id"].as_str()?.to_owned();
        let key = Key::Rule { bus: bus.to_owned(), rule: rule.to_owned(), target };
        let Value::Object(raw) = raw else { return None };
        Some(Entry { key, timing: timing.clone(), definition, raw, universal: false })
    }

    /// Reads a response of GetSchedule. `None` if the schedule starts no ECS tasks.
    pub(super) fn of_schedule(group: &str, name: &str, raw: Value) -> Option<Entry> {
        let target = &raw["Target"];
        let universal = is_universal(target["Arn"].as_str().unwrap_or_default());
        let definition = match target["EcsParameters"]["TaskDefinitionArn"].as_str() {
            Some(definition) => definition.to_owned(),
            None if universal => input_of(target, ["TaskDefinition", "taskDefinition"])?,
            None => return None,
        };
        let timing = Timing {
            expression: raw["ScheduleExpression"].as_str().unwrap_or_default().to_owned(),
            disabled: raw["State"] == "DISABLED",
            managed_by: None,
        };
        let key = Key::Schedule { group: group.to_owned(), name: name.to_owned() };
        let Value::Object(raw) = raw else { return None };
        Some(Entry { key, timing, definition, raw, universal })
    }

    /// Whether its tasks run in this cluster.
    pub(super) fn is_in(&self, cluster: &str) -> bool {
        let target = self.raw.get("Target").unwrap_or(&Value::Null);
        if self.universal {
            let named = input_of(target, ["Cluster", "cluster"]);
            return name_of(named.as_deref().unwrap_or("default")) == name_of(cluster);
        }
        let arn = match self.key {
            Key::Rule { .. } => self.raw.get("Arn"),
            Key::Schedule { .. } => target.get("Arn"),
        };
        arn.and_then(Value::as_str) == Some(cluster)
    }

    /// The task definition as written.
    pub(crate) fn definition(&self) -> &str {
        &self.definition
    }

    /// The family, and the revision if one is written.
    pub(crate) fn short_definition(&self) -> &str {
        name_of(&self.definition)
    }

    /// The family of its task definition.
    pub(crate) fn family(&self) -> &str {
        family_of(&self.definition)
    }

    /// Whether it starts tasks of the latest active revision.
    pub(crate) fn is_unpinned(&self) -> bool {
        is_unpinned(&self.definition)
    }

    /// Whether it starts tasks of exactly this definition.
    pub(crate) fn runs(&self, definition: &str) -> bool {
        name_of(&self.definition) == name_of(definition)
    }

    /// For receipts.
    pub(crate) fn recorded(&self) -> ScheduledTask {
        ScheduledTask::new(self.key.to_string(), &self.definition)
    }

    /// Why it is left as it is, if it is not moved.
    pub(crate) fn fixed(&self, now: Timestamp) -> Option<String> {
        if self.universal {
            return Some("its target calls ecs:RunTask with an input of its own".to_owned());
        }
        if let Some(by) = &self.timing.managed_by {
            return Some(format!("the rule is managed by {}", text::single_line(by)));
        }
        self.is_over(now).then(|| "it has ended and starts no more tasks".to_owned())
    }

    /// Whether its end date or its only time has passed. Without the time zone's rules, a time counts as passed when it
    /// has passed in every zone.
    fn is_over(&self, now: Timestamp) -> bool {
        let ended = self.raw.get("EndDate").and_then(Value::as_f64).is_some_and(|end| end < seconds(now));
        let once = self.timing.expression.strip_prefix("at(").and_then(|rest| rest.strip_suffix(')'));
        let once = once.and_then(|time| time.trim().parse::<DateTime>().ok());
        let once = once.and_then(|time| time.to_zoned(TimeZone::UTC).ok());
        ended || once.is_some_and(|time| now.duration_since(time.timestamp()) > ANY_ZONE)
    }

    /// Whether its start date has passed: the schedule is active without it.
    pub(super) fn has_started(&self, now: Timestamp) -> bool {
        self.raw.get("StartDate").and_then(Value::as_f64).is_some_and(|start| start < seconds(now))
    }

    /// Returns an error if the schedule has members that this version does not know: replacing it could drop them. A
    /// target of either service is written in the form in which it is read, so its unknown members are sent back.
    pub(crate) fn check_known(&self) -> Result<(), Error> {
        if matches!(self.key, Key::Rule { .. }) {
            return Ok(());
        }
        let is_unknown = |name: &&String| {
            let name = name.as_str();
            !ACCEPTED.contains(&name) && !READ_ONLY.contains(&name)
        };
        let members: Vec<String> = self.raw.keys().filter(is_unknown).cloned().collect();
        if members.is_empty() {
            return Ok(());
        }
        Err(Error::UnknownScheduleMembers { schedule: self.key.to_string(), members })
    }

    /// The members that are written, with this task definition.
    pub(super) fn with_definition(&self, definition: &str) -> Map<String, Value> {
        let mut raw = self.writable();
        let target = match self.key {
            Key::Rule { .. } => Some(&mut raw),
            Key::Schedule { .. } => raw.get_mut("Target").and_then(Value::as_object_mut),
        };
        if let Some(target) = target {
            target["EcsParameters"]["TaskDefinitionArn"] = Value::String(definition.to_owned());
        }
        raw
    }

    /// The members that are written.
    fn writable(&self) -> Map<String, Value> {
        let is_written = |name: &str| matches!(self.key, Key::Rule { .. }) || !READ_ONLY.contains(&name);
        let members = self.raw.iter().filter(|(name, value)| is_written(name) && !value.is_null());
        members.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// The paths of the members, besides the task definition, in which it differs from `after`.
    pub(crate) fn differences(&self, after: &Entry) -> Vec<String> {
        let (before, after) = (self.with_definition(""), after.with_definition(""));
        let mut paths = Vec::new();
        differences("", &Value::Object(before), &Value::Object(after), &mut paths);
        paths
    }
}

/// Whether the ARN of a schedule's target is that of a call of `ecs:RunTask`.
pub(super) fn is_universal(arn: &str) -> bool {
    arn.ends_with(UNIVERSAL)
}

/// The family of a task definition's ARN, `family:revision` or family.
pub(crate) fn family_of(definition: &str) -> &str {
    let name = name_of(definition);
    name.split_once(':').map_or(name, |(family, _)| family)
}

/// Whether a task definition is written without a revision.
pub(crate) fn is_unpinned(definition: &str) -> bool {
    !name_of(definition).contains(':')
}

/// A text member of the input of a universal target.
fn input_of(target: &Value, names: [&str; 2]) -> Option<String> {
    let input: Value = serde_json::from_str(target["Input"].as_str()?).ok()?;
    names.iter().find_map(|name| Some(input.get(name)?.as_str()?.to_owned()))
}

fn seconds(time: Timestamp) -> f64 {
    time.as_millisecond() as f64 / 1000.0
}

fn differences(path: &str, before: &Value, after: &Value, found: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            let added = after.keys().filter(|name| !before.contains_key(*name));
            for name in before.keys().chain(added) {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let of = |members: &Map<String, Value>| members.get(name).cloned().unwrap_or_default();
                differences(&path, &of(before), &of(after), found);
            }
        }
        (Value::Number(before), Value::Number(after)) if before.as_f64() == after.as_f64() => {}
        (before, after) if before == after => {}
        _ => found.push(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const CLUSTER: &str = "arn:aws:ecs:eu-central-1:111111111111:cluster/shop";

    fn schedule(more: Value) -> Entry {
        let mut raw = json!({
            "Arn": "arn:aws:scheduler:eu-central-1:111111111111:schedule/default/nightly",
            "Name": "nightly", "GroupName": "default", "CreationDate": 1.5, "LastModificationDate": 2.5,
            "ScheduleExpression": "cron(0 2 * * ? *)", "State": "DISABLED", "FlexibleTimeWindow": { "Mode": "OFF" },
            "Target": { "Arn": CLUSTER, "RoleArn": "r", "Input": "{}", "EcsParameters": {
                "TaskDefinitionArn": "arn:aws:ecs:eu-central-1:111111111111:task-definition/web:41", "TaskCount": 1,
                "FutureMember": { "x": [1] },
            } },
        });
        raw.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Entry::of_schedule("default", "nightly", raw).unwrap()
    }

    #[test]
    fn only_the_task_definition_changes_and_read_only_members_are_not_sent() {
        let entry = schedule(json!({ "Description": null }));
        let sent = entry.with_definition("arn:x:task-definition/web:42");
        let mut expected = Value::Object(entry.raw.clone());
        for member in READ_ONLY.iter().chain(&["Description"]) {
            expected.as_object_mut().unwrap().remove(*member);
        }
        expected["Target"]["EcsParameters"]["TaskDefinitionArn"] = json!("arn:x:task-definition/web:42");
        assert_eq!(Value::Object(sent), expected);
    }

    #[test]
    fn unknown_members_of_the_schedule_are_refused_and_of_its_target_kept() {
        assert!(schedule(json!({})).check_known().is_ok());
        let error = schedule(json!({ "Jitter": 3 })).check_known().unwrap_err().to_string();
        assert!(error.contains("schedule/default/nightly") && error.contains("Jitter"), "{error}");
    }

    #[test]
    fn differences_are_listed_by_path_without_the_task_definition_and_times() {
        let before = schedule(json!({ "StartDate": 5 }));
        let mut after = schedule(json!({ "StartDate": 5.0, "LastModificationDate": 9, "State": "ENABLED" }));
        after.raw["Target"]["EcsParameters"]["TaskDefinitionArn"] = json!("web:42");
        after.raw["Target"]["EcsParameters"].as_object_mut().unwrap().remove("FutureMember");
        let mut found = before.differences(&after);
        found.sort();
        assert_eq!(found, ["State", "Target.EcsParameters.FutureMember"]);
    }

    #[test]
    fn a_schedule_is_over_after_its_end_and_a_single_time_in_every_time_zone() {
        let now: Timestamp = "2026-11-29T12:00:00Z".parse().unwrap();
        let at = |time: &str| schedule(json!({ "ScheduleExpression": format!("at({time})") })).fixed(now);
        assert!(at("2026-11-27T12:00:00").is_some());
        assert_eq!(at("2026-11-29T11:00:00"), None, "not over in other time zones");
        assert_eq!(at("2027-01-01T00:00:00"), None);
        assert!(schedule(json!({ "EndDate": 1_700_000_000 })).fixed(now).is_some());
        assert_eq!(schedule(json!({ "EndDate": 1_900_000_000 })).fixed(now), None);
        assert!(schedule(json!({ "StartDate": 1_700_000_000 })).has_started(now));
        assert!(!schedule(json!({ "StartDate": 1_900_000_000 })).has_started(now));
    }

    #[test]
    fn reads_the_definition_of_a_universal_target_and_does_not_move_it() {
        let target = |input: Value| {
            json!({ "Target": {
                "Arn": "arn:aws-us-gov:scheduler:::aws-sdk:ecs:runTask", "RoleArn": "r", "Input": input.to_string(),
            } })
        };
        let entry = schedule(target(json!({ "Cluster": "shop", "TaskDefinition": "web" })));
        assert_eq!((entry.family(), entry.is_unpinned(), entry.is_in(CLUSTER)), ("web", true, true));
        assert!(entry.fixed(Timestamp::UNIX_EPOCH).is_some());
        assert!(!schedule(target(json!({ "Cluster": "other", "TaskDefinition": "web:3" }))).is_in(CLUSTER));
    }

    #[test]
    fn a_family_is_not_a_prefix() {
        for (definition, family, unpinned) in [
            ("arn:aws:ecs:eu-central-1:1:task-definition/web:41", "web", false),
            ("arn:aws-cn:ecs:cn-north-1:1:task-definition/web-admin", "web-admin", true),
            ("web:3", "web", false),
        ] {
            assert_eq!((family_of(definition), is_unpinned(definition)), (family, unpinned));
        }
    }
}
