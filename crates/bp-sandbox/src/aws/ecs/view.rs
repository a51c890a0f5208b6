//! API views of services, deployments and revisions.

use serde_json::{Value, json};

use super::{
    injected::InjectedContainer,
    names::{Place, epoch},
    platform::Platform,
    rollout::{Phase, Rollout, RolloutState, ServiceDeployment},
    service::{Service, Status},
    task_view::prune,
    world::World,
};

/// Settings that a service revision has, and a service has not.
const REVISION_ONLY: [&str; 5] = [
    "serviceConnectConfiguration",
    "volumeConfigurations",
    "vpcLatticeConfigurations",
    "gatewayConnectors",
    "monitoring",
];

impl Service {
    /// The view of DescribeServices.
    pub(super) fn view(&self, world: &World<'_>, tags: bool) -> Value {
        let place = &world.place;
        let (running, pending) = self.counts(None);
        let definition = self.rollout(self.primary).map(|r| r.definition.arn.clone());
        let deployments: Vec<Value> = match self.status {
            Status::Inactive => Vec::new(),
            _ => self.shown().map(|rollout| self.deployment_view(rollout)).collect(),
        };
        let mut view = json!({
            "serviceArn": self.arn(place),
            "serviceName": self.name,
            "clusterArn": place.arn(&format!("cluster/{}", self.cluster)),
            "loadBalancers": [],
            "serviceRegistries": [],
            "status": self.status.name(),
            "desiredCount": self.desired,
            "runningCount": running,
            "pendingCount": pending,
            "taskDefinition": definition,
            "deploymentConfiguration": self.settings.view(),
            "deployments": deployments,
            "events": self.shown_events(),
            "createdAt": epoch(self.created),
            "createdBy": self.created_by,
            "placementConstraints": [],
            "placementStrategy": [],
            "schedulingStrategy": "REPLICA",
            "enableECSManagedTags": false,
            "propagateTags": "NONE",
            "enableExecuteCommand": false,
            "availabilityZoneRebalancing": "DISABLED",
        });
        let shown = |field: &str| {
            let is_platform = ["launchType", "capacityProviderStrategy", "platformVersion"].contains(&field);
            !is_platform && !REVISION_ONLY.contains(&field) && (tags || field != "tags")
        };
        for (field, value) in self.spec.iter().filter(|(field, _)| shown(field)) {
            view[field] = value.clone();
        }
        self.platform().show(&self.spec, "LATEST", &mut view);
        if let Some(newest) = self.deployments.last() {
            view["currentServiceDeployment"] = json!(self.deployment_arn(place, newest));
        }
        let revision = |rollout: &Rollout| self.counted(place, rollout.number);
        view["currentServiceRevisions"] = self.shown().map(revision).collect();
        view
    }

    /// One of `deployments[]`.
    fn deployment_view(&self, rollout: &Rollout) -> Value {
        let (running, pending) = self.counts(Some(rollout.number));
        let ended = self.deployments.last().is_some_and(|deployment| deployment.phase.is_over());
        let mut view = json!({
            "id": format!("ecs-svc/{}", rollout.number),
            "status": match (rollout.number == self.primary, rollout.state, ended) {
                (true, ..) => "PRIMARY",
                (false, RolloutState::Failed, true) => "DRAINING",
                (false, ..) => "ACTIVE",
            },
            "taskDefinition": rollout.definition.arn,
            "desiredCount": rollout.desired,
            "pendingCount": pending,
            "runningCount": running,
            "failedTasks": rollout.failed,
            "createdAt": epoch(rollout.created),
            "updatedAt": epoch(rollout.updated),
        });
        Platform::of(&rollout.spec).show(&rollout.spec, "1.4.0", &mut view);
        if let Some(network) = rollout.spec.get("networkConfiguration") {
            view["networkConfiguration"] = network.clone();
        }
        // Only rolling deployments have a rollout state.
        if self.settings.is_rolling() {
            view["rolloutState"] = json!(rollout.state.name());
            view["rolloutStateReason"] = json!(rollout.reason);
        }
        view
    }

    /// A revision with its tasks.
    fn counted(&self, place: &Place, number: u64) -> Value {
        let (running, pending) = self.counts(Some(number));
        let requested = self.rollout(number).map_or(0, |rollout| rollout.desired);
        json!({
            "arn": self.revision_arn(place, number),
            "requestedTaskCount": requested,
            "runningTaskCount": running,
            "pendingTaskCount": pending,
        })
    }

    /// The same with its traffic weights, which only a service deployment shows.
    fn summary(&self, place: &Place, number: u64) -> Value {
        let mut view = self.counted(place, number);
        let stages = self.deployments.last().and_then(|d| Some((d.target, d.stages.as_ref()?)));
        if let Some((target, stages)) = stages {
            let (test, production) = stages.weights();
            let share = |new: f64| if number == target { new } else { 100.0 - new };
            view["requestedTestTrafficWeight"] = json!(share(test));
            view["requestedProductionTrafficWeight"] = json!(share(production));
        }
        view
    }

    fn status_of(&self, deployment: &ServiceDeployment) -> String {
        let newest = self.deployments.last().is_some_and(|last| last.id == deployment.id);
        match &self.shown_status {
            Some(status) if newest => status.clone(),
            _ => deployment.phase.name().to_owned(),
        }
    }

    /// An item of ListServiceDeployments.
    pub(super) fn brief(&self, place: &Place, deployment: &ServiceDeployment) -> Value {
        let mut view = json!({
            "serviceDeploymentArn": self.deployment_arn(place, deployment),
            "serviceArn": self.arn(place),
            "clusterArn": place.arn(&format!("cluster/{}", self.cluster)),
            "createdAt": epoch(deployment.created),
            "startedAt": deployment.started.map(epoch),
            "finishedAt": deployment.finished.map(epoch),
            "targetServiceRevisionArn": self.revision_arn(place, deployment.target),
            "status": self.status_of(deployment),
            "statusReason": deployment.reason,
        });
        prune(&mut view);
        view
    }

    /// The view of DescribeServiceDeployments.
    pub(super) fn full(&self, place: &Place, deployment: &ServiceDeployment) -> Value {
        let mut view = self.brief(place, deployment);
        let sources = deployment.sources.iter().map(|number| self.summary(place, *number));
        view["sourceServiceRevisions"] = sources.collect();
        view["targetServiceRevision"] = self.summary(place, deployment.target);
        if let Some(fields) = view.as_object_mut() {
            fields.remove("targetServiceRevisionArn");
        }
        view["updatedAt"] = epoch(deployment.updated);
        if deployment.phase == Phase::Stopped {
            view["stoppedAt"] = json!(deployment.finished.map(epoch));
        }
        view["deploymentConfiguration"] = self.settings.deployed_view();
        view["deploymentCircuitBreaker"] = json!({
            "status": match (self.settings.breaker.is_some(), deployment.triggered, deployment.phase.is_over()) {
                (false, ..) => "DISABLED",
                (_, true, _) => "TRIGGERED",
                (_, _, true) => "MONITORING_COMPLETE",
                (_, _, false) => "MONITORING",
            },
            "failureCount": deployment.failures,
            "threshold": self.settings.threshold(self.desired),
        });
        view["alarms"] = json!({ "status": "DISABLED" });
        if !self.settings.alarms.is_empty() {
            view["alarms"] = json!({
                "status": match (deployment.alarms.is_empty(), deployment.phase.is_over()) {
                    (false, _) => "TRIGGERED",
                    (_, true) => "MONITORING_COMPLETE",
                    (_, false) => "MONITORING",
                },
                "alarmNames": self.settings.alarms,
                "triggeredAlarmNames": deployment.alarms,
            });
        }
        if let Some(rollback) = &deployment.rollback {
            view["rollback"] = json!({
                "reason": rollback.reason,
                "startedAt": epoch(rollback.at),
                "serviceRevisionArn": self.revision_arn(place, rollback.to),
            });
        }
        if let Some(stages) = &deployment.stages {
            stages.show(&mut view);
        }
        view
    }

    /// The view of DescribeServiceRevisions.
    pub(super) fn revision_view(&self, place: &Place, rollout: &Rollout) -> Value {
        let images: Vec<Value> = if rollout.images.is_empty() {
            rollout
                .definition
                .containers()
                .iter()
                .map(|c| json!({ "containerName": c["name"], "image": c["image"] }))
                .collect()
        } else {
            rollout
                .images
                .iter()
                .map(|(name, image, digest)| {
                    json!({ "containerName": name, "image": image, "imageDigest": digest })
                })
                .collect()
        };
        let mut view = json!({
            "serviceRevisionArn": self.revision_arn(place, rollout.number),
            "serviceArn": self.arn(place),
            "clusterArn": place.arn(&format!("cluster/{}", self.cluster)),
            "taskDefinition": rollout.definition.arn,
            "loadBalancers": [],
            "serviceRegistries": [],
            "containerImages": images,
            "guardDutyEnabled": self.injected.iter().any(InjectedContainer::is_guard_duty),
            "createdAt": epoch(rollout.created),
        });
        Platform::of(&rollout.spec).show(&rollout.spec, "1.4.0", &mut view);
        let revised = ["loadBalancers", "networkConfiguration"].iter().chain(&REVISION_ONLY);
        for field in revised {
            if let Some(value) = rollout.spec.get(*field) {
                view[*field] = value.clone();
            }
        }
        view
    }
}
