//! Targets of EventBridge rules.

use serde_json::{Map, Value, json};

use aws_smithy_types::body::SdkBody;

use super::{
    Schedules,
    entry::{Entry, Key, Timing},
    pages::{PAGES, too_many_pages},
};
use crate::{definition::Capture, error::Error};

const PUT_TARGETS: &str = "events:PutTargets";

impl Schedules {
    /// `events:ListEventBuses`: the names of all event buses.
    pub(super) async fn event_buses(&self) -> Result<Vec<String>, Error> {
        const OPERATION: &str = "events:ListEventBuses";
        let (mut names, mut token) = (Vec::new(), None);
        for _ in 0..PAGES {
            let call = self.events.list_event_buses().set_next_token(token);
            let response = call.send().await.map_err(|error| Error::of_call(OPERATION, error))?;
            names.extend(response.event_buses.unwrap_or_default().into_iter().filter_map(|bus| bus.name));
            token = response.next_token;
            if token.is_none() {
                return Ok(names);
            }
        }
        Err(too_many_pages(OPERATION))
    }

    /// `events:ListRuleNamesByTarget`: the rules of a bus that have this cluster as a target.
    pub(super) async fn rules_with(&self, bus: &str, cluster: &str) -> Result<Vec<String>, Error> {
        const OPERATION: &str = "events:ListRuleNamesByTarget";
        let (mut names, mut token) = (Vec::new(), None);
        for _ in 0..PAGES {
            let call = self.events.list_rule_names_by_target().target_arn(cluster).event_bus_name(bus);
            let sent = call.set_next_token(token).send().await;
            let response = sent.map_err(|error| Error::of_call(OPERATION, error))?;
            names.extend(response.rule_names.unwrap_or_default());
            token = response.next_token;
            if token.is_none() {
                return Ok(names);
            }
        }
        Err(too_many_pages(OPERATION))
    }

    /// `events:DescribeRule`. `None` when the rule does not exist.
    pub(super) async fn timing(&self, bus: &str, rule: &str) -> Result<Option<Timing>, Error> {
        let sent = self.events.describe_rule().name(rule).event_bus_name(bus).send().await;
        let described = match sent.map_err(|error| Error::of_call("events:DescribeRule", error)) {
            Ok(described) => described,
            Err(error) if error.code() == Some("ResourceNotFoundException") => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(Timing {
            expression: described.schedule_expression.unwrap_or_default(),
            disabled: described.state.is_some_and(|state| state.as_str() == "DISABLED"),
            managed_by: described.managed_by.filter(|by| !by.is_empty()),
        }))
    }

    /// `events:ListTargetsByRule`: the targets of a rule that start ECS tasks; none when the rule does not exist.
    pub(super) async fn targets(&self, bus: &str, rule: &str, timing: &Timing) -> Result<Vec<Entry>, Error> {
        const OPERATION: &str = "events:ListTargetsByRule";
        let (mut entries, mut token) = (Vec::new(), None);
        for _ in 0..PAGES {
            let capture = Capture::default();
            let call = self.events.list_targets_by_rule().rule(rule).event_bus_name(bus);
            let call = call.set_next_token(token).customize().interceptor(capture.clone());
            let response = match call.send().await.map_err(|error| Error::of_call(OPERATION, error)) {
                Ok(response) => response,
                Err(error) if error.code() == Some("ResourceNotFoundException") => return Ok(Vec::new()),
                Err(error) => return Err(error),
            };
            let Value::Array(targets) = capture.json().unwrap_or_default()["Targets"].take() else {
                let reason = "no Targets".to_owned();
                return Err(Error::UnexpectedResponse { operation: OPERATION, reason });
            };
            entries.extend(targets.into_iter().filter_map(|raw| Entry::of_target(bus, rule, timing, raw)));
            token = response.next_token;
            if token.is_none() {
                return Ok(entries);
            }
        }
        Err(too_many_pages(OPERATION))
    }

    /// `events:PutTargets`, which replaces the target: every member is sent as it was read, as raw JSON.
    pub(super) async fn put(&self, entry: &Entry, target: Map<String, Value>) -> Result<(), Error> {
        let Key::Rule { bus, rule, .. } = &entry.key else { return Ok(()) };
        let body = json!({ "Rule": rule, "EventBusName": bus, "Targets": [target] }).to_string();
        let call = self.events.put_targets().rule(rule).event_bus_name(bus).set_targets(Some(Vec::new()));
        let call = call.customize().mutate_request(move |request| {
            request.headers_mut().insert("content-length", body.len().to_string());
            *request.body_mut() = SdkBody::from(body.as_str());
        });
        let response = call.send().await.map_err(|error| Error::of_call(PUT_TARGETS, error))?;
        // The call succeeds although it rejects targets.
        let Some(failed) = response.failed_entries.unwrap_or_default().into_iter().next() else {
            return Ok(());
        };
        let code = failed.error_code.unwrap_or_else(|| "Unknown".to_owned());
        let message = failed.error_message.unwrap_or_default();
        Err(Error::Refused {
            operation: PUT_TARGETS,
            source: format!("{code}: {message}").into(),
            code,
            request_id: None,
        })
    }
}
