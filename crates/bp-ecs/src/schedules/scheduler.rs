//! Schedules of EventBridge Scheduler.

use aws_smithy_types::body::SdkBody;
use serde_json::{Map, Value};

use super::{
    Schedules,
    entry::{Entry, Key, is_universal},
    pages::{PAGES, too_many_pages},
};
use crate::{definition::Capture, error::Error};

/// The maximum number of schedules on a page.
const PAGE: i32 = 100;

impl Schedules {
    /// `scheduler:ListSchedules`: group and name of the schedules in all groups whose target is one of `clusters`, or a
    /// call of `ecs:RunTask`.
    pub(super) async fn schedules_with(&self, clusters: &[String]) -> Result<Vec<(String, String)>, Error> {
        const OPERATION: &str = "scheduler:ListSchedules";
        let (mut found, mut token) = (Vec::new(), None);
        for _ in 0..PAGES {
            let call = self.scheduler.list_schedules().max_results(PAGE).set_next_token(token);
            let response = call.send().await.map_err(|error| Error::of_call(OPERATION, error))?;
            for schedule in response.schedules {
                let arn = schedule.target.as_ref().map_or("", |target| target.arn());
                let is_wanted = is_universal(arn) || clusters.iter().any(|cluster| cluster == arn);
                if let (true, Some(group), Some(name)) = (is_wanted, schedule.group_name, schedule.name) {
                    found.push((group, name));
                }
            }
            token = response.next_token;
            if token.is_none() {
                return Ok(found);
            }
        }
        Err(too_many_pages(OPERATION))
    }

    /// `scheduler:GetSchedule`. `None` when it does not exist, or starts no ECS tasks.
    pub(super) async fn schedule(&self, group: &str, name: &str) -> Result<Option<Entry>, Error> {
        const OPERATION: &str = "scheduler:GetSchedule";
        let capture = Capture::default();
        let call = self.scheduler.get_schedule().group_name(group).name(name);
        let call = call.customize().interceptor(capture.clone());
        match call.send().await.map_err(|error| Error::of_call(OPERATION, error)) {
            Ok(_) => {}
            Err(error) if error.code() == Some("ResourceNotFoundException") => return Ok(None),
            Err(error) => return Err(error),
        }
        let raw = capture.json().filter(Value::is_object).ok_or_else(|| Error::UnexpectedResponse {
            operation: OPERATION,
            reason: "no JSON object".to_owned(),
        })?;
        Ok(Entry::of_schedule(group, name, raw))
    }

    /// `scheduler:UpdateSchedule`, which replaces the schedule: every member is sent as it was read, as raw JSON.
    pub(super) async fn update(&self, entry: &Entry, members: Map<String, Value>) -> Result<(), Error> {
        let Key::Schedule { name, .. } = &entry.key else { return Ok(()) };
        let body = Value::Object(members).to_string();
        let call = self.scheduler.update_schedule().name(name);
        let call = call.customize().mutate_request(move |request| {
            request.headers_mut().insert("content-length", body.len().to_string());
            *request.body_mut() = SdkBody::from(body.as_str());
        });
        let sent = call.send().await;
        sent.map(drop).map_err(|error| Error::of_call("scheduler:UpdateSchedule", error))
    }
}
