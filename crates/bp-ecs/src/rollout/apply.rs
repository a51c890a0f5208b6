//! UpdateService with retries, until it is known whether the update was applied.

use std::time::Duration;

use aws_sdk_ecs::types::Service;
use bp_artifact::{error::Classified, text::SingleLine};
use tokio::time::Instant;

use super::{
    ServiceRollout,
    retry::RetryBudget,
    service::{Followed, primary},
};
use crate::{error::Error, names::name_of};

/// How long after a request without a response its deployment may take to become visible.
const VISIBLE_WITHIN: Duration = Duration::from_secs(10);

/// The result of an UpdateService call that was not rejected.
#[derive(Debug)]
pub(crate) enum Applied {
    /// This deployment was started.
    Started(Followed, Box<Service>),
    /// It could not be observed whether the call was applied; with the reason.
    Unknown(String),
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
                if !maybe_applied {
                    break;
                }
                match self.api.find_service().await {
                    Ok(Some(service)) if is_applied(before, &service, definition, force) => {
                        return started(service);
                    }
                    Ok(_) => {
                        retries.succeeded();
                        if Instant::now() >= until {
                            break;
                        }
                    }
                    Err(error) if retries.is_exhausted(&error, deadline) => return Ok(unknown(&error)),
                    Err(error) => {
                        tracing::warn!(error = %SingleLine(&error), "failed to poll the service, retrying")
                    }
                }
            }
        }
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

#[cfg(test)]
mod tests {
    use aws_sdk_ecs::types::Deployment;

    use super::*;

    fn service(id: &str, definition: &str) -> Service {
        let primary = Deployment::builder().status("PRIMARY").id(id).task_definition(definition).build();
        Service::builder().deployments(primary).build()
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
