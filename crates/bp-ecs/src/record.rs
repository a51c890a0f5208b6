//! Recording of the API responses about a service, for tests of failure causes.

use aws_sdk_ecs::types::{DesiredStatus, TaskDefinitionField};
use bp_artifact::recording::{Recorder, Recording};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{api::Api, definition::Capture, error::Error, names::name_of, target::EcsTarget};

/// The number of service deployments to describe, newest first: the maximum of one call.
const DEPLOYMENTS: usize = 20;
/// The number of tasks to describe: the maximum of one call.
const TASKS: usize = 100;

/// Sends a call and returns the raw JSON of its response.
macro_rules! response {
    ($api:expr, $operation:literal, $call:expr) => {{
        let capture = Capture::default();
        let sent = $call.customize().interceptor(capture.clone()).send().await;
        sent.map(|_| capture.json().unwrap_or_default()).map_err(|e| $api.error($operation, e))
    }};
}

impl EcsTarget {
    /// Records the API's responses about the service: the service with its events, its newest service deployments and
    /// their revisions, its running and its recently stopped tasks, and its task definition. Redacted: see
    /// [`Redactor`](bp_artifact::recording::Redactor). Changes nothing.
    ///
    /// A part that cannot be read is listed in [`Recording::missing`].
    ///
    /// # Errors
    /// When the service does not exist, or nothing can be read.
    ///
    /// # Permissions
    /// `ecs:DescribeServices`, `ecs:ListServiceDeployments`, `ecs:DescribeServiceDeployments`,
    /// `ecs:DescribeServiceRevisions`, `ecs:ListTasks`, `ecs:DescribeTasks`, `ecs:DescribeTaskDefinition`. A denied
    /// call is a missing part.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn record(&self, recorded_at: Timestamp) -> Result<Recording, Error> {
        let api = &self.0.api;
        let mut recorder = Recorder::default();
        let mut first = None;
        let mut note = |recorder: &mut Recorder, part: &str, response: Result<Value, Error>| match response {
            Ok(response) => {
                recorder.note(part, response.clone());
                response
            }
            Err(error) => {
                recorder.missing(part, bp_artifact::error::chain(&error));
                first.get_or_insert(error);
                Value::Null
            }
        };
        let services = note(&mut recorder, "describeServices", describe_services(api).await);
        if services["services"].as_array().is_some_and(Vec::is_empty) {
            return Err(api.not_found());
        }
        let call = api.client().list_service_deployments().cluster(&api.cluster.name).service(&api.service);
        let listed = response!(api, "ecs:ListServiceDeployments", call);
        let listed = note(&mut recorder, "listServiceDeployments", listed);
        let arns = strings(&listed["serviceDeployments"], &["/serviceDeploymentArn"], DEPLOYMENTS);
        if !arns.is_empty() {
            let call = api.client().describe_service_deployments().set_service_deployment_arns(Some(arns));
            let described = response!(api, "ecs:DescribeServiceDeployments", call);
            let described = note(&mut recorder, "describeServiceDeployments", described);
            let pointers = ["/targetServiceRevision/arn", "/sourceServiceRevisions/0/arn"];
            let revisions = strings(&described["serviceDeployments"], &pointers, DEPLOYMENTS);
            if !revisions.is_empty() {
                let call =
                    api.client().describe_service_revisions().set_service_revision_arns(Some(revisions));
                let described = response!(api, "ecs:DescribeServiceRevisions", call);
                note(&mut recorder, "describeServiceRevisions", described);
            }
        }
        for (part, desired) in
            [("runningTasks", DesiredStatus::Running), ("stoppedTasks", DesiredStatus::Stopped)]
        {
            let described = tasks(api, desired).await;
            note(&mut recorder, part, described);
        }
        if let Some(definition) = services.pointer("/services/0/taskDefinition").and_then(Value::as_str) {
            let call = api.client().describe_task_definition().task_definition(definition);
            let call = call.include(TaskDefinitionField::Tags);
            let described = response!(api, "ecs:DescribeTaskDefinition", call);
            note(&mut recorder, "describeTaskDefinition", described);
        }
        match first {
            Some(error) if recorder.is_empty() => Err(error),
            _ => Ok(recorder.finish("ecs-service", recorded_at)),
        }
    }
}

async fn describe_services(api: &Api) -> Result<Value, Error> {
    let call = api.client().describe_services().cluster(&api.cluster.name).services(name_of(&api.service));
    response!(api, "ecs:DescribeServices", call)
}

async fn tasks(api: &Api, desired: DesiredStatus) -> Result<Value, Error> {
    let call = api.client().list_tasks().cluster(&api.cluster.name).service_name(name_of(&api.service));
    let listed = response!(api, "ecs:ListTasks", call.desired_status(desired))?;
    let arns = strings(&listed["taskArns"], &[""], TASKS);
    if arns.is_empty() {
        return Ok(json!({ "tasks": [] }));
    }
    let call = api.client().describe_tasks().cluster(&api.cluster.name).set_tasks(Some(arns));
    response!(api, "ecs:DescribeTasks", call)
}

/// The distinct strings at these JSON pointers in the values of a list, up to `most`.
fn strings(list: &Value, pointers: &[&str], most: usize) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for value in list.as_array().into_iter().flatten() {
        for text in pointers.iter().filter_map(|pointer| value.pointer(pointer)?.as_str()) {
            if found.len() < most && found.iter().all(|known| known != text) {
                found.push(text.to_owned());
            }
        }
    }
    found
}
