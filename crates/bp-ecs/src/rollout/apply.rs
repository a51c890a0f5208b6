//! UpdateService, sent until it is known whether it was applied.

use std::time::Duration;

use aws_sdk_ecs::types::Service;
use bp_artifact::error::Classified;
use tokio::time::Instant;

use super::{
    ServiceRollout,
    patience::Patience,
    service::{Followed, primary},
};
use crate::{error::Error, names::name_of};

/// How long after a request without an answer the deployment may take to be shown.
const SHOWN: Duration = Duration::from_secs(10);

/// What became of an UpdateService that was not refused.
#[derive(Debug)]
pub(crate) enum Applied {
    /// This deployment is ours, shown by the service.
    Begun(Followed, Box<Service>),
    /// It was sent, and whether it was applied could not be observed.
    Unknown(String),
}

impl ServiceRollout {
    /// Deploys `definition` to the service, which was `before`.
    ///
    /// UpdateService is not idempotent when it is forced: an answer that was lost may have been a deployment. So the SDK
    /// does not try again by itself; we do, and look first. An error says that nothing was changed.
    pub(crate) async fn apply(
        &self,
        before: &Service,
        definition: &str,
        force: bool,
        deadline: Instant,
    ) -> Result<Applied, Error> {
        let mut doubtful = false;
        let mut patience = Patience::default();
        loop {
            let error = match self.api.update(definition, force).await {
                Ok(service) => return begun(service),
                Err(error) => error,
            };
            doubtful |= error.may_have_been_handled();
            let unknown = |error: &Error| {
                Applied::Unknown(format!(
                    "ecs:UpdateService to {} was sent, and whether it started a deployment could not be observed: {}",
                    name_of(definition),
                    error.in_one_line()
                ))
            };
            match (error.is_retryable(), doubtful) {
                (false, false) => return Err(error),
                (false, true) => return Ok(unknown(&error)),
                (true, _) if Instant::now() >= deadline => {
                    return if doubtful { Ok(unknown(&error)) } else { Err(error) };
                }
                (true, _) => tracing::warn!(%error, "cannot update the service; looking, then trying again"),
            }
            let shown = if doubtful { SHOWN } else { Duration::ZERO };
            let until = deadline.min(bp_artifact::time::deadline(shown));
            loop {
                tokio::time::sleep(self.options.pause(false)).await;
                if !doubtful {
                    break;
                }
                match self.api.find_service().await {
                    Ok(Some(service)) if is_applied(before, &service, definition, force) => {
                        return begun(service);
                    }
                    Ok(_) => {
                        patience.answered();
                        if Instant::now() >= until {
                            break;
                        }
                    }
                    Err(error) if patience.is_over(&error, deadline) => return Ok(unknown(&error)),
                    Err(error) => tracing::warn!(%error, "cannot look at the service; trying again"),
                }
            }
        }
    }
}

fn begun(service: Service) -> Result<Applied, Error> {
    match Followed::primary(&service) {
        Some(ours) => Ok(Applied::Begun(ours, Box::new(service))),
        None => Ok(Applied::Unknown(
            "ecs:UpdateService was answered, and the service has no primary deployment".to_owned(),
        )),
    }
}

/// Whether a request without an answer was applied, by what the service shows now.
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
    fn a_lost_answer_is_told_from_a_request_that_never_arrived() {
        let before = service("ecs-svc/1", "web:1");
        for (now, definition, force, applied) in [
            (service("ecs-svc/2", "web:2"), "web:2", false, true),
            (service("ecs-svc/2", "web:2"), "web:2", true, true),
            (service("ecs-svc/1", "web:1"), "web:2", false, false),
            (service("ecs-svc/3", "web:3"), "web:2", false, false),
            // Forced, the same definition is another deployment; else it would be the same one.
            (service("ecs-svc/1", "web:1"), "web:1", true, false),
            (service("ecs-svc/2", "web:1"), "web:1", true, true),
            (service("ecs-svc/1", "web:1"), "web:1", false, true),
            (Service::builder().build(), "web:2", false, false),
        ] {
            assert_eq!(is_applied(&before, &now, definition, force), applied, "{now:?}");
        }
    }
}
