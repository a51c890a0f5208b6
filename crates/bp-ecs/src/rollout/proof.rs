//! Proof of the running digests: from the service revision and the tasks of a deployment, by container name.

use std::time::Duration;

use aws_sdk_ecs::types::{Deployment, DesiredStatus, Service, Task};
use bp_artifact::{
    Digest,
    deploy::{Observation, Proof},
    text::SingleLine,
};
use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    ServiceRollout,
    diagnose::Stopped,
    retry::RetryBudget,
    service::primary,
    strategy::{after_early_success, required_tasks},
    survey::with_task_sets,
};
use crate::{error::Error, names::name_of};

/// How long the tasks of a completed deployment may take to be listed with their digests.
const LISTING: Duration = Duration::from_secs(30);

/// The digests of the primary deployment's tasks, and the number of other tasks.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) proof: Proof,
    /// The number of running tasks of the primary deployment.
    ours: usize,
    /// The number of running tasks of earlier deployments, which are reported but not judged.
    pub(crate) others: usize,
    /// Why the proof is incomplete, if it is.
    pub(crate) missing: Option<String>,
    /// What ECS still does after an early success.
    pub(crate) continues: Option<String>,
}

/// The success of a deployment, as ECS reported it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Success {
    pub(crate) at: Option<Timestamp>,
    /// The number of tasks that have run since then.
    pub(crate) required: usize,
}

/// The running tasks that are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Those of the primary deployment, which is complete: ECS is stopping older ones.
    Primary,
    /// All: a deployment is in progress, and old tasks still serve.
    All,
}

impl ServiceRollout {
    pub(crate) async fn prove(&self) -> Result<Proof, Error> {
        let service = with_task_sets(self.existing_service().await?);
        let settled = service.deployments().len() <= 1 || self.in_progress(&service).await?.is_none();
        let scope = if settled { Scope::Primary } else { Scope::All };
        Ok(self.running(&service, scope).await?.proof)
    }

    /// The proof of a deployment that ECS reports as successful. Tasks are listed with a delay, so missing ones are
    /// waited for, within `deadline`. Failed calls are retried.
    pub(crate) async fn proven(&self, service: &Service, deadline: Instant) -> Result<Running, Error> {
        let listed = deadline.min(bp_artifact::time::deadline(LISTING));
        let mut retries = RetryBudget::default();
        loop {
            match self.running(service, Scope::Primary).await {
                Ok(running) if running.missing.is_none() || Instant::now() >= listed => return Ok(running),
                Ok(_) => retries.succeeded(),
                Err(error) if retries.is_exhausted(&error, deadline) => return Err(error),
                Err(error) => {
                    tracing::warn!(error = %SingleLine(&error), "failed to read the running tasks, retrying")
                }
            }
            tokio::time::sleep_until(deadline.min(bp_artifact::time::deadline(self.options.pause(false))))
                .await;
        }
    }

    /// The digests of our containers in the running tasks, preceded by those that the service revision resolved.
    /// Sidecars are ignored. Without running tasks the proof is empty.
    pub(crate) async fn running(&self, service: &Service, scope: Scope) -> Result<Running, Error> {
        let tasks = self.api.tasks(DesiredStatus::Running).await?;
        let running = tasks.iter().filter(|task| task.last_status.as_deref() == Some("RUNNING"));
        let primary = primary(service).filter(|_| scope == Scope::Primary);
        let (ours, others): (Vec<_>, Vec<_>) =
            running.partition(|task| primary.is_none_or(|primary| is_of(task, primary)));
        let observations = ours.iter().flat_map(|task| {
            let unit = name_of(task.task_arn.as_deref().unwrap_or_default());
            let ours = task.containers().iter().filter_map(|c| Some((self.ours(c.name.as_deref()?)?, c)));
            ours.map(move |(name, c)| observation(format!("task/{unit}"), name, c.image_digest.as_deref()))
        });
        let mut running = Running {
            proof: Proof { observations: observations.collect() },
            ours: ours.len(),
            others: others.len(),
            missing: None,
            continues: after_early_success(service, ours.len()),
        };
        running.missing = running.incomplete(service);
        if !running.proof.is_empty() {
            let resolved = self.resolved(service).await.unwrap_or_else(|error| {
                let error = SingleLine(&error);
                tracing::warn!(%error, "failed to read the service revision, using task digests only");
                Vec::new()
            });
            running.proof.observations.splice(0..0, resolved);
        }
        Ok(running)
    }

    /// Why fewer tasks run than at the success, if tasks have failed since. Those that others have stopped are replaced.
    pub(crate) async fn lost(
        &self,
        service: &Service,
        running: &Running,
        success: Success,
    ) -> Option<String> {
        let primary = primary(service).filter(|_| running.ours < success.required)?;
        let counts = format!("{} of {} tasks run", running.ours, success.required);
        let stopped = match self.api.first_tasks(DesiredStatus::Stopped).await {
            Ok((stopped, _)) => stopped,
            Err(error) => {
                return Some(format!("{counts}; the others could not be read: {}", error.in_one_line()));
            }
        };
        let stopped: Vec<_> = stopped.iter().filter(|task| is_of(task, primary)).collect();
        let failed: Vec<_> = stopped.iter().filter_map(|task| Stopped::of(task, self.container())).collect();
        let interrupted = stopped.len() - failed.len();
        let last =
            failed.iter().filter(|task| task.at.zip(success.at).is_none_or(|(at, success)| at > success));
        let last = last.max_by_key(|task| task.at)?;
        let is_lost = running.ours + interrupted < success.required;
        is_lost.then(|| format!("{counts}; task {} failed: {}", last.task, last.cause))
    }

    /// The container's name, if it is one of ours.
    fn ours(&self, name: &str) -> Option<&String> {
        self.containers.iter().find(|container| *container == name)
    }

    /// The digests that the primary service revision resolved for our containers' images, if it has any.
    async fn resolved(&self, service: &Service) -> Result<Vec<Observation>, Error> {
        let number = primary(service).and_then(|p| p.id.as_deref()).map(name_of).unwrap_or_default();
        let arns = service.current_service_revisions().iter().filter_map(|r| r.arn.as_deref());
        let Some(arn) = arns.into_iter().find(|arn| name_of(arn) == number) else { return Ok(Vec::new()) };
        let Some(revision) = self.api.revision(arn).await? else { return Ok(Vec::new()) };
        let ours = revision.container_images().iter().filter_map(|image| {
            let name = self.ours(image.container_name.as_deref()?)?;
            Some(observation(
                format!("service-revision/{number}"),
                name,
                Some(image.image_digest.as_deref()?),
            ))
        });
        Ok(ours.collect())
    }
}

impl Running {
    fn incomplete(&self, service: &Service) -> Option<String> {
        let desired = required_tasks(service);
        let id = primary(service).and_then(|primary| primary.id.as_deref()).unwrap_or("the service");
        if self.ours < desired {
            return Some(format!("{} of {desired} tasks of {id} are listed as running", self.ours));
        }
        let unknown = self.proof.observations.iter().filter(|seen| seen.digest.is_none()).count();
        (unknown > 0).then(|| format!("{unknown} running containers report no digest"))
    }

    /// A notice about running tasks that are not judged.
    pub(crate) fn note(&self) -> Option<String> {
        match self.others {
            0 => None,
            1 => Some("1 task of earlier deployments is still running until ECS stops it".to_owned()),
            n => Some(format!("{n} tasks of earlier deployments are still running until ECS stops them")),
        }
    }
}

/// Whether this deployment started the task. Without `startedBy` the task definitions are compared.
fn is_of(task: &Task, deployment: &Deployment) -> bool {
    match task.started_by.as_deref().filter(|by| !by.is_empty()) {
        Some(by) => Some(by) == deployment.id.as_deref(),
        None => task.task_definition_arn == deployment.task_definition,
    }
}

fn observation(unit: String, container: &str, digest: Option<&str>) -> Observation {
    Observation::new(unit, container, digest.and_then(|digest| digest.parse::<Digest>().ok()))
}
