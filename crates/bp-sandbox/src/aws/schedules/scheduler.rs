//! EventBridge Scheduler: schedules in groups.

use std::{collections::BTreeMap, sync::Mutex};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::parameters::{Place, ecs_parameters, invalid, page, place};
use crate::{
    aws::{
        context::Context,
        wire::{Answer, ApiError, Call, text},
    },
    sync::lock,
};

/// The maximum number of schedules on a page.
const PAGE: usize = 100;
/// How long ago a schedule may start, in seconds.
const EARLIEST_START: f64 = 300.0;
/// The members of a schedule that a request sets; one that a request lacks gets its default.
const MEMBERS: [&str; 10] = [
    "ActionAfterCompletion",
    "Description",
    "EndDate",
    "FlexibleTimeWindow",
    "KmsKeyArn",
    "ScheduleExpression",
    "ScheduleExpressionTimezone",
    "StartDate",
    "State",
    "Target",
];

/// The schedules by group and name, as GetSchedule shows them.
type Schedules = BTreeMap<(String, String), Value>;

/// The service.
#[derive(Debug, Default)]
pub(in crate::aws) struct Scheduler(Mutex<BTreeMap<Place, Schedules>>);

impl Scheduler {
    pub(in crate::aws) fn call(&self, context: &Context, call: &Call) -> Answer {
        let here = place(call);
        let name = call.path.get(1).map_or("", String::as_str);
        match call.operation.as_str() {
            "ListSchedules" => self.list(call),
            "GetSchedule" => {
                let group = or_default(call.text("groupName"));
                self.get(&here, &group, name).ok_or_else(|| not_found(name))
            }
            "UpdateSchedule" => {
                if call.input["Target"]["RoleArn"].is_string() {
                    context.authorize_action(call, "iam:PassRole")?;
                }
                let (now, group) = (context.clock.now(), or_default(call.text("GroupName")));
                let earlier = self.get(&here, &group, name).ok_or_else(|| not_found(name))?;
                let schedule = checked(&here, now, &group, name, &call.input, Some(&earlier))?;
                let arn = schedule["Arn"].clone();
                self.with(&here, |schedules| schedules.insert((group, name.to_owned()), schedule));
                Ok(json!({ "ScheduleArn": arn }))
            }
            _ => Err(call.unknown()),
        }
    }

    fn with<T>(&self, here: &Place, work: impl FnOnce(&mut Schedules) -> T) -> T {
        work(lock(&self.0).entry(here.clone()).or_default())
    }

    fn list(&self, call: &Call) -> Answer {
        let limit = match call.text("MaxResults") {
            "" => PAGE,
            limit => limit.parse().ok().filter(|limit| (1..=PAGE).contains(limit)).ok_or_else(|| {
                invalid("1 validation error detected: Value at 'maxResults' failed to satisfy constraint")
            })?,
        };
        let (group, prefix, state) =
            (call.text("ScheduleGroup"), call.text("NamePrefix"), call.text("State"));
        let all: Vec<Value> = self.with(&place(call), |schedules| {
            let is_wanted = |(key, schedule): &(&(String, String), &Value)| {
                (group.is_empty() || key.0 == group)
                    && key.1.starts_with(prefix)
                    && (state.is_empty() || schedule["State"] == state)
            };
            schedules.iter().filter(is_wanted).map(|(_, schedule)| summary(schedule)).collect()
        });
        let (schedules, next) = page(&all, call.text("NextToken"), limit)?;
        Ok(json!({ "Schedules": schedules, "NextToken": next }))
    }

    pub(super) fn create(
        &self,
        here: &Place,
        now: Timestamp,
        group: &str,
        name: &str,
        input: &Value,
    ) -> Result<(), ApiError> {
        let schedule = checked(here, now, group, name, input, None)?;
        self.with(here, |schedules| schedules.insert((group.to_owned(), name.to_owned()), schedule));
        Ok(())
    }

    pub(super) fn set(&self, here: &Place, group: &str, name: &str, members: Value) {
        self.with(here, |schedules| {
            let schedule = schedules.get_mut(&(group.to_owned(), name.to_owned()));
            let schedule = schedule.and_then(Value::as_object_mut);
            if let (Some(schedule), Value::Object(members)) = (schedule, members) {
                schedule.extend(members);
            }
        });
    }

    pub(super) fn get(&self, here: &Place, group: &str, name: &str) -> Option<Value> {
        self.with(here, |schedules| schedules.get(&(group.to_owned(), name.to_owned())).cloned())
    }

    pub(super) fn delete(&self, here: &Place, group: &str, name: &str) {
        self.with(here, |schedules| schedules.remove(&(group.to_owned(), name.to_owned())));
    }
}

/// A schedule as it is stored: only the members of the request, and defaults.
fn checked(
    here: &Place,
    now: Timestamp,
    group: &str,
    name: &str,
    input: &Value,
    earlier: Option<&Value>,
) -> Result<Value, ApiError> {
    let (account, region) = here;
    let now = now.as_millisecond() as f64 / 1000.0;
    for member in ["FlexibleTimeWindow", "ScheduleExpression", "Target"] {
        if input[member].is_null() {
            let member = format!("{}{}", member[..1].to_lowercase(), &member[1..]);
            return Err(invalid(format!(
                "1 validation error detected: Value null at '{member}' failed to satisfy constraint: Member must not \
                 be null"
            )));
        }
    }
    let expression = text(input, "ScheduleExpression");
    let forms = ["at(", "cron(", "rate("];
    if !forms.iter().any(|form| expression.starts_with(form)) || !expression.ends_with(')') {
        return Err(invalid(format!("Invalid Schedule Expression {expression}.")));
    }
    let (start, end) = (input["StartDate"].as_f64(), input["EndDate"].as_f64());
    if !expression.starts_with("at(") && start.is_some_and(|start| start < now - EARLIEST_START) {
        return Err(invalid("The StartDate you specify cannot be earlier than 5 minutes ago."));
    }
    if let (Some(start), Some(end)) = (start, end)
        && end <= start
    {
        return Err(invalid("The EndDate you specify must come after the StartDate."));
    }
    let mut schedule = json!({
        "Name": name, "GroupName": group, "State": "ENABLED", "ActionAfterCompletion": "NONE",
        "ScheduleExpressionTimezone": "UTC",
        "Arn": format!("arn:aws:scheduler:{region}:{account}:schedule/{group}/{name}"),
        "CreationDate": earlier.map_or(json!(now), |earlier| earlier["CreationDate"].clone()),
        "LastModificationDate": now,
    });
    for member in MEMBERS.iter().filter(|member| !input[**member].is_null()) {
        schedule[*member] = input[*member].clone();
    }
    let target = &mut schedule["Target"];
    if text(target, "Arn").is_empty() || text(target, "RoleArn").is_empty() {
        return Err(invalid("1 validation error detected: Value null at 'target.roleArn' failed"));
    }
    if text(target, "Arn").contains(":ecs:") && text(target, "Arn").contains(":cluster/") {
        if !target["EcsParameters"].is_object() {
            return Err(invalid("EcsParameters is required for target of type ECS."));
        }
        ecs_parameters(&mut target["EcsParameters"])?;
    }
    for (member, default) in [("MaximumEventAgeInSeconds", 86_400), ("MaximumRetryAttempts", 185)] {
        if target["RetryPolicy"][member].is_null() {
            target["RetryPolicy"][member] = json!(default);
        }
    }
    Ok(schedule)
}

fn summary(schedule: &Value) -> Value {
    json!({
        "Arn": schedule["Arn"], "Name": schedule["Name"], "GroupName": schedule["GroupName"],
        "State": schedule["State"], "CreationDate": schedule["CreationDate"],
        "LastModificationDate": schedule["LastModificationDate"],
        "Target": { "Arn": schedule["Target"]["Arn"] },
    })
}

fn or_default(group: &str) -> String {
    if group.is_empty() { "default".to_owned() } else { group.to_owned() }
}

fn not_found(name: &str) -> ApiError {
    ApiError::new(404, "ResourceNotFoundException", format!("Schedule {name} does not exist."))
}
