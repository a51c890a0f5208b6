//! RunTask and StopTask.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    EcsHandle, Pace, Region,
    api::invalid,
    definition::{self, Definition},
    names::name_of,
    standalone::Standalone,
    task::{Launch, Task},
    world::World,
};
use crate::aws::wire::{Answer, ApiError, text, texts};

/// The maximum length of `overrides` as JSON.
const MAX_OVERRIDES: usize = 8192;
/// The maximum number of tasks of a call.
const MAX_COUNT: u64 = 10;
/// The maximum lengths of `startedBy` and `clientToken`.
const MAX_STARTED_BY: usize = 128;
const MAX_TOKEN: usize = 64;

/// The errors of RunTask that depend on the request alone.
fn check(input: &Value, definition: &Definition) -> Result<(), ApiError> {
    let is_vpc = definition.view["networkMode"] == "awsvpc";
    if is_vpc && input["networkConfiguration"].is_null() {
        return Err(invalid(
            "Network Configuration must be provided when networkMode 'awsvpc' is specified.",
        ));
    }
    if !is_vpc && !input["networkConfiguration"].is_null() {
        return Err(invalid(
            "Network Configuration is not valid for the given networkMode of this task definition.",
        ));
    }
    if !input["launchType"].is_null() && !input["capacityProviderStrategy"].is_null() {
        return Err(invalid(
            "Specifying both a launch type and capacity provider strategy is not supported. Remove one and try again.",
        ));
    }
    if input["count"].as_u64().is_some_and(|count| !(1..=MAX_COUNT).contains(&count)) {
        return Err(invalid("Count must be between 1 and 10."));
    }
    if text(input, "startedBy").len() > MAX_STARTED_BY || text(input, "clientToken").len() > MAX_TOKEN {
        return Err(invalid("startedBy or clientToken is too long."));
    }
    if !matches!(text(input, "propagateTags"), "" | "NONE" | "TASK_DEFINITION") {
        return Err(invalid("The SERVICE option for propagateTags is not supported for RunTask."));
    }
    definition::tags(input)?;
    let overrides = &input["overrides"];
    if overrides.to_string().len() > MAX_OVERRIDES {
        return Err(invalid("Container Overrides length must be at most 8192"));
    }
    let known = |name: &str| definition.containers().iter().any(|container| container["name"] == name);
    let containers = overrides["containerOverrides"].as_array().into_iter().flatten();
    let unknown = containers.map(|container| text(container, "name")).find(|name| !known(name));
    match unknown {
        Some(name) => Err(invalid(&format!(
            "Override for container named {name} is not a container in the TaskDefinition."
        ))),
        None => Ok(()),
    }
}

impl Region {
    pub(super) fn run_task(&mut self, world: &World<'_>, now: Timestamp, input: &Value) -> Answer {
        let (cluster_name, cluster) = self.cluster(input)?;
        let cluster_name = cluster_name.to_owned();
        let token = text(input, "clientToken");
        let earlier: Vec<&Standalone> =
            cluster.tasks.iter().filter(|task| !token.is_empty() && task.token() == token).collect();
        if earlier.iter().any(|task| task.request != *input) {
            let arns: Vec<&str> = earlier.iter().map(|task| task.task.arn.as_str()).collect();
            let message = "The clientToken is already in use with a different RunTask request.";
            let error = ApiError::new(400, "ConflictException", message);
            return Err(error.with(json!({ "resourceIds": arns })));
        }
        if !earlier.is_empty() {
            let views: Vec<Value> = earlier.iter().map(|task| task.view(world, &cluster_name, now)).collect();
            return Ok(json!({ "tasks": views, "failures": [] }));
        }
        let definition = self.definitions.deployable(text(input, "taskDefinition"))?;
        check(input, &definition)?;
        if let Some(failure) = self.refusals.pop_front() {
            return Ok(json!({ "tasks": [], "failures": [failure] }));
        }
        let overrides = input["overrides"]["containerOverrides"].as_array();
        let definition = Arc::new(definition.overridden(overrides.map_or(&[], Vec::as_slice)));
        let (_, cluster) = self.cluster(input)?;
        let launch = Launch {
            cluster: &cluster_name,
            deployment: 0,
            definition: &definition,
            platform: Standalone::platform(input),
            target: None,
            injected: &[],
            delays: Pace::default().delays(),
        };
        let mut views = Vec::new();
        for _ in 0..input["count"].as_u64().unwrap_or(1) {
            let task = Standalone { task: Task::start(world, launch, now), request: input.clone() };
            views.push(task.view(world, &cluster_name, now));
            cluster.tasks.push(task);
        }
        Ok(json!({ "tasks": views, "failures": [] }))
    }

    pub(super) fn stop_task(&mut self, world: &World<'_>, now: Timestamp, input: &Value) -> Answer {
        let id = name_of(text(input, "task")).to_owned();
        let reason = match text(input, "reason") {
            "" => "Task stopped by user".to_owned(),
            reason => reason.to_owned(),
        };
        let (cluster_name, cluster) = self.cluster(input)?;
        let view = if let Some(task) = cluster.tasks.iter_mut().find(|task| task.task.id() == id) {
            task.task.stop_now(now, "UserInitiated", reason);
            task.view(world, cluster_name, now)
        } else {
            let found = cluster.services.iter_mut().find_map(|service| {
                let at = service.tasks.iter().position(|task| task.id() == id)?;
                Some((service, at))
            });
            let (service, at) = found.ok_or_else(|| invalid("The referenced task was not found."))?;
            service.tasks[at].stop_now(now, "UserInitiated", reason);
            service.tasks[at].view(&world.place, service)
        };
        Ok(json!({ "task": view }))
    }

    /// The standalone tasks of a DescribeTasks call.
    pub(super) fn standalone(
        &mut self,
        world: &World<'_>,
        now: Timestamp,
        input: &Value,
    ) -> Result<Vec<Value>, ApiError> {
        let (cluster_name, cluster) = self.cluster(input)?;
        let asked: Vec<&str> = texts(input, "tasks").into_iter().map(name_of).collect();
        let found = cluster.tasks.iter().filter(|task| asked.contains(&task.task.id()));
        Ok(found.map(|task| task.view(world, cluster_name, now)).collect())
    }
}

impl EcsHandle {
    /// Refuses the next RunTask call with this failure, such as `RESOURCE:MEMORY`.
    pub fn refuse_task(&self, reason: &str) {
        self.at(|region, world, _| {
            let arn = world.place.arn("container-instance/025c7e2c5e054a6790a29fc1f1111111");
            region.refusals.push_back(json!({ "arn": arn, "reason": reason }));
        });
    }

    /// Calls RunTask as another client, and returns the task's ARN.
    ///
    /// # Panics
    /// When the service would reject it.
    pub fn run_task(&self, input: Value) -> String {
        let answer =
            self.at(|region, world, now| region.run_task(world, now, &input)).expect("a task that ECS takes");
        text(&answer["tasks"][0], "taskArn").to_owned()
    }

    /// The standalone tasks of a cluster as DescribeTasks shows them, in the order of their start.
    pub fn standalone_tasks(&self, cluster: &str) -> Vec<Value> {
        self.at(|region, world, now| {
            let tasks = region.clusters.get(cluster).into_iter().flat_map(|cluster| &cluster.tasks);
            tasks.map(|task| task.view(world, cluster, now)).collect()
        })
    }

    /// Stops every standalone task of a cluster that runs, with this stop code and reason, as a Spot interruption or a
    /// user would.
    pub fn stop_standalone_tasks(&self, cluster: &str, code: &'static str, reason: &str) {
        self.at(|region, _, now| {
            for task in region.clusters.get_mut(cluster).into_iter().flat_map(|cluster| &mut cluster.tasks) {
                task.task.stop_now(now, code, reason.to_owned());
            }
        });
    }
}
