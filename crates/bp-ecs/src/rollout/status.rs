//! The status of the service for people: what runs, its deployments, stopped tasks and events.

use std::collections::HashSet;

use aws_sdk_ecs::types::{
    Deployment, DeploymentConfiguration, DeploymentLifecycleHookDetail, DeploymentLifecycleHookStatus,
    DesiredStatus, Service, ServiceDeployment, Task,
};
use bp_artifact::{
    Digest,
    deploy::{
        Progress, Revision,
        status::{ContainerStatus, DeploymentStatus, HookStatus, Status},
    },
};

use super::{
    ServiceRollout,
    diagnose::{self, Scope, Stopped, timestamp},
    service::{deployment, primary},
    survey::IN_PROGRESS,
};
use crate::{error::Error, names::name_of};

/// The number of service deployments that are described, newest first.
const DEPLOYMENTS: usize = 3;

impl ServiceRollout {
    /// Reads the service; at most eight calls. Only a service that cannot be read is an error.
    pub(crate) async fn status(&self) -> Result<Status, Error> {
        let service = self.api.find_service().await?.ok_or_else(|| self.api.not_found())?;
        let mut status = Status::new(self.id.clone());
        status.state = service.status.clone().unwrap_or_default();
        status.progress.desired = count(service.desired_count);
        status.progress.running = count(service.running_count);
        status.progress.pending = count(service.pending_count);
        status.deployments = self.deployments(&service, &mut status.notes).await;
        let current = primary(&service);
        if let Some(definition) = current.and_then(|current| current.task_definition.as_deref()) {
            self.read_definition(definition, &mut status).await;
        }
        for task in self.read_tasks(DesiredStatus::Running, &mut status.notes).await {
            let revision = name_of(task.task_definition_arn.as_deref().unwrap_or_default());
            if task.last_status.as_deref() != Some("RUNNING") {
                status.starting.push(diagnose::starting(&task));
                continue;
            }
            for container in task.containers() {
                let digest =
                    container.image_digest.as_deref().and_then(|digest| digest.parse::<Digest>().ok());
                status.count(container.name.as_deref().unwrap_or_default(), revision, digest);
            }
        }
        let stopped = self.read_tasks(DesiredStatus::Stopped, &mut status.notes).await;
        let stopped = stopped.iter().filter_map(|task| Stopped::of(task, self.container()));
        status.failures = stopped.map(|stopped| stopped.failure()).collect();
        let since = current.and_then(|current| current.created_at).and_then(timestamp);
        status.events = diagnose::events(&service, &Scope { since, other_tasks: &HashSet::new() });
        status.shorten();
        Ok(status)
    }

    async fn read_definition(&self, arn: &str, status: &mut Status) {
        match self.api.definition(arn).await {
            Ok(definition) => {
                let only = definition.only_container().ok();
                let container = self.containers.first().or(only.as_ref());
                let image = container.and_then(|name| definition.image(name).ok()).unwrap_or_default();
                status.revision = Some(Revision::new(arn, image));
                for name in definition.container_names() {
                    let image = definition.image(&name).ok().map(str::to_owned);
                    status.containers.push(ContainerStatus::new(name, image));
                }
            }
            Err(error) => {
                status.notes.push(format!("the task definition could not be read: {}", error.in_one_line()));
            }
        }
    }

    /// The tasks of one page. If they cannot be read, a note states why.
    async fn read_tasks(&self, desired: DesiredStatus, notes: &mut Vec<String>) -> Vec<Task> {
        let what = desired.as_str().to_lowercase();
        match self.api.first_tasks(desired).await {
            Ok((tasks, is_last)) => {
                if !is_last {
                    notes.push(format!("only {} {what} tasks were read", tasks.len()));
                }
                tasks
            }
            Err(error) => {
                notes.push(format!("the {what} tasks could not be read: {}", error.in_one_line()));
                Vec::new()
            }
        }
    }

    /// The deployments in progress and the last one, and those that DescribeServices lists.
    async fn deployments(&self, service: &Service, notes: &mut Vec<String>) -> Vec<DeploymentStatus> {
        let newest = match self.newest().await {
            Ok(newest) => newest,
            Err(error) => {
                notes.push(format!("the service deployments could not be read: {}", error.in_one_line()));
                Vec::new()
            }
        };
        let mut found: Vec<DeploymentStatus> = Vec::new();
        for (number, described) in newest.iter().enumerate() {
            let status = of_service_deployment(service, described);
            if number == 0 || status.in_progress || deployment(service, &status.id).is_some() {
                found.push(status);
            }
        }
        let listed: HashSet<String> = found.iter().map(|known| known.id.clone()).collect();
        let others = service.deployments().iter();
        let others = others.filter(|other| !listed.contains(other.id.as_deref().unwrap_or_default()));
        found.extend(others.map(|other| {
            let mut status = DeploymentStatus::new(other.id.clone().unwrap_or_default());
            add_rollout(&mut status, other);
            status.started_at = other.created_at.and_then(timestamp);
            status
        }));
        found
    }

    /// The newest service deployments.
    async fn newest(&self) -> Result<Vec<ServiceDeployment>, Error> {
        let listed = self.api.deployments(&[], None).await?.into_iter();
        let arns: Vec<String> = listed.filter_map(|d| d.service_deployment_arn).take(DEPLOYMENTS).collect();
        if arns.is_empty() {
            return Ok(Vec::new());
        }
        let mut described = self.api.described(arns.clone()).await?;
        described.sort_by_key(|d| arns.iter().position(|arn| Some(arn) == d.service_deployment_arn.as_ref()));
        Ok(described)
    }
}

fn of_service_deployment(service: &Service, described: &ServiceDeployment) -> DeploymentStatus {
    let target = described.target_service_revision.as_ref().and_then(|revision| revision.arn.as_deref());
    let mut status = DeploymentStatus::new(format!("ecs-svc/{}", name_of(target.unwrap_or_default())));
    if let Some(rollout) = deployment(service, &status.id) {
        add_rollout(&mut status, rollout);
    }
    let state = described.status.as_ref().map_or("unknown", |state| state.as_str());
    status.in_progress = described.status.as_ref().is_some_and(|state| IN_PROGRESS.contains(state));
    status.state = match described.lifecycle_stage.as_ref().filter(|_| status.in_progress) {
        Some(stage) => format!("{state} ({})", stage.as_str()),
        None => state.to_owned(),
    };
    let reason = described.status_reason.clone().filter(|reason| !reason.is_empty());
    status.reasons.splice(0..0, reason);
    status.strategy = described.deployment_configuration.as_ref().and_then(strategy);
    status.hooks = described.lifecycle_hook_details().iter().filter_map(hook).collect();
    status.started_at = described.started_at.or(described.created_at).and_then(timestamp);
    status.ended_at = described.finished_at.or(described.stopped_at).and_then(timestamp);
    status
}

/// Adds what DescribeServices returns about a deployment.
fn add_rollout(status: &mut DeploymentStatus, rollout: &Deployment) {
    let state = rollout.rollout_state.as_ref().map_or("", |state| state.as_str());
    status.state = format!("{} {state}", rollout.status.as_deref().unwrap_or_default()).trim().to_owned();
    status.in_progress = state == "IN_PROGRESS";
    status.revision = rollout.task_definition.as_deref().map(|definition| name_of(definition).to_owned());
    let reason = rollout.rollout_state_reason.clone().filter(|reason| !reason.is_empty());
    status.reasons.extend(reason);
    let mut progress = Progress::default();
    progress.desired = count(rollout.desired_count);
    progress.running = count(rollout.running_count);
    progress.pending = count(rollout.pending_count);
    progress.failed = count(rollout.failed_tasks);
    status.progress = Some(progress);
}

fn strategy(configuration: &DeploymentConfiguration) -> Option<String> {
    configuration.strategy.as_ref().map(|strategy| strategy.as_str().to_owned())
}

/// A lifecycle hook that has not succeeded.
fn hook(detail: &DeploymentLifecycleHookDetail) -> Option<HookStatus> {
    let state = detail.status.as_ref().map_or("unknown", |state| state.as_str());
    if state == "SUCCEEDED" {
        return None;
    }
    let id = detail.hook_id.clone().or_else(|| detail.target_arn.clone());
    let mut hook = HookStatus::new(id.unwrap_or_default());
    hook.state = state.to_owned();
    hook.awaits_approval = detail.status == Some(DeploymentLifecycleHookStatus::AwaitingAction);
    hook.expires_at = detail.expires_at.and_then(timestamp);
    hook.timeout_action = detail.timeout_action.as_ref().map(|action| action.as_str().to_owned());
    Some(hook)
}

fn count(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}
