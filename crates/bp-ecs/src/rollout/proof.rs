//! What is seen running: the service revision and the tasks of one deployment, by container name.

use std::time::Duration;

use aws_sdk_ecs::types::{Deployment, DesiredStatus, Service, Task};
use bp_artifact::{
    Digest,
    deploy::{Observation, Proof},
};
use tokio::time::Instant;

use super::{ServiceRollout, patience::Patience, service::primary};
use crate::{error::Error, names::name_of};

/// How long the tasks of a deployment that is over may take to be listed with their digests.
const LISTING: Duration = Duration::from_secs(30);

/// What the tasks of the primary deployment show, and how much else runs.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) proof: Proof,
    /// How many of the primary deployment's tasks run.
    ours: usize,
    /// How many tasks of earlier deployments still run: they are reported, not judged.
    pub(crate) others: usize,
    /// What is missing for a proof of every task.
    pub(crate) missing: Option<String>,
}

/// Which running tasks are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Those of the primary deployment, which is over: older ones are merely on their way out.
    Primary,
    /// All: a deployment is under way, and the old ones serve.
    All,
}

impl ServiceRollout {
    pub(crate) async fn prove(&self) -> Result<Proof, Error> {
        let service = self.api.find_service().await?.ok_or_else(|| self.api.not_found())?;
        let settled = service.deployments().len() <= 1 || self.under_way(&service).await?.is_none();
        let scope = if settled { Scope::Primary } else { Scope::All };
        Ok(self.running(&service, scope).await?.proof)
    }

    /// What the primary deployment of a service runs whose deployment ECS calls successful. Its list of tasks follows a
    /// little later, so what is missing is waited for, within `deadline`. What cannot be read is tried again.
    pub(crate) async fn proven(&self, service: &Service, deadline: Instant) -> Result<Running, Error> {
        let listed = deadline.min(bp_artifact::time::deadline(LISTING));
        let mut patience = Patience::default();
        loop {
            match self.running(service, Scope::Primary).await {
                Ok(running) if running.missing.is_none() || Instant::now() >= listed => return Ok(running),
                Ok(_) => patience.answered(),
                Err(error) if patience.is_over(&error, deadline) => return Err(error),
                Err(error) => tracing::warn!(%error, "cannot read the running tasks; trying again"),
            }
            tokio::time::sleep_until(deadline.min(bp_artifact::time::deadline(self.options.pause(false))))
                .await;
        }
    }

    /// The digests of our containers in the running tasks, preceded by what the service revision resolved. Side-cars,
    /// injected ones too, are not looked at. Nothing runs: nothing is proven.
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
        };
        running.missing = running.what_is_missing(service);
        if !running.proof.is_empty() {
            let resolved = self.resolved(service).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "cannot read the service revision; the tasks alone are the proof");
                Vec::new()
            });
            running.proof.observations.splice(0..0, resolved);
        }
        Ok(running)
    }

    /// The container's name, if it is one of ours.
    fn ours(&self, name: &str) -> Option<&String> {
        self.containers.iter().find(|container| *container == name)
    }

    /// What the primary service revision resolved our containers' images to, as far as it tells.
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
    fn what_is_missing(&self, service: &Service) -> Option<String> {
        let desired = usize::try_from(service.desired_count).unwrap_or(0);
        let id = primary(service).and_then(|primary| primary.id.as_deref()).unwrap_or("the service");
        if self.ours < desired {
            return Some(format!("{} of {desired} tasks of {id} are listed as running", self.ours));
        }
        let silent = self.proof.observations.iter().filter(|seen| seen.digest.is_none()).count();
        (silent > 0).then(|| format!("{silent} running containers report no digest"))
    }

    /// What runs besides the tasks that are judged.
    pub(crate) fn note(&self) -> Option<String> {
        match self.others {
            0 => None,
            1 => Some("1 task of earlier deployments is still running until ECS stops it".to_owned()),
            n => Some(format!("{n} tasks of earlier deployments are still running until ECS stops them")),
        }
    }
}

/// Whether this deployment started the task. One that does not say who started it is told by its definition.
fn is_of(task: &Task, deployment: &Deployment) -> bool {
    match task.started_by.as_deref().filter(|by| !by.is_empty()) {
        Some(by) => Some(by) == deployment.id.as_deref(),
        None => task.task_definition_arn == deployment.task_definition,
    }
}

fn observation(unit: String, container: &str, digest: Option<&str>) -> Observation {
    Observation::new(unit, container, digest.and_then(|digest| digest.parse::<Digest>().ok()))
}
