//! Judge the state of a deployment from the polled service: in progress, complete, failed, rolled back or superseded.

use aws_sdk_ecs::types::{
    DeploymentLifecycleHookStatus, DeploymentRolloutState as Rollout, Service, ServiceDeployment,
    ServiceDeploymentRollbackMonitorsStatus as Monitor, ServiceDeploymentStatus as Status,
};

use super::service::{Followed, MISSING, deployment, gone, primary};

/// The responses of one poll.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// `None` when the service no longer exists.
    pub(crate) service: Option<Service>,
    /// The service deployment, once it is listed.
    pub(crate) deployment: Option<ServiceDeployment>,
    /// Whether the service deployment was not listed in time: then the rollout state is judged instead.
    pub(crate) unlisted: bool,
}

/// The judgement of a snapshot.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Judgement {
    /// In progress.
    InProgress,
    /// In progress, with a status that this version does not support. Never a success.
    Unknown(String),
    /// Complete. Steady when no older revision is left.
    Complete { steady: bool },
    /// Failed, and ECS does not roll back.
    Failed(String),
    /// ECS is rolling back.
    RollingBack { reason: String },
    /// ECS has rolled back.
    RolledBack { reason: String },
    /// ECS failed to roll back.
    RollbackFailed { reason: String },
    /// Stopped by a user or another program.
    Stopped { reason: String },
    /// Replaced by another deployment.
    Superseded { by: String },
    /// The service no longer exists, or is being deleted.
    Gone { status: String },
    /// Waits at a pause hook.
    AwaitingApproval { hook: String, stage: String, expires: Option<String>, otherwise: Option<String> },
}

impl Judgement {
    /// The reason, if the deployment has failed.
    pub(crate) fn failure(&self) -> Option<&str> {
        match self {
            Judgement::Failed(reason)
            | Judgement::RollingBack { reason }
            | Judgement::RolledBack { reason }
            | Judgement::RollbackFailed { reason } => Some(reason),
            Judgement::InProgress
            | Judgement::Unknown(_)
            | Judgement::Complete { .. }
            | Judgement::Stopped { .. }
            | Judgement::Superseded { .. }
            | Judgement::Gone { .. }
            | Judgement::AwaitingApproval { .. } => None,
        }
    }
}

/// Judges the state of `ours` from a snapshot. Makes no calls.
pub(crate) fn judge(ours: &Followed, snapshot: &Snapshot) -> Judgement {
    if let Some(status) = gone(snapshot.service.as_ref()) {
        return Judgement::Gone { status: status.to_owned() };
    }
    let Some(service) = &snapshot.service else { return Judgement::Gone { status: MISSING.to_owned() } };
    let first = primary(service).and_then(|d| d.id.clone()).unwrap_or_default();
    let superseded = || Judgement::Superseded { by: first.clone() };
    let is_primary = first == ours.id;
    let mine = deployment(service, &ours.id);
    let state = mine.and_then(|d| d.rollout_state.as_ref());
    let why = || mine.and_then(|d| d.rollout_state_reason.clone()).unwrap_or_default();
    let Some(deployment) = &snapshot.deployment else {
        return match state {
            // A rollback or another deployment is in progress: the service deployment will show which.
            _ if !is_primary && !snapshot.unlisted => Judgement::InProgress,
            Some(Rollout::Failed) if !is_primary => Judgement::RollingBack { reason: why() },
            _ if !is_primary => superseded(),
            Some(Rollout::Completed) if snapshot.unlisted => {
                Judgement::Complete { steady: is_alone(service) }
            }
            Some(Rollout::Failed) => Judgement::Failed(why()),
            _ => Judgement::InProgress,
        };
    };
    let reason = || deployment.status_reason.clone().filter(|r| !r.is_empty()).unwrap_or_else(why);
    match deployment.status.as_ref() {
        Some(Status::Successful) if !is_primary => superseded(),
        Some(Status::Successful) => {
            let complete = state.is_none_or(|state| *state == Rollout::Completed);
            Judgement::Complete { steady: complete && is_alone(service) }
        }
        Some(Status::RollbackRequested | Status::RollbackInProgress) => {
            Judgement::RollingBack { reason: reason() }
        }
        Some(Status::RollbackSuccessful) => Judgement::RolledBack { reason: reason() },
        Some(Status::RollbackFailed) => Judgement::RollbackFailed { reason: reason() },
        Some(Status::Stopped) if !is_primary => superseded(),
        Some(Status::Stopped) if state == Some(&Rollout::Failed) || is_triggered(deployment) => {
            Judgement::Failed(reason())
        }
        Some(Status::Stopped) => Judgement::Stopped { reason: reason() },
        Some(Status::Pending | Status::InProgress) => match state {
            Some(Rollout::Failed) => Judgement::Failed(why()),
            _ => awaiting_approval(deployment).unwrap_or(Judgement::InProgress),
        },
        Some(Status::StopRequested) => Judgement::InProgress,
        Some(unknown) => Judgement::Unknown(unknown.as_str().to_owned()),
        None => Judgement::Unknown("no status".to_owned()),
    }
}

fn is_alone(service: &Service) -> bool {
    service.deployments().len() == 1
}

/// Whether the circuit breaker or an alarm was triggered.
fn is_triggered(deployment: &ServiceDeployment) -> bool {
    let breaker = deployment.deployment_circuit_breaker.as_ref().and_then(|b| b.status.as_ref());
    let alarms = deployment.alarms.as_ref().and_then(|a| a.status.as_ref());
    breaker == Some(&Monitor::Triggered) || alarms == Some(&Monitor::Triggered)
}

fn awaiting_approval(deployment: &ServiceDeployment) -> Option<Judgement> {
    let awaiting = |h: &&aws_sdk_ecs::types::DeploymentLifecycleHookDetail| {
        h.status == Some(DeploymentLifecycleHookStatus::AwaitingAction)
    };
    let hook = deployment.lifecycle_hook_details().iter().find(awaiting)?;
    let stage = deployment.lifecycle_stage.as_ref().map(|s| s.as_str().to_owned());
    Some(Judgement::AwaitingApproval {
        hook: hook.hook_id.clone().unwrap_or_default(),
        stage: stage.unwrap_or_default(),
        expires: hook.expires_at.map(|at| at.to_string()),
        otherwise: hook.timeout_action.as_ref().map(|action| action.as_str().to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecs::types::Deployment;

    use super::*;

    fn ours() -> Followed {
        Followed { id: "ecs-svc/2".into(), definition: "web:2".into(), created_at: None, arn: None }
    }

    fn deployed(id: &str, status: &str, state: Rollout) -> Deployment {
        Deployment::builder().id(id).status(status).rollout_state(state).rollout_state_reason("why").build()
    }

    fn service(deployments: Vec<Deployment>) -> Option<Service> {
        Some(Service::builder().status("ACTIVE").set_deployments(Some(deployments)).build())
    }

    fn mine(state: Rollout) -> Option<Service> {
        service(vec![deployed("ecs-svc/2", "PRIMARY", state)])
    }

    fn theirs(state: Rollout) -> Option<Service> {
        service(vec![
            deployed("ecs-svc/3", "PRIMARY", Rollout::InProgress),
            deployed("ecs-svc/2", "ACTIVE", state),
        ])
    }

    fn with(status: &str) -> Option<ServiceDeployment> {
        Some(ServiceDeployment::builder().status(Status::from(status)).status_reason("because").build())
    }

    fn seen(service: Option<Service>, deployment: Option<ServiceDeployment>, unlisted: bool) -> Judgement {
        judge(&ours(), &Snapshot { service, deployment, unlisted })
    }

    #[test]
    fn judges_every_status() {
        let because = || "because".to_owned();
        let superseded = || Judgement::Superseded { by: "ecs-svc/3".into() };
        for (service, status, judgement) in [
            (mine(Rollout::InProgress), "PENDING", Judgement::InProgress),
            (mine(Rollout::InProgress), "IN_PROGRESS", Judgement::InProgress),
            (mine(Rollout::InProgress), "STOP_REQUESTED", Judgement::InProgress),
            (mine(Rollout::Failed), "IN_PROGRESS", Judgement::Failed("why".into())),
            (mine(Rollout::Completed), "SUCCESSFUL", Judgement::Complete { steady: true }),
            (mine(Rollout::InProgress), "SUCCESSFUL", Judgement::Complete { steady: false }),
            (theirs(Rollout::Completed), "SUCCESSFUL", superseded()),
            (theirs(Rollout::InProgress), "STOPPED", superseded()),
            (mine(Rollout::InProgress), "STOPPED", Judgement::Stopped { reason: because() }),
            (mine(Rollout::Failed), "STOPPED", Judgement::Failed(because())),
            (theirs(Rollout::Failed), "ROLLBACK_REQUESTED", Judgement::RollingBack { reason: because() }),
            (theirs(Rollout::Failed), "ROLLBACK_IN_PROGRESS", Judgement::RollingBack { reason: because() }),
            (theirs(Rollout::Failed), "ROLLBACK_SUCCESSFUL", Judgement::RolledBack { reason: because() }),
            (theirs(Rollout::Failed), "ROLLBACK_FAILED", Judgement::RollbackFailed { reason: because() }),
            (mine(Rollout::Completed), "PAUSED_BY_MARS", Judgement::Unknown("PAUSED_BY_MARS".into())),
        ] {
            assert_eq!(seen(service, with(status), false), judgement, "{status}");
        }
    }

    #[test]
    fn an_unknown_rollout_state_is_never_a_success() {
        let unknown = Rollout::from("GLOWING");
        assert_eq!(seen(mine(unknown.clone()), None, true), Judgement::InProgress);
        assert_eq!(seen(mine(unknown), with("SUCCESSFUL"), false), Judgement::Complete { steady: false });
    }

    #[test]
    fn judges_the_rollout_state_if_the_service_deployment_is_unlisted() {
        assert_eq!(
            seen(mine(Rollout::Completed), None, false),
            Judgement::InProgress,
            "it may still become listed"
        );
        assert_eq!(seen(mine(Rollout::Completed), None, true), Judgement::Complete { steady: true });
        assert_eq!(
            seen(theirs(Rollout::Failed), None, true),
            Judgement::RollingBack { reason: "why".into() }
        );
        assert_eq!(
            seen(theirs(Rollout::InProgress), None, true),
            Judgement::Superseded { by: "ecs-svc/3".into() }
        );
    }

    #[test]
    fn detects_a_deleted_service() {
        for status in ["DRAINING", "INACTIVE", "SOMETHING_NEW"] {
            let service = Service::builder().status(status).build();
            assert_eq!(seen(Some(service), None, false), Judgement::Gone { status: status.into() });
        }
        assert_eq!(seen(None, None, false), Judgement::Gone { status: "MISSING".into() });
    }
}
