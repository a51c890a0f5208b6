//! Services, their settings and their deployments.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{
    definition::Definition,
    names::{Place, deployment_number, hex_id, word_id},
    rollout::{Phase, Rollout, RolloutState, ServiceDeployment},
    settings::Settings,
    stages::Stages,
    task::Task,
};

/// The delay until a new service deployment is listed: callers must poll.
const LISTED_AFTER: Duration = Duration::from_secs(1);

/// Whether a service accepts updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Active,
    Draining,
    Inactive,
}

impl Status {
    pub(super) fn name(self) -> &'static str {
        match self {
            Status::Active => "ACTIVE",
            Status::Draining => "DRAINING",
            Status::Inactive => "INACTIVE",
        }
    }
}

/// A service event.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) at: Timestamp,
    pub(super) message: String,
}

/// One service.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) cluster: String,
    pub(super) name: String,
    pub(super) status: Status,
    pub(super) desired: u32,
    pub(super) settings: Settings,
    /// Settings that the model only stores, such as network, load balancers and tags.
    pub(super) spec: Map<String, Value>,
    pub(super) created: Timestamp,
    pub(super) created_by: String,
    /// The simulated time: all transitions up to it have been performed.
    pub(super) clock: Timestamp,
    pub(super) primary: u64,
    pub(super) rollouts: Vec<Rollout>,
    pub(super) deployments: Vec<ServiceDeployment>,
    pub(super) tasks: Vec<Task>,
    pub(super) events: Vec<Event>,
    /// Overrides the status of the newest service deployment.
    pub(super) shown_status: Option<String>,
}

/// The parameters of a new service.
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

    /// Starts a deployment. It supersedes one in progress.
    pub(super) fn deploy(&mut self, definition: Arc<Definition>, now: Timestamp) {
        if let Some(under_way) = self.under_way() {
            let reason = "Service deployment was superseded by a newer service deployment.".to_owned();
            under_way.enter(Phase::Stopped, Some(reason), now);
        } else if let Some(rollout) = self.rollout_mut(self.primary).filter(|rollout| rollout.is_draining()) {
            rollout.complete(now);
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
        // The first deployment of a service has no traffic to shift: it is a rolling deployment.
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
    pub(super) fn shown(&self) -> impl Iterator<Item = &Rollout> {
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

    /// The running and pending tasks of one revision or of all.
    pub(super) fn counts(&self, of: Option<u64>) -> (usize, usize) {
        let ours = || self.tasks.iter().filter(|t| of.is_none_or(|number| t.deployment == number));
        let running = ours().filter(|t| t.is_running(self.clock)).count();
        (running, ours().filter(|t| t.is_pending(self.clock)).count())
    }

    /// The service deployments that are already listed, newest first.
    pub(super) fn listed(&self) -> impl Iterator<Item = &ServiceDeployment> {
        self.deployments.iter().rev().filter(|d| d.created + LISTED_AFTER <= self.clock)
    }

    /// The creation time, for the filter of ListServiceDeployments.
    pub(super) fn created_of(deployment: &ServiceDeployment) -> Timestamp {
        deployment.created
    }
}
