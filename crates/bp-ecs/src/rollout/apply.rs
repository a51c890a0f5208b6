//! UpdateService with retries, until it is known whether the update was applied.

use std::time::Duration;

use aws_sdk_ecs::types::Service;
use bp_artifact::{error::Classified, text::SingleLine};
use tokio::time::Instant;

use super::{
    ServiceRollout,
    retry::RetryBudget,
    service::{Followed, MISSING, gone, primary},
};
use crate::{error::Error, names::name_of};

/// How long after a request without a response its deployment may take to become visible.
const VISIBLE_WITHIN: Duration = Duration::from_secs(10);

/// The result of an UpdateService call that was not rejected.
#[derive(Debug)]
pub(crate) enum Applied {
    /// This deployment was started.
    Started(Followed, Box<Service>),
    /// Before a retry, another client had started this deployment: nothing else was sent. The service is that of now.
    Replaced(Replaced),
    /// It could not be observed whether the call was applied; with the reason.
    Unknown(String),
    /// The call may have been applied, and then the service was deleted; with its status.
    Gone(String),
}

/// A deployment that another client started meanwhile.
#[derive(Debug)]
pub(crate) struct Replaced {
    pub(crate) by: Followed,
    pub(crate) service: Box<Service>,
    /// Whether our own deployment may have been started before it.
    pub(crate) maybe_applied: bool,
}

impl ServiceRollout {
    /// Deploys `definition` to the service, whose state before the call is `before`.
    ///
    /// A forced UpdateService is not idempotent: if the response is lost, it may have started a deployment. So SDK
    /// retries are disabled, and each retry here polls the service first. On an error nothing was changed.
    pub(crate) async fn apply(
        &self,
        before: &Service,
        definition: &str,
        force: bool,
        deadline: Instant,
    ) -> Result<Applied, Error> {
        let mut maybe_applied = false;
        let mut retries = RetryBudget::default();
        loop {
            let error = match self.api.update(definition, force).await {
                Ok(service) => return started(service),
                Err(Error::ServiceNotActive { status, .. }) if maybe_applied => {
                    return Ok(Applied::Gone(status));
                }
                Err(Error::ServiceNotFound { .. }) if maybe_applied => {
                    return Ok(Applied::Gone(MISSING.to_owned()));
                }
                Err(error) => error,
            };
            maybe_applied |= error.may_have_been_handled();
            let unknown = |error: &Error| {
                Applied::Unknown(format!(
                    "ecs:UpdateService to {} was sent, and whether it started a deployment could not be observed: {}",
                    name_of(definition),
                    error.in_one_line()
                ))
            };
            match (error.is_retryable(), maybe_applied) {
                (false, false) => return Err(error),
                (false, true) => return Ok(unknown(&error)),
                (true, _) if Instant::now() >= deadline => {
                    return if maybe_applied { Ok(unknown(&error)) } else { Err(error) };
                }
                (true, _) => {
                    tracing::warn!(error = %SingleLine(&error), "failed to update the service, polling it before a retry")
                }
            }
            let visible = if maybe_applied { VISIBLE_WITHIN } else { Duration::ZERO };
            let until = deadline.min(bp_artifact::time::deadline(visible));
            loop {
                tokio::time::sleep(self.options.pause(false)).await;
                let found = self.api.find_service().await;
                if maybe_applied
                    && let Ok(service) = &found
                    && let Some(status) = gone(service.as_ref())
                {
                    return Ok(Applied::Gone(status.to_owned()));
                }
                match found {
                    Ok(Some(service)) if maybe_applied && is_applied(before, &service, definition, force) => {
                        return started(service);
                    }
                    Ok(Some(service)) => {
                        if let Some(by) = replaced(before, &service, definition) {
                            let service = Box::new(service);
                            return Ok(Applied::Replaced(Replaced { by, service, maybe_applied }));
                        }
                        retries.succeeded();
                        if Instant::now() >= until {
                            break;
                        }
                    }
                    Ok(None) => break,
                    Err(error) if retries.is_exhausted(&error, deadline) => {
                        return if maybe_applied { Ok(unknown(&error)) } else { Err(error) };
                    }
                    Err(error) => {
                        tracing::warn!(error = %SingleLine(&error), "failed to poll the service, retrying")
                    }
                }
            }
        }
    }

    /// Whether another client has started a deployment of another definition since `before` was read.
    pub(crate) async fn replaced_since(
        &self,
        before: &Service,
        definition: &str,
    ) -> Result<Option<Replaced>, Error> {
        let service = self.existing_service().await?;
        let by = replaced(before, &service, definition);
        Ok(by.map(|by| Replaced { by, service: Box::new(service), maybe_applied: false }))
    }
}

fn started(service: Service) -> Result<Applied, Error> {
    match Followed::primary(&service) {
        Some(ours) => Ok(Applied::Started(ours, Box::new(service))),
        None => Ok(Applied::Unknown(
            "ecs:UpdateService succeeded, but the service has no primary deployment".to_owned(),
        )),
    }
}

/// Whether a request without a response was applied, according to the service's current state.
fn is_applied(before: &Service, now: &Service, definition: &str, force: bool) -> bool {
    let Some(primary_now) = primary(now) else { return false };
    let is_new = primary(before).and_then(|primary| primary.id.as_ref()) != primary_now.id.as_ref();
    primary_now.task_definition.as_deref() == Some(definition) && (is_new || !force)
}

/// The deployment that replaced the primary one of `before`, unless it deploys our definition. A rollback by ECS returns
/// to an older deployment.
fn replaced(before: &Service, now: &Service, definition: &str) -> Option<Followed> {
    let by = Followed::primary(now).filter(|by| by.definition != definition)?;
    let earlier = Followed::primary(before)?;
    let created = |followed: &Followed| followed.created_at.map(|at| at.as_nanos());
    (by.id != earlier.id && created(&by) > created(&earlier)).then_some(by)
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecs::{primitives::DateTime, types::Deployment};

    use super::*;

    fn service(id: &str, definition: &str) -> Service {
        let primary = Deployment::builder().status("PRIMARY").id(id).task_definition(definition).build();
        Service::builder().deployments(primary).build()
    }

    #[test]
    fn finds_a_newer_deployment_of_another_definition() {
        let at = |id: &str, definition: &str, created: i64| {
            let created = DateTime::from_secs(created);
            let primary = Deployment::builder().status("PRIMARY").id(id).task_definition(definition);
            Service::builder().deployments(primary.created_at(created).build()).build()
        };
        let before = at("ecs-svc/1", "web:1", 10);
        for (now, is_replaced) in [
            (at("ecs-svc/1", "web:1", 10), false),
            (at("ecs-svc/2", "web:3", 20), true),
            (at("ecs-svc/2", "web:1", 20), true),
            (at("ecs-svc/2", "web:2", 20), false),
            // ECS rolled back.
            (at("ecs-svc/0", "web:0", 5), false),
        ] {
            assert_eq!(replaced(&before, &now, "web:2").is_some(), is_replaced, "{now:?}");
        }
    }

    #[test]
    fn distinguishes_a_lost_response_from_a_lost_request() {
        let before = service("ecs-svc/1", "web:1");
        for (now, definition, force, applied) in [
            (service("ecs-svc/2", "web:2"), "web:2", false, true),
            (service("ecs-svc/2", "web:2"), "web:2", true, true),
            (service("ecs-svc/1", "web:1"), "web:2", false, false),
            (service("ecs-svc/3", "web:3"), "web:2", false, false),
            // A forced update starts another deployment of the same definition; otherwise it changes nothing.
            (service("ecs-svc/1", "web:1"), "web:1", true, false),
            (service("ecs-svc/2", "web:1"), "web:1", true, true),
            (service("ecs-svc/1", "web:1"), "web:1", false, true),
            (Service::builder().build(), "web:2", false, false),
        ] {
            assert_eq!(is_applied(&before, &now, definition, force), applied, "{now:?}");
        }
    }
}
