//! Model of the CloudWatch Logs API: log groups, and the log streams of ECS tasks.

use std::{collections::BTreeSet, sync::Mutex};

use serde_json::{Value, json};

use super::{
    ecs::Ecs,
    wire::{Answer, ApiError, Call},
};
use crate::sync::lock;

/// Account, region and name of each log group.
#[derive(Debug, Default)]
pub(super) struct Logs(Mutex<BTreeSet<(String, String, String)>>);

impl Logs {
    pub(super) fn create_group(&self, account: &str, region: &str, name: &str) {
        lock(&self.0).insert((account.to_owned(), region.to_owned(), name.to_owned()));
    }

    fn groups(&self, account: &str, region: &str) -> Vec<String> {
        let all = lock(&self.0);
        all.iter().filter(|(a, r, _)| a == account && r == region).map(|(.., name)| name.clone()).collect()
    }

    pub(super) fn call(&self, ecs: &Ecs, call: &Call) -> Answer {
        match call.operation.as_str() {
            "DescribeLogGroups" => {
                let prefix = call.text("logGroupNamePrefix");
                let groups = self.groups(&call.account, &call.region).into_iter();
                let view = |name: String| {
                    let arn = format!("arn:aws:logs:{}:{}:log-group:{name}:*", call.region, call.account);
                    json!({ "logGroupName": name, "arn": arn, "creationTime": 0, "storedBytes": 0 })
                };
                let found: Vec<Value> = groups.filter(|name| name.starts_with(prefix)).map(view).collect();
                Ok(json!({ "logGroups": found }))
            }
            "GetLogEvents" => self.events(ecs, call),
            _ => Err(call.unknown()),
        }
    }

    fn events(&self, ecs: &Ecs, call: &Call) -> Answer {
        let (group, stream) = (call.text("logGroupName"), call.text("logStreamName"));
        let not_found = |what: &str| {
            ApiError::new(
                400,
                "ResourceNotFoundException",
                format!("The specified log {what} does not exist."),
            )
        };
        if !self.groups(&call.account, &call.region).iter().any(|name| name == group) {
            return Err(not_found("group"));
        }
        let lines = ecs.log(&call.account, &call.region, group, stream);
        let lines = lines.ok_or_else(|| not_found("stream"))?;
        let limit = call.input["limit"].as_u64().unwrap_or(10_000) as usize;
        let token = call.text("nextToken").strip_prefix("f/").and_then(|token| token.parse::<usize>().ok());
        let from = match token {
            Some(from) => from.min(lines.len()),
            None if call.input["startFromHead"] == true => 0,
            None => lines.len().saturating_sub(limit),
        };
        let event = |(at, message): &(jiff::Timestamp, String)| {
            let at = at.as_millisecond();
            json!({ "timestamp": at, "ingestionTime": at, "message": message })
        };
        let events: Vec<Value> = lines[from..].iter().take(limit).map(event).collect();
        let next = format!("f/{}", from + events.len());
        Ok(json!({ "events": events, "nextForwardToken": next, "nextBackwardToken": "b/1" }))
    }
}
