//! Survey of the service before any change: the current definition, a deployment in progress, the rollback revision.

use aws_sdk_ecs::types::{
    Deployment, DeploymentControllerType, DeploymentRolloutState, ResourceManagementType, Service,
    ServiceDeploymentBrief, ServiceDeploymentStatus as Status, StabilityStatus,
};
use bp_artifact::deploy::{Current, Revision};

use super::{
    ServiceRollout,
    history::History,
    service::{Followed, deployment, primary},
    strategy::defers_cleanup,
};
use crate::{definition::TaskDefinition, error::Error, names::name_of};

/// The statuses of a service deployment that has not ended.
pub(super) const IN_PROGRESS: [Status; 5] = [
    Status::Pending,
    Status::InProgress,
    Status::StopRequested,
    Status::RollbackRequested,
    Status::RollbackInProgress,
];

/// The state of the service before any change.
#[derive(Debug)]
pub(crate) struct Survey {
    pub(crate) service: Service,
    /// The definition of the primary deployment.
    pub(crate) definition: String,
    pub(crate) in_flight: Option<Followed>,
    /// Whether the primary deployment failed and was not rolled back.
    pub(crate) failed: bool,
    /// Whether the primary deployment succeeded and tasks of earlier ones are still stopping.
    pub(crate) draining: bool,
}

/// The deployment controller, unless it is ECS.
fn other_controller(service: &Service) -> Option<&DeploymentControllerType> {
    let controller = service.deployment_controller.as_ref().map(|controller| &controller.r#type);
    controller.filter(|controller| **controller != DeploymentControllerType::Ecs)
}

/// The service with the task sets of CodeDeploy or an external controller as its deployments.
pub(crate) fn with_task_sets(mut service: Service) -> Service {
    if other_controller(&service).is_none() {
        return service;
    }
    let deployments = service.task_sets().iter().map(|set| {
        let is_steady = set.stability_status == Some(StabilityStatus::SteadyState);
        let state =
            if is_steady { DeploymentRolloutState::Completed } else { DeploymentRolloutState::InProgress };
        Deployment::builder()
            .set_id(set.id.clone())
            .set_status(set.status.clone())
            .set_task_definition(set.task_definition.clone())
            .desired_count(set.computed_desired_count)
            .running_count(set.running_count)
            .pending_count(set.pending_count)
            .set_created_at(set.created_at)
            .rollout_state(state)
            .build()
    });
    service.deployments = Some(deployments.collect());
    service
}

impl Survey {
    pub(crate) fn is_settled(&self) -> bool {
        self.in_flight.is_none() && !self.failed
    }
}

impl ServiceRollout {
    /// Reads the service, which must accept UpdateService, and its deployment in progress. Two calls if there is none.
    pub(crate) async fn survey(&self) -> Result<Survey, Error> {
        let service = self.existing_service().await?;
        let name = || service.service_name.clone().unwrap_or_else(|| self.api.service.clone());
        if let Some(controller) = other_controller(&service) {
            let controller = controller.as_str().to_owned();
            return Err(Error::UnsupportedController { service: name(), controller });
        }
        if service.resource_management_type == Some(ResourceManagementType::Ecs) {
            return Err(Error::ExpressService { service: name() });
        }
        self.survey_of(service).await
    }

    /// As [`survey`](Self::survey), for a service that anything may deploy: for reading only.
    pub(crate) async fn observe(&self) -> Result<Survey, Error> {
        let service = self.existing_service().await?;
        self.survey_of(with_task_sets(service)).await
    }

    pub(crate) async fn existing_service(&self) -> Result<Service, Error> {
        self.api.find_service().await?.ok_or_else(|| self.api.not_found())
    }

    async fn survey_of(&self, service: Service) -> Result<Survey, Error> {
        let status = service.status.as_deref().unwrap_or_default();
        if status != "ACTIVE" {
            let name = service.service_name.clone().unwrap_or_else(|| self.api.service.clone());
            return Err(Error::ServiceNotActive { service: name, status: status.to_owned() });
        }
        let unusable = |reason: &str| Error::UnexpectedResponse {
            operation: "ecs:DescribeServices",
            reason: reason.to_owned(),
        };
        let current =
            Followed::primary(&service).ok_or_else(|| unusable("the service has no primary deployment"))?;
        let in_flight = self.in_progress(&service).await?;
        let state = primary(&service).and_then(|p| p.rollout_state.as_ref());
        let failed = state == Some(&DeploymentRolloutState::Failed);
        let is_removing = state == Some(&DeploymentRolloutState::InProgress)
            || (defers_cleanup(&service) && service.deployments().len() > 1);
        let draining = in_flight.is_none() && !failed && is_removing;
        Ok(Survey { service, definition: current.definition, in_flight, failed, draining })
    }

    /// The deployment in progress. One that has succeeded is complete, although its rollout state stays `IN_PROGRESS`
    /// until the last task of an earlier one has stopped.
    pub(crate) async fn in_progress(&self, service: &Service) -> Result<Option<Followed>, Error> {
        if other_controller(service).is_some() {
            return Ok(None);
        }
        if let Some(brief) = self.api.deployments(&IN_PROGRESS, None).await?.into_iter().next() {
            return self.listed(service, brief).await.map(Some);
        }
        let rolling = |p: &&Deployment| p.rollout_state == Some(DeploymentRolloutState::InProgress);
        if primary(service).filter(rolling).is_none() {
            return Ok(None);
        }
        let Some(current) = Followed::primary(service) else { return Ok(None) };
        let resulting = match self.api.deployments(&[], None).await?.first() {
            Some(newest) => self.resulting_revision(newest).await?,
            None => None,
        };
        // Otherwise the deployment is not listed yet.
        let is_over = resulting.is_some_and(|revision| name_of(&revision) == name_of(&current.id));
        Ok((!is_over).then_some(current))
    }

    /// The service revision that is in place after a completed service deployment.
    async fn resulting_revision(&self, brief: &ServiceDeploymentBrief) -> Result<Option<String>, Error> {
        Ok(match &brief.status {
            Some(Status::Successful) => brief.target_service_revision_arn.clone(),
            Some(Status::RollbackSuccessful) => {
                let arn = brief.service_deployment_arn.as_deref().unwrap_or_default();
                let rollback = self.api.deployment(arn).await?.and_then(|d| d.rollback);
                rollback.and_then(|rollback| rollback.service_revision_arn)
            }
            _ => None,
        })
    }

    /// Converts a listed service deployment, and reads its task definition.
    async fn listed(&self, service: &Service, brief: ServiceDeploymentBrief) -> Result<Followed, Error> {
        let revision = brief.target_service_revision_arn.unwrap_or_default();
        let id = format!("ecs-svc/{}", name_of(&revision));
        let definition = match deployment(service, &id).and_then(|d| d.task_definition.clone()) {
            Some(definition) => definition,
            None => self.definition_of(&revision).await?.unwrap_or_default(),
        };
        Ok(Followed { id, definition, created_at: brief.created_at, arn: brief.service_deployment_arn })
    }

    /// The deployment in progress, otherwise the last one. `None` if ECS no longer retains it.
    pub(crate) async fn latest(&self, survey: &Survey) -> Result<Option<Followed>, Error> {
        if survey.in_flight.is_some() {
            return Ok(survey.in_flight.clone());
        }
        match self.api.deployments(&[], None).await?.into_iter().next() {
            Some(brief) => self.listed(&survey.service, brief).await.map(Some),
            None if survey.failed => Ok(Followed::primary(&survey.service)),
            None => Ok(None),
        }
    }

    /// The task definition of a service revision.
    async fn definition_of(&self, revision: &str) -> Result<Option<String>, Error> {
        Ok(self.api.revision(revision).await?.and_then(|revision| revision.task_definition))
    }

    /// Reads a definition as a revision to restore.
    pub(crate) async fn revision(&self, definition: &str) -> Result<Revision, Error> {
        self.as_revision(&self.api.definition(definition).await?)
    }

    /// Converts a definition. If `base` adds our container for the first time, the current definition has no image of
    /// it.
    pub(crate) fn as_revision(&self, definition: &TaskDefinition) -> Result<Revision, Error> {
        let image = match definition.image(self.container()) {
            Ok(image) => image.to_owned(),
            Err(Error::ContainerNotFound { .. }) if self.base.is_some() => String::new(),
            Err(error) => return Err(error),
        };
        Ok(Revision::new(definition.arn().unwrap_or_default(), image))
    }

    /// The definition of the last completed deployment, which is not always the running one.
    pub(crate) async fn stable(&self, survey: &Survey) -> Result<String, Error> {
        Ok(self.last_stable(survey).await?.unwrap_or_else(|| survey.definition.clone()))
    }

    /// The definition that a failed deployment returns to. `None` when no deployment has succeeded yet.
    pub(crate) async fn rollback_definition(
        &self,
        survey: &Survey,
        current: &TaskDefinition,
    ) -> Result<Option<TaskDefinition>, Error> {
        match self.last_stable(survey).await? {
            Some(stable) if stable == survey.definition => Ok(Some(current.clone())),
            Some(stable) => self.api.definition(&stable).await.map(Some),
            None => Ok(None),
        }
    }

    /// As [`stable`](Self::stable). `None` when no deployment has succeeded yet, as far as ECS retains them.
    pub(crate) async fn last_stable(&self, survey: &Survey) -> Result<Option<String>, Error> {
        if survey.is_settled() {
            return Ok(Some(survey.definition.clone()));
        }
        let mut history = History::new(&self.api, &[]);
        while let Some(brief) = history.next().await? {
            if let Some(revision) = self.resulting_revision(&brief).await?
                && let Some(definition) = self.definition_of(&revision).await?
            {
                return Ok(Some(definition));
            }
        }
        // ECS no longer retains it: use the definition that the deployment in progress replaces.
        let sources = match survey.in_flight.as_ref().and_then(|followed| followed.arn.as_deref()) {
            Some(arn) => self.sources(arn).await?,
            None => Vec::new(),
        };
        let finished = survey.service.deployments().iter().filter(|d| {
            d.status.as_deref() != Some("PRIMARY")
                && d.rollout_state == Some(DeploymentRolloutState::Completed)
        });
        let finished = finished.filter_map(|d| d.task_definition.clone());
        Ok(sources.into_iter().chain(finished).next())
    }

    /// The task definitions that a service deployment replaces.
    async fn sources(&self, arn: &str) -> Result<Vec<String>, Error> {
        let mut definitions = Vec::new();
        let deployment = self.api.deployment(arn).await?;
        for source in deployment.and_then(|d| d.source_service_revisions).unwrap_or_default() {
            if let Some(definition) = self.definition_of(source.arn.as_deref().unwrap_or_default()).await? {
                definitions.push(definition);
            }
        }
        Ok(definitions)
    }

    /// The rollback revision, if the caller has not recorded one.
    pub(crate) async fn previous(&self) -> Result<Revision, Error> {
        let survey = self.survey().await?;
        let none = || Error::NoPrevious { service: self.api.service.clone() };
        if !survey.is_settled() {
            let stable = self.stable(&survey).await?;
            let current = survey.in_flight.as_ref().map_or(&survey.definition, |f| &f.definition);
            return if stable == *current { Err(none()) } else { self.revision(&stable).await };
        }
        let mut history = History::new(&self.api, &[Status::Successful]);
        while let Some(brief) = history.next().await? {
            let revision = brief.target_service_revision_arn.as_deref().unwrap_or_default();
            let current = primary(&survey.service).and_then(|p| p.id.as_deref()).map(name_of);
            if current != Some(name_of(revision)) {
                continue;
            }
            let sources = self.sources(brief.service_deployment_arn.as_deref().unwrap_or_default()).await?;
            if let Some(previous) = sources.into_iter().find(|d| *d != survey.definition) {
                return self.revision(&previous).await;
            }
        }
        Err(none())
    }

    pub(crate) async fn current(&self) -> Result<Current, Error> {
        let survey = self.survey().await?;
        let stable = self.revision(&self.stable(&survey).await?).await?;
        let rolling_out = match &survey.in_flight {
            Some(followed) => Some(self.revision(&followed.definition).await?),
            None if survey.failed => Some(self.revision(&survey.definition).await?),
            None => None,
        };
        #[cfg(feature = "schedules")]
        let stable = {
            let definitions = [stable.id.as_str(), survey.definition.as_str()];
            let found = self.scheduled(&survey.service, &definitions).await?;
            stable.with_schedules(found.iter().map(crate::schedules::Entry::recorded).collect())
        };
        Ok(Current::new(stable, rolling_out))
    }
}
