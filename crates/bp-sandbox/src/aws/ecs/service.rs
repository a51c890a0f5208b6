//! Services, their settings and their deployments.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{
    definition::Definition,
    injected::InjectedContainer,
    names::{Place, deployment_number, word_id},
    pace::Pace,
    platform::Platform,
    rollout::{Phase, Rollout, RolloutState, ServiceDeployment},
    settings::Settings,
    stages::Stages,
    task::{Target, Task},
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

/// A service event. Its time may be in the future: then it is not shown yet.
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
    pub(super) pace: Pace,
    /// Containers that AWS adds to every task.
    pub(super) injected: Vec<InjectedContainer>,
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
            pace: Pace::default(),
            injected: Vec::new(),
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
            desired: 0,
            failed: 0,
            failures: 0,
            exceeded: None,
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
            started: None,
            finished: None,
            phase: Phase::Pending,
            reason: None,
            rollback: None,
            failures: 0,
            triggered: false,
            ready: None,
            alarms: Vec::new(),
            stages,
        });
        self.shown_status = None;
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

    /// The revisions that DescribeServices shows: the primary one, others while they have tasks, and one that had tasks
    /// until its rollback is completed.
    pub(super) fn shown(&self) -> impl Iterator<Item = &Rollout> {
        let has_tasks = |number| {
            let mut tasks = self.tasks.iter().filter(|task| task.deployment == number);
            tasks.any(|task| !task.is_stopped(self.clock) || self.is_rolled_back(number))
        };
        let primary = self.rollouts.iter().filter(|r| r.number == self.primary);
        let others =
            self.rollouts.iter().rev().filter(move |r| r.number != self.primary && has_tasks(r.number));
        primary.chain(others)
    }

    /// Whether the last deployment rolled back this revision, and the rollback is not completed.
    fn is_rolled_back(&self, number: u64) -> bool {
        let last = self.deployments.last().filter(|d| d.target == number && d.rollback.is_some());
        last.is_some() && self.rollout(self.primary).is_some_and(|r| r.state == RolloutState::InProgress)
    }

    /// Whether the last deployment was not started yet.
    pub(super) fn is_pending(&self) -> bool {
        self.deployments.last().is_some_and(|deployment| deployment.phase == Phase::Pending)
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

    /// The target of a load balancer.
    pub(super) fn target(&self) -> Option<Target> {
        let balancer = self.spec.get("loadBalancers")?.get(0)?;
        Some(Target {
            group: balancer["targetGroupArn"].as_str()?.to_owned(),
            container: balancer["containerName"].as_str().unwrap_or_default().to_owned(),
            port: balancer["containerPort"].as_u64().unwrap_or_default(),
        })
    }

    pub(super) fn platform(&self) -> Platform {
        Platform::of(&self.spec)
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
