//! Model of the CloudWatch API: the states of alarms.

use std::{collections::BTreeMap, sync::Mutex};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::wire::{Answer, ApiError, Call};
use crate::{clock::Clock, sync::lock};

/// The maximum number of names in one call, and of alarms on one page.
const LIMIT: usize = 100;
/// The number of alarms on a page by default.
const PAGE: usize = 50;

/// The alarms, by account, region and name.
#[derive(Debug, Default)]
pub(super) struct Alarms(Mutex<BTreeMap<(String, String, String), State>>);

#[derive(Debug)]
struct State {
    is_composite: bool,
    state: AlarmState,
    reason: String,
    updated: Timestamp,
}

/// The state of a CloudWatch alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlarmState {
    /// `OK`.
    Ok,
    /// `ALARM`.
    Alarm,
    /// `INSUFFICIENT_DATA`.
    InsufficientData,
}

impl AlarmState {
    fn as_str(self) -> &'static str {
        match self {
            AlarmState::Ok => "OK",
            AlarmState::Alarm => "ALARM",
            AlarmState::InsufficientData => "INSUFFICIENT_DATA",
        }
    }
}

/// An alarm, to create and change. See [`Aws::alarm`](super::Aws::alarm).
pub struct Alarm<'a> {
    alarms: &'a Alarms,
    clock: &'a Clock,
    key: (String, String, String),
    is_composite: bool,
}

impl<'a> Alarm<'a> {
    pub(super) fn new(alarms: &'a Alarms, clock: &'a Clock, key: (String, String, String)) -> Self {
        Alarm { alarms, clock, key, is_composite: false }
    }

    /// Makes it a composite alarm when it is [set](Self::set). It is a metric alarm otherwise.
    pub fn composite(mut self) -> Self {
        self.is_composite = true;
        self
    }

    /// Creates the alarm, or changes its state, at the time of the sandbox's clock.
    pub fn set(&self, state: AlarmState, reason: &str) {
        let (is_composite, updated) = (self.is_composite, self.clock.now());
        let state = State { is_composite, state, reason: reason.to_owned(), updated };
        lock(&self.alarms.0).insert(self.key.clone(), state);
    }

    /// Deletes the alarm.
    pub fn delete(&self) {
        lock(&self.alarms.0).remove(&self.key);
    }
}

impl Alarms {
    pub(super) fn call(&self, call: &Call) -> Answer {
        match call.operation.as_str() {
            "DescribeAlarms" => self.describe(call),
            _ => Err(call.unknown()),
        }
    }

    fn describe(&self, call: &Call) -> Answer {
        let texts = |member: &str| -> Vec<&str> {
            let items = call.input[member].as_array().into_iter().flatten();
            items.filter_map(Value::as_str).collect()
        };
        let (names, kinds) = (texts("AlarmNames"), texts("AlarmTypes"));
        let page = call.input["MaxRecords"].as_u64().map_or(PAGE, |page| page as usize);
        if names.len() > LIMIT || !(1..=LIMIT).contains(&page) {
            let message = "1 validation error detected: Member must have length less than or equal to 100";
            return Err(ApiError::new(400, "ValidationError", message));
        }
        let from = match call.text("NextToken") {
            "" => 0,
            token => {
                token.parse().map_err(|_| ApiError::new(400, "InvalidNextToken", "The token is invalid."))?
            }
        };
        // Without types, only metric alarms are returned, even if composite alarms have these names.
        let is_wanted = |name: &str, state: &State| {
            let named = names.is_empty() || names.contains(&name);
            let kind = if state.is_composite { "CompositeAlarm" } else { "MetricAlarm" };
            named && if kinds.is_empty() { !state.is_composite } else { kinds.contains(&kind) }
        };
        let alarms = lock(&self.0);
        let all = alarms.iter().filter(|((account, region, name), state)| {
            (account, region) == (&call.account, &call.region) && is_wanted(name, state)
        });
        let mut all = all.skip(from);
        let mut answer = json!({ "MetricAlarms": [], "CompositeAlarms": [] });
        for ((account, region, name), state) in all.by_ref().take(page) {
            let updated = state.updated.as_millisecond() as f64 / 1000.0;
            let alarm = json!({
                "AlarmName": name,
                "AlarmArn": format!("arn:aws:cloudwatch:{region}:{account}:alarm:{name}"),
                "StateValue": state.state.as_str(),
                "StateReason": state.reason,
                "StateUpdatedTimestamp": updated,
                "StateTransitionedTimestamp": updated,
                "ActionsEnabled": true,
            });
            let kind = if state.is_composite { "CompositeAlarms" } else { "MetricAlarms" };
            answer[kind].as_array_mut().expect("just created").push(alarm);
        }
        if all.next().is_some() {
            answer["NextToken"] = json!((from + page).to_string());
        }
        Ok(answer)
    }
}
