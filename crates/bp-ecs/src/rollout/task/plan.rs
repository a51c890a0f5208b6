//! Plan of a one-off task: the service, and the registered definition.

use aws_sdk_ecs::types::{PropagateTags, Service, Tag};
use bp_artifact::{ResolvedImage, deploy::Revision};

use crate::{
    definition::{Overlay, TaskDefinition},
    error::Error,
    one_off::OneOff,
    preflight::limits,
    rollout::{ServiceRollout, service::Followed},
};

/// A planned task, whose definition is registered.
pub(super) struct TaskPlan {
    pub(super) service: Service,
    /// The registered definition.
    pub(super) definition: TaskDefinition,
    /// The service's current revision.
    pub(super) current: Revision,
    /// The container whose exit code counts.
    pub(super) container: String,
    pub(super) tags: TaskTags,
}

/// The tags of a task.
#[derive(Debug, Default)]
pub(super) struct TaskTags {
    /// Whether it gets those of the task definition.
    pub(super) of_definition: bool,
    /// Those of the service, which RunTask cannot copy.
    pub(super) own: Vec<Tag>,
}

impl TaskPlan {
    pub(super) fn arn(&self) -> &str {
        self.definition.arn().unwrap_or_default()
    }

    /// Whether the task stops when the container exits.
    pub(super) fn is_essential(&self) -> bool {
        let containers = self.definition.as_json()["containerDefinitions"].as_array();
        let mut containers = containers.into_iter().flatten();
        containers.find(|c| c["name"] == *self.container).is_none_or(|c| c["essential"] != false)
    }
}

impl ServiceRollout {
    /// Reads the service, and registers the definition or reuses an identical one.
    pub(super) async fn plan_task(&self, task: &OneOff, image: &ResolvedImage) -> Result<TaskPlan, Error> {
        let container = task.container.as_deref().unwrap_or(self.container()).to_owned();
        if !self.containers.contains(&container) {
            return Err(Error::NotOurContainer { container, containers: self.containers.clone() });
        }
        let service = self.api.find_service().await?.ok_or_else(|| self.api.not_found())?;
        let status = service.status.as_deref().unwrap_or_default();
        if status != "ACTIVE" {
            let service = service.service_name.unwrap_or_default();
            return Err(Error::ServiceNotActive { service, status: status.to_owned() });
        }
        let base = Followed::primary(&service).map(|primary| primary.definition);
        let base =
            base.or_else(|| service.task_definition.clone()).ok_or_else(|| Error::UnexpectedResponse {
                operation: "ecs:DescribeServices",
                reason: "the service has no task definition".to_owned(),
            })?;
        let base = self.api.definition(&base).await?;
        let wanted = self.wanted(&base, &image.reference)?;
        limits::check(&service, &wanted)?;
        let current = self.as_revision(&base)?;
        let tags = self.task_tags(&service).await?;
        let definition = if wanted.is_same(&base) { base } else { self.api.register(&wanted).await? };
        Ok(TaskPlan { service, definition, current, container, tags })
    }

    /// The tags that a task of the service has, unless bp.toml disables tags.
    async fn task_tags(&self, service: &Service) -> Result<TaskTags, Error> {
        let mut tags = TaskTags::default();
        if self.overlay.as_ref().is_some_and(Overlay::has_no_tags) {
            return Ok(tags);
        }
        match &service.propagate_tags {
            Some(PropagateTags::TaskDefinition) => tags.of_definition = true,
            Some(PropagateTags::Service) => {
                tags.own = self.api.service_tags().await?;
                tags.own.retain(|tag| {
                    let key = tag.key.as_deref().unwrap_or_default();
                    !key.is_empty() && !key.to_ascii_lowercase().starts_with("aws:")
                });
            }
            Some(_) | None => {}
        }
        Ok(tags)
    }
}
