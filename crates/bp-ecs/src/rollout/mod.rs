//! One rollout, step by step: read what is there, apply the change, follow the deployment, judge it, say why it fails,
//! go back, and prove what runs. The same files as in bp-eks.

mod apply;
mod approve;
mod deploy;
pub(crate) mod diagnose;
mod drift;
mod evidence;
mod follow;
mod history;
pub(crate) mod judge;
#[cfg(feature = "logs")]
mod logs;
mod patience;
mod proof;
mod reasons;
#[cfg(test)]
mod recorded;
mod restore;
mod service;
mod strategy;
mod survey;

mod words;

pub(crate) use survey::Survey;

use std::sync::Arc;

use bp_artifact::{DigestRef, deploy::TargetId};

use crate::{
    api::Api,
    definition::{Overlay, TaskDefinition},
    error::Error,
    options::Options,
};

/// One container of one service, and how it is deployed to: what every step reads.
#[derive(Debug, Clone)]
pub(crate) struct ServiceRollout {
    pub(crate) api: Api,
    pub(crate) id: TargetId,
    /// The containers that run our image. None are named: then it is the only one, which has to be
    /// [read](ServiceRollout::with_containers) first.
    pub(crate) containers: Vec<String>,
    /// What new revisions are made of, when it is not what the service runs.
    pub(crate) base: Option<TaskDefinition>,
    /// What is laid over every definition; `None` leaves what an earlier one set.
    pub(crate) overlay: Option<Overlay>,
    pub(crate) options: Options,
    #[cfg(feature = "logs")]
    pub(crate) logs: Option<aws_sdk_cloudwatchlogs::Client>,
}

impl ServiceRollout {
    /// The same, with the containers that run our image: where none is named, the definition's only one.
    pub(crate) async fn with_containers(self: &Arc<Self>) -> Result<Arc<Self>, Error> {
        if !self.containers.is_empty() {
            return Ok(Arc::clone(self));
        }
        let container = match &self.base {
            Some(base) => base.only_container()?,
            None => self.api.definition(&self.survey().await?.definition).await?.only_container()?,
        };
        Ok(Arc::new(ServiceRollout { containers: vec![container], ..Self::clone(self) }))
    }

    /// The container whose failures count first.
    fn container(&self) -> &str {
        self.containers.first().map_or("", String::as_str)
    }

    /// The definition to deploy: the given one or what is in place, with the overlay, and with our image in our
    /// containers.
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
