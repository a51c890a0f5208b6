//! Service revisions, and the record of each service deployment.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{definition::Definition, stages::Stages};

/// The rollout state of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RolloutState {
    InProgress,
    Completed,
    Failed,
}

impl RolloutState {
    pub(super) fn name(self) -> &'static str {
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
    /// Whether it has completed once, so that a rollback may return to it.
    pub(super) completed: bool,
    /// The number of tasks that the scheduler wants; zero until the deployment is in progress.
    pub(super) desired: u32,
    /// Failed tasks since the last healthy one.
    pub(super) failed: u32,
    /// Failed tasks, of which the last ones are not counted yet.
    pub(super) failures: u32,
    /// When `failed` reached the threshold of the circuit breaker.
    pub(super) exceeded: Option<Timestamp>,
    /// Consecutive tasks that did not start, for the delay before the next start.
    pub(super) streak: u32,
    pub(super) retry_at: Timestamp,
    /// Container name, image and digest, once a task has pulled them.
    pub(super) images: Vec<(String, String, String)>,
    /// The other settings of the revision at the time of its deployment.
    pub(super) spec: Map<String, Value>,
}

impl Rollout {
    /// Whether it has succeeded and the last tasks of an earlier one are still stopping.
    pub(super) fn is_draining(&self) -> bool {
        self.completed && self.state == RolloutState::InProgress
    }

    pub(super) fn complete(&mut self, now: Timestamp) {
        self.state = RolloutState::Completed;
        self.reason = format!("ECS deployment ecs-svc/{} completed.", self.number);
        self.updated = now;
    }
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

/// The rollback target of a service deployment, and the reason.
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
    /// The revision that it deploys.
    pub(super) target: u64,
    pub(super) sources: Vec<u64>,
    pub(super) created: Timestamp,
    pub(super) updated: Timestamp,
    /// When it became `IN_PROGRESS`.
    pub(super) started: Option<Timestamp>,
    pub(super) finished: Option<Timestamp>,
    pub(super) phase: Phase,
    pub(super) reason: Option<String>,
    pub(super) rollback: Option<Rollback>,
    pub(super) failures: u32,
    pub(super) triggered: bool,
    /// When the early success criteria were met.
    pub(super) ready: Option<Timestamp>,
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
        if phase == Phase::InProgress {
            self.started = Some(now);
        }
        if phase.is_over() {
            self.finished = Some(now);
        }
    }
}
