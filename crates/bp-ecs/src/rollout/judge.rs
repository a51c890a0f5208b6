//! What a look at the service means for the deployment that we follow. Pure: no calls.

use aws_sdk_ecs::types::{
    DeploymentLifecycleHookStatus, DeploymentRolloutState as Rollout, Service, ServiceDeployment,
    ServiceDeploymentRollbackMonitorsStatus as Monitor, ServiceDeploymentStatus as Status,
};

use super::service::{Followed, deployment, primary};

/// What one look has seen.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// `None` when there is no such service any more.
    pub(crate) service: Option<Service>,
    /// The service deployment, once it is known.
    pub(crate) deployment: Option<ServiceDeployment>,
    /// Whether we have waited long enough for the service deployment to be listed: where that API has nothing, the
    /// roll-out state decides.
    pub(crate) unlisted: bool,
}

/// How the deployment stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Standing {
    /// It goes on.
    Going,
    /// It goes on, in a state that this version does not know. Never success.
    Unknown(String),
    /// It is done. Steady when nothing of an older revision is left.
    Done { steady: bool },
    /// ECS has given it up and does not go back.
    Failed(String),
    /// ECS is going back.
    RollingBack { reason: String },
    /// ECS has gone back.
    RolledBack { reason: String },
    /// ECS could not go back.
    RollbackFailed { reason: String },
    /// Somebody stopped it.
    Stopped { reason: String },
    /// Another deployment took its place.
    Superseded { by: String },
    /// There is no service any more, or it is being deleted.
    Gone { status: String },
    /// It waits for an answer.
    AwaitingApproval { hook: String, stage: String, expires: Option<String>, otherwise: Option<String> },
}

/// Reads the standing of `ours` from a view.
pub(crate) fn judge(ours: &Followed, view: &View) -> Standing {
    let Some(service) = &view.service else { return Standing::Gone { status: "MISSING".to_owned() } };
    match service.status.as_deref() {
        Some("ACTIVE") => {}
        status => return Standing::Gone { status: status.unwrap_or("MISSING").to_owned() },
    }
    let first = primary(service).and_then(|d| d.id.clone()).unwrap_or_default();
    let superseded = || Standing::Superseded { by: first.clone() };
    let is_primary = first == ours.id;
    let mine = deployment(service, &ours.id);
    let state = mine.and_then(|d| d.rollout_state.as_ref());
    let why = || mine.and_then(|d| d.rollout_state_reason.clone()).unwrap_or_default();
    let Some(deployment) = &view.deployment else {
        return match state {
            // Its rollback is under way, or somebody else's deployment: the service deployment will tell.
            _ if !is_primary && !view.unlisted => Standing::Going,
            Some(Rollout::Failed) if !is_primary => Standing::RollingBack { reason: why() },
            _ if !is_primary => superseded(),
            Some(Rollout::Completed) if view.unlisted => Standing::Done { steady: is_alone(service) },
            Some(Rollout::Failed) => Standing::Failed(why()),
            _ => Standing::Going,
        };
    };
    let reason = || deployment.status_reason.clone().filter(|r| !r.is_empty()).unwrap_or_else(why);
    match deployment.status.as_ref() {
        Some(Status::Successful) if !is_primary => superseded(),
        Some(Status::Successful) => {
            let complete = state.is_none_or(|state| *state == Rollout::Completed);
            Standing::Done { steady: complete && is_alone(service) }
        }
        Some(Status::RollbackRequested | Status::RollbackInProgress) => {
            Standing::RollingBack { reason: reason() }
        }
        Some(Status::RollbackSuccessful) => Standing::RolledBack { reason: reason() },
        Some(Status::RollbackFailed) => Standing::RollbackFailed { reason: reason() },
        Some(Status::Stopped) if !is_primary => superseded(),
        Some(Status::Stopped) if state == Some(&Rollout::Failed) || is_triggered(deployment) => {
            Standing::Failed(reason())
        }
        Some(Status::Stopped) => Standing::Stopped { reason: reason() },
        Some(Status::Pending | Status::InProgress) => match state {
            Some(Rollout::Failed) => Standing::Failed(why()),
            _ => awaited(deployment).unwrap_or(Standing::Going),
        },
        Some(Status::StopRequested) => Standing::Going,
        Some(unknown) => Standing::Unknown(unknown.as_str().to_owned()),
        None => Standing::Unknown("no status".to_owned()),
    }
}

fn is_alone(service: &Service) -> bool {
    service.deployments().len() == 1
}

/// Whether the circuit breaker or an alarm went off.
fn is_triggered(deployment: &ServiceDeployment) -> bool {
    let breaker = deployment.deployment_circuit_breaker.as_ref().and_then(|b| b.status.as_ref());
    let alarms = deployment.alarms.as_ref().and_then(|a| a.status.as_ref());
    breaker == Some(&Monitor::Triggered) || alarms == Some(&Monitor::Triggered)
}

fn awaited(deployment: &ServiceDeployment) -> Option<Standing> {
    let awaiting = |h: &&aws_sdk_ecs::types::DeploymentLifecycleHookDetail| {
        h.status == Some(DeploymentLifecycleHookStatus::AwaitingAction)
    };
    let hook = deployment.lifecycle_hook_details().iter().find(awaiting)?;
    let stage = deployment.lifecycle_stage.as_ref().map(|s| s.as_str().to_owned());
    Some(Standing::AwaitingApproval {
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

    fn seen(service: Option<Service>, deployment: Option<ServiceDeployment>, unlisted: bool) -> Standing {
        judge(&ours(), &View { service, deployment, unlisted })
    }

    #[test]
    fn every_status_has_its_standing() {
        let because = || "because".to_owned();
        let superseded = || Standing::Superseded { by: "ecs-svc/3".into() };
        for (service, status, standing) in [
            (mine(Rollout::InProgress), "PENDING", Standing::Going),
            (mine(Rollout::InProgress), "IN_PROGRESS", Standing::Going),
            (mine(Rollout::InProgress), "STOP_REQUESTED", Standing::Going),
            (mine(Rollout::Failed), "IN_PROGRESS", Standing::Failed("why".into())),
            (mine(Rollout::Completed), "SUCCESSFUL", Standing::Done { steady: true }),
            (mine(Rollout::InProgress), "SUCCESSFUL", Standing::Done { steady: false }),
            (theirs(Rollout::Completed), "SUCCESSFUL", superseded()),
            (theirs(Rollout::InProgress), "STOPPED", superseded()),
            (mine(Rollout::InProgress), "STOPPED", Standing::Stopped { reason: because() }),
            (mine(Rollout::Failed), "STOPPED", Standing::Failed(because())),
            (theirs(Rollout::Failed), "ROLLBACK_REQUESTED", Standing::RollingBack { reason: because() }),
            (theirs(Rollout::Failed), "ROLLBACK_IN_PROGRESS", Standing::RollingBack { reason: because() }),
            (theirs(Rollout::Failed), "ROLLBACK_SUCCESSFUL", Standing::RolledBack { reason: because() }),
            (theirs(Rollout::Failed), "ROLLBACK_FAILED", Standing::RollbackFailed { reason: because() }),
            (mine(Rollout::Completed), "PAUSED_BY_MARS", Standing::Unknown("PAUSED_BY_MARS".into())),
        ] {
            assert_eq!(seen(service, with(status), false), standing, "{status}");
        }
    }

    #[test]
    fn an_unknown_roll_out_state_is_never_success() {
        let unknown = Rollout::from("GLOWING");
        assert_eq!(seen(mine(unknown.clone()), None, true), Standing::Going);
        assert_eq!(seen(mine(unknown), with("SUCCESSFUL"), false), Standing::Done { steady: false });
    }

    #[test]
    fn without_the_service_deployment_api_the_roll_out_state_decides() {
        assert_eq!(seen(mine(Rollout::Completed), None, false), Standing::Going, "it may be listed yet");
        assert_eq!(seen(mine(Rollout::Completed), None, true), Standing::Done { steady: true });
        assert_eq!(seen(theirs(Rollout::Failed), None, true), Standing::RollingBack { reason: "why".into() });
        assert_eq!(
            seen(theirs(Rollout::InProgress), None, true),
            Standing::Superseded { by: "ecs-svc/3".into() }
        );
    }

    #[test]
    fn a_service_that_goes_away() {
        for status in ["DRAINING", "INACTIVE", "SOMETHING_NEW"] {
            let service = Service::builder().status(status).build();
            assert_eq!(seen(Some(service), None, false), Standing::Gone { status: status.into() });
        }
        assert_eq!(seen(None, None, false), Standing::Gone { status: "MISSING".into() });
    }
}
