//! What is seen running: the service revision and the tasks, by container name.

use aws_sdk_ecs::types::{DesiredStatus, Service};
use bp_artifact::{Digest, Observation, Proof};

use crate::{
    error::Error,
    judge::{number_of, primary},
    target::{Inner, name_of},
};

impl Inner {
    pub(crate) async fn prove(&self) -> Result<Proof, Error> {
        let service = self.api.find_service().await?.ok_or_else(|| self.api.not_found())?;
        self.proof_of(&service).await
    }

    /// The digests of our container in the running tasks, preceded by what the service revision resolved. Side-cars,
    /// injected ones too, are not looked at. Nothing runs: nothing is proven.
    pub(crate) async fn proof_of(&self, service: &Service) -> Result<Proof, Error> {
        let tasks = self.api.tasks(DesiredStatus::Running).await?;
        let mut observations: Vec<Observation> = tasks
            .iter()
            .filter(|task| task.last_status.as_deref() == Some("RUNNING"))
            .flat_map(|task| {
                let unit = name_of(task.task_arn.as_deref().unwrap_or_default());
                let ours = task.containers().iter().filter_map(|c| Some((self.ours(c.name.as_deref()?)?, c)));
                ours.map(move |(name, c)| {
                    observation(format!("task/{unit}"), name, c.image_digest.as_deref())
                })
            })
            .collect();
        if !observations.is_empty() {
            observations.splice(0..0, self.resolved(service).await?);
        }
        Ok(Proof { observations })
    }

    /// The container's name, if it is one of ours.
    fn ours(&self, name: &str) -> Option<&String> {
        self.containers().find(|container| *container == name)
    }

    /// What the primary service revision resolved our containers' images to, as far as it tells.
    async fn resolved(&self, service: &Service) -> Result<Vec<Observation>, Error> {
        let number = primary(service).and_then(|p| p.id.as_deref()).map(number_of).unwrap_or_default();
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

fn observation(unit: String, container: &str, digest: Option<&str>) -> Observation {
    let digest = digest.and_then(|digest| digest.parse::<Digest>().ok());
    Observation { unit, container: container.to_owned(), digest }
}
