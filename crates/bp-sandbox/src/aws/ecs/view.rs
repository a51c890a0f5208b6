//! API views of services, deployments and revisions.

use serde_json::{Value, json};

use super::{
    names::{Place, epoch},
    rollout::{Rollout, ServiceDeployment},
    service::{Event, Service, Status},
    task_view::prune,
    world::World,
};

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
        let event = |e: &Event| json!({ "id": e.id, "createdAt": epoch(e.at), "message": e.message });
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
            "launchType": "FARGATE",
            "platformVersion": "LATEST",
            "platformFamily": "Linux",
            "taskDefinition": definition,
            "deploymentConfiguration": self.settings.view(),
            "deployments": deployments,
            "events": self.events.iter().rev().take(100).map(event).collect::<Vec<_>>(),
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
        for (field, value) in self.spec.iter().filter(|(field, _)| tags || *field != "tags") {
            view[field] = value.clone();
        }
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
        let primary = rollout.number == self.primary;
        let mut view = json!({
            "id": format!("ecs-svc/{}", rollout.number),
            "status": if primary { "PRIMARY" } else { "ACTIVE" },
            "taskDefinition": rollout.definition.arn,
            "desiredCount": if primary { self.desired } else { 0 },
            "pendingCount": pending,
            "runningCount": running,
            "failedTasks": rollout.failed,
            "createdAt": epoch(rollout.created),
            "updatedAt": epoch(rollout.updated),
            "launchType": "FARGATE",
            "platformVersion": "1.4.0",
            "platformFamily": "Linux",
        });
        if let Some(network) = self.spec.get("networkConfiguration") {
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
        let requested = if number == self.primary { self.desired as usize } else { running };
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
            "startedAt": epoch(deployment.created),
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
        view["deploymentConfiguration"] = self.settings.view();
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
            stages.show(&mut view, self.clock);
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
            "launchType": "FARGATE",
            "platformVersion": "1.4.0",
            "platformFamily": "Linux",
            "loadBalancers": [],
            "serviceRegistries": [],
            "containerImages": images,
            "guardDutyEnabled": false,
            "createdAt": epoch(rollout.created),
        });
        for field in ["loadBalancers", "networkConfiguration", "launchType", "capacityProviderStrategy"] {
            if let Some(value) = rollout.spec.get(field) {
                view[field] = value.clone();
            }
        }
        view
    }
}
