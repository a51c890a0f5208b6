//! Services: what they run, their deployments, and how the API shows them.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    World,
    definition::Definition,
    names::{Place, deployment_number, epoch, hex_id, word_id},
    settings::Settings,
    stages::Stages,
    task::{Task, prune},
};

/// How long after its start a service deployment is listed: callers have to look again.
const LISTED_AFTER: Duration = Duration::from_secs(1);

/// Whether a service takes updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Active,
    Draining,
    Inactive,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Status::Active => "ACTIVE",
            Status::Draining => "DRAINING",
            Status::Inactive => "INACTIVE",
        }
    }
}

/// The roll-out state of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RolloutState {
    InProgress,
    Completed,
    Failed,
}

impl RolloutState {
    fn name(self) -> &'static str {
        match self {
            RolloutState::InProgress => "IN_PROGRESS",
            RolloutState::Completed => "COMPLETED",
            RolloutState::Failed => "FAILED",
        }
    }
}

/// One revision of a service: the `ecs-svc/<number>` of DescribeServices and the service revision of the same number.
#[derive(Debug)]
pub(super) struct Rollout {
    pub(super) number: u64,
    pub(super) definition: Arc<Definition>,
    pub(super) created: Timestamp,
    pub(super) updated: Timestamp,
    pub(super) state: RolloutState,
    pub(super) reason: String,
    /// Whether it once ran as it should, so that a rollback may go back to it.
    pub(super) completed: bool,
    /// Failed tasks since the last healthy one.
    pub(super) failed: u32,
    /// Failed tasks in a row, for the pause before the next start.
    pub(super) streak: u32,
    pub(super) retry_at: Timestamp,
    /// Container name, image and digest, once a task has pulled them.
    pub(super) images: Vec<(String, String, String)>,
    /// The state at the time of the deployment of everything else that the revision names.
    spec: Map<String, Value>,
}

/// The status of a service deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Pending,
    InProgress,
    Successful,
    Stopped,
    StopRequested,
    RollbackRequested,
    RollbackInProgress,
    RollbackSuccessful,
    RollbackFailed,
}

impl Phase {
    pub(super) fn name(self) -> &'static str {
        match self {
            Phase::Pending => "PENDING",
            Phase::InProgress => "IN_PROGRESS",
            Phase::Successful => "SUCCESSFUL",
            Phase::Stopped => "STOPPED",
            Phase::StopRequested => "STOP_REQUESTED",
            Phase::RollbackRequested => "ROLLBACK_REQUESTED",
            Phase::RollbackInProgress => "ROLLBACK_IN_PROGRESS",
            Phase::RollbackSuccessful => "ROLLBACK_SUCCESSFUL",
            Phase::RollbackFailed => "ROLLBACK_FAILED",
        }
    }

    pub(super) fn is_over(self) -> bool {
        matches!(self, Phase::Successful | Phase::Stopped | Phase::RollbackSuccessful | Phase::RollbackFailed)
    }

    pub(super) fn is_rolling_back(self) -> bool {
        matches!(self, Phase::RollbackRequested | Phase::RollbackInProgress)
    }
}

/// Where a service deployment goes back to, and why.
#[derive(Debug)]
pub(super) struct Rollback {
    pub(super) reason: String,
    pub(super) at: Timestamp,
    pub(super) to: u64,
}

/// The record of one deployment of a service.
#[derive(Debug)]
pub(super) struct ServiceDeployment {
    pub(super) id: String,
    /// The revision that it brings.
    pub(super) target: u64,
    sources: Vec<u64>,
    created: Timestamp,
    pub(super) updated: Timestamp,
    finished: Option<Timestamp>,
    pub(super) phase: Phase,
    pub(super) reason: Option<String>,
    pub(super) rollback: Option<Rollback>,
    pub(super) failures: u32,
    pub(super) triggered: bool,
    pub(super) alarms: Vec<String>,
    /// Lifecycle stages, for strategies other than rolling.
    pub(super) stages: Option<Stages>,
}

impl ServiceDeployment {
    pub(super) fn enter(&mut self, phase: Phase, reason: Option<String>, now: Timestamp) {
        self.phase = phase;
        self.updated = now;
        if reason.is_some() {
            self.reason = reason;
        }
        if phase.is_over() {
            self.finished = Some(now);
        }
    }
}

/// One line of the service's events.
#[derive(Debug)]
struct Event {
    id: String,
    at: Timestamp,
    message: String,
}

/// One service.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) cluster: String,
    pub(super) name: String,
    pub(super) status: Status,
    pub(super) desired: u32,
    pub(super) settings: Settings,
    /// What the caller set and the model only keeps: network, load balancers, tags and the like.
    pub(super) spec: Map<String, Value>,
    created: Timestamp,
    created_by: String,
    /// The model's time: everything up to it has happened.
    pub(super) clock: Timestamp,
    pub(super) primary: u64,
    pub(super) rollouts: Vec<Rollout>,
    pub(super) deployments: Vec<ServiceDeployment>,
    pub(super) tasks: Vec<Task>,
    events: Vec<Event>,
    /// Shown instead of the status of the newest service deployment.
    pub(super) shown_status: Option<String>,
}

/// What a service is made of.
pub(super) struct Birth {
    pub(super) cluster: String,
    pub(super) name: String,
    pub(super) desired: u32,
    pub(super) settings: Settings,
    pub(super) spec: Map<String, Value>,
    pub(super) created_by: String,
}

impl Service {
    pub(super) fn new(birth: Birth, definition: Arc<Definition>, now: Timestamp) -> Service {
        let mut service = Service {
            cluster: birth.cluster,
            name: birth.name,
            status: Status::Active,
            desired: birth.desired,
            settings: birth.settings,
            spec: birth.spec,
            created: now,
            created_by: birth.created_by,
            clock: now,
            primary: 0,
            rollouts: Vec::new(),
            deployments: Vec::new(),
            tasks: Vec::new(),
            events: Vec::new(),
            shown_status: None,
        };
        service.deploy(definition, now);
        service
    }

    /// Begins a deployment. One that is under way is given up for it.
    pub(super) fn deploy(&mut self, definition: Arc<Definition>, now: Timestamp) {
        if let Some(under_way) = self.under_way() {
            let reason = "Service deployment was superseded by a newer service deployment.".to_owned();
            under_way.enter(Phase::Stopped, Some(reason), now);
        }
        let sources = self.shown().map(|rollout| rollout.number).collect();
        let number = deployment_number();
        self.rollouts.push(Rollout {
            number,
            definition,
            created: now,
            updated: now,
            state: RolloutState::InProgress,
            reason: format!("ECS deployment ecs-svc/{number} in progress."),
            completed: false,
            failed: 0,
            streak: 0,
            retry_at: now,
            images: Vec::new(),
            spec: self.spec.clone(),
        });
        self.primary = number;
        // The first deployment of a service has nothing to shift traffic from: it is rolled out plainly.
        let stages = (self.rollouts.len() > 1).then(|| Stages::of(&self.settings, now)).flatten();
        self.deployments.push(ServiceDeployment {
            id: word_id(),
            target: number,
            sources,
            created: now,
            updated: now,
            finished: None,
            phase: Phase::Pending,
            reason: None,
            rollback: None,
            failures: 0,
            triggered: false,
            alarms: Vec::new(),
            stages,
        });
        self.shown_status = None;
    }

    /// Makes the service and all its deployments older.
    pub(super) fn backdate(&mut self, by: Duration) {
        self.created -= by;
        self.rollouts.iter_mut().for_each(|rollout| rollout.created -= by);
        for deployment in &mut self.deployments {
            deployment.created -= by;
            deployment.finished = deployment.finished.map(|at| at - by);
        }
    }

    pub(super) fn rollout(&self, number: u64) -> Option<&Rollout> {
        self.rollouts.iter().find(|rollout| rollout.number == number)
    }

    pub(super) fn rollout_mut(&mut self, number: u64) -> Option<&mut Rollout> {
        self.rollouts.iter_mut().find(|rollout| rollout.number == number)
    }

    /// The service deployment that has not ended.
    pub(super) fn under_way(&mut self) -> Option<&mut ServiceDeployment> {
        self.deployments.last_mut().filter(|deployment| !deployment.phase.is_over())
    }

    /// The revisions that DescribeServices shows: the primary one, and others while they have tasks.
    fn shown(&self) -> impl Iterator<Item = &Rollout> {
        let has_tasks =
            |number| self.tasks.iter().any(|t| t.deployment == number && !t.is_stopped(self.clock));
        let primary = self.rollouts.iter().filter(|r| r.number == self.primary);
        let others =
            self.rollouts.iter().rev().filter(move |r| r.number != self.primary && has_tasks(r.number));
        primary.chain(others)
    }

    pub(super) fn say(&mut self, now: Timestamp, message: impl std::fmt::Display) {
        let message = format!("(service {}) {message}", self.name);
        self.events.push(Event { id: hex_id(), at: now, message });
    }

    pub(super) fn arn(&self, place: &Place) -> String {
        place.arn(&format!("service/{}/{}", self.cluster, self.name))
    }

    pub(super) fn deployment_arn(&self, place: &Place, deployment: &ServiceDeployment) -> String {
        place.arn(&format!("service-deployment/{}/{}/{}", self.cluster, self.name, deployment.id))
    }

    pub(super) fn revision_arn(&self, place: &Place, number: u64) -> String {
        place.arn(&format!("service-revision/{}/{}/{number}", self.cluster, self.name))
    }

    pub(super) fn target_group(&self) -> Option<String> {
        let group = self.spec.get("loadBalancers")?.get(0)?.get("targetGroupArn")?.as_str()?;
        Some(group.to_owned())
    }

    /// Tasks that run, and that are about to, of one revision or of all.
    fn counts(&self, of: Option<u64>) -> (usize, usize) {
        let ours = || self.tasks.iter().filter(|t| of.is_none_or(|number| t.deployment == number));
        let running = ours().filter(|t| t.is_running(self.clock)).count();
        (running, ours().filter(|t| t.is_pending(self.clock)).count())
    }

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
        let revision = |rollout: &Rollout| self.summary(place, rollout.number);
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
        // Only rolling deployments have a roll-out state.
        if self.settings.is_rolling() {
            view["rolloutState"] = json!(rollout.state.name());
            view["rolloutStateReason"] = json!(rollout.reason);
        }
        view
    }

    fn summary(&self, place: &Place, number: u64) -> Value {
        let (running, pending) = self.counts(Some(number));
        let requested = if number == self.primary { self.desired as usize } else { running };
        let mut view = json!({
            "arn": self.revision_arn(place, number),
            "requestedTaskCount": requested,
            "runningTaskCount": running,
            "pendingTaskCount": pending,
        });
        let stages = self.deployments.last().and_then(|d| Some((d.target, d.stages.as_ref()?)));
        if let Some((target, stages)) = stages {
            let (test, production) = stages.weights();
            let share = |new: f64| if number == target { new } else { 100.0 - new };
            view["requestedTestTrafficWeight"] = json!(share(test));
            view["requestedProductionTrafficWeight"] = json!(share(production));
        }
        view
    }

    /// The service deployments that are listed by now, newest first.
    pub(super) fn listed(&self) -> impl Iterator<Item = &ServiceDeployment> {
        self.deployments.iter().rev().filter(|d| d.created + LISTED_AFTER <= self.clock)
    }

    fn status_of(&self, deployment: &ServiceDeployment) -> String {
        let newest = self.deployments.last().is_some_and(|last| last.id == deployment.id);
        match &self.shown_status {
            Some(status) if newest => status.clone(),
            _ => deployment.phase.name().to_owned(),
        }
    }

    /// One line of ListServiceDeployments.
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

    /// When it was created, for the filter of ListServiceDeployments.
    pub(super) fn created_of(deployment: &ServiceDeployment) -> Timestamp {
        deployment.created
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
        let images: Vec<Value> = match rollout.images.is_empty() {
            true => rollout
                .definition
                .containers()
                .iter()
                .map(|c| json!({ "containerName": c["name"], "image": c["image"] }))
                .collect(),
            false => rollout
                .images
                .iter()
                .map(|(name, image, digest)| {
                    json!({ "containerName": name, "image": image, "imageDigest": digest })
                })
                .collect(),
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
