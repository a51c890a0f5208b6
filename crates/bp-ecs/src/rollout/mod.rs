//! Steps of a rollout: survey the service, apply the change, follow and judge the deployment, diagnose failures, roll
//! back, and verify the running digests. The files correspond to those of bp-eks.

mod apply;
mod approve;
mod deploy;
pub(crate) mod diagnose;
mod drift;
mod evidence;
mod failures;
mod follow;
mod history;
pub(crate) mod judge;
#[cfg(feature = "logs")]
mod logs;
mod progress;
mod proof;
mod reasons;
#[cfg(test)]
mod recorded;
mod reported;
mod restore;
mod retry;
mod roll_back;
#[cfg(feature = "schedules")]
mod scheduled;
mod service;
mod stability;
mod status;
mod step;
mod stopped_tasks;
pub(crate) mod strategy;
mod survey;
#[cfg(feature = "elbv2")]
mod target_health;
mod task;

pub(crate) use deploy::{RollbackChecked, until_cancelled};
pub(crate) use service::primary;
pub(crate) use survey::Survey;

use std::sync::Arc;

use bp_artifact::{DigestRef, ResolvedImage, deploy::TargetId};

use crate::{
    api::Api,
    definition::{Overlay, TaskDefinition},
    error::Error,
    one_off::Steps,
    options::Options,
    preflight::Lookups,
};

/// The containers of one service and the settings of their deployment, used by every step.
#[derive(Debug, Clone)]
pub(crate) struct ServiceRollout {
    pub(crate) api: Api,
    pub(crate) id: TargetId,
    /// The containers that run our image. Empty for the definition's only container, until
    /// [`with_containers`](ServiceRollout::with_containers) has read it.
    pub(crate) containers: Vec<String>,
    /// Images whose platforms are known.
    pub(crate) images: Vec<ResolvedImage>,
    /// The base of new revisions; `None` for the definition that the service runs.
    pub(crate) base: Option<TaskDefinition>,
    /// The overlay of every definition; `None` keeps the settings of an earlier one.
    pub(crate) overlay: Option<Overlay>,
    /// The one-off tasks of a deployment.
    pub(crate) steps: Steps,
    pub(crate) options: Options,
    /// The clients that check the rollback revision.
    pub(crate) lookups: Lookups,
    #[cfg(feature = "logs")]
    pub(crate) logs: Option<aws_sdk_cloudwatchlogs::Client>,
    /// The clients of scheduled tasks, if they move with deployments.
    #[cfg(feature = "schedules")]
    pub(crate) schedules: Option<crate::schedules::Schedules>,
}

impl ServiceRollout {
    /// A copy with the containers that run our image; defaults to the definition's only container.
    pub(crate) async fn with_containers(self: &Arc<Self>) -> Result<Arc<Self>, Error> {
        if !self.containers.is_empty() {
            return Ok(Arc::clone(self));
        }
        let container = match &self.base {
            Some(base) => base.only_container()?,
            None => self.api.definition(&self.observe().await?.definition).await?.only_container()?,
        };
        Ok(Arc::new(ServiceRollout { containers: vec![container], ..Self::clone(self) }))
    }

    /// Whether a deployment only changes the service: no one-off tasks and no scheduled tasks belong to it.
    pub(crate) fn has_no_steps(&self) -> bool {
        #[cfg(feature = "schedules")]
        let has_schedules = self.schedules.is_some();
        #[cfg(not(feature = "schedules"))]
        let has_schedules = false;
        self.steps.is_empty() && !has_schedules
    }

    /// The container whose failures take precedence.
    fn container(&self) -> &str {
        self.containers.first().map_or("", String::as_str)
    }

    /// The definition to deploy: the base or the current one, with the overlay, and with our image in our containers.
    pub(crate) fn wanted(
        &self,
        current: &TaskDefinition,
        image: &DigestRef,
    ) -> Result<TaskDefinition, Error> {
        let base = self.base.as_ref().unwrap_or(current);
        let mut definition = match &self.overlay {
            Some(overlay) => base.overlaid(overlay, self.container())?,
            None => base.clone(),
        };
        let mut is_new_image = false;
        for container in &self.containers {
            definition = definition.with_image(container, image)?;
            is_new_image |= current.image(container).ok() != Some(image.to_string().as_str());
        }
        match &self.overlay {
            Some(overlay) => definition.with_image_tags(overlay, current, is_new_image),
            None => Ok(definition),
        }
    }
}
