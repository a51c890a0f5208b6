//! Checks of the rollback revision before the first change: its definition, images and secrets.

use std::time::Duration;

use bp_artifact::{
    DigestRef, ImageRef,
    deploy::{
        Revision, RollbackCheck,
        preflight::{self, Finding, FindingState, SecretReference},
    },
    resolve::Resolve,
};
use futures_util::future::{join, join_all};

use super::lookups::{Lookups, NO_CLIENT};
use crate::{
    definition::TaskDefinition,
    error::Error,
    names::name_of,
    rollout::{ServiceRollout, Survey},
};

/// How long a lookup may take.
const LOOKUP: Duration = Duration::from_secs(30);

/// There is no revision to return to: no deployment of the service has succeeded yet.
fn no_revision() -> RollbackCheck {
    let message = "there is no revision to return to: no deployment of the service has succeeded yet";
    RollbackCheck::no_revision(Finding::new("rollback revision", FindingState::Warning, message))
}

impl ServiceRollout {
    /// Checks the revision that a failed deployment returns to, if there is one.
    pub(crate) async fn check_rollback(
        &self,
        stable: Option<&TaskDefinition>,
        lookups: &Lookups,
    ) -> Result<RollbackCheck, Error> {
        let Some(definition) = stable else { return Ok(no_revision()) };
        let secrets = definition.secrets();
        let (images, secrets) =
            join(images(definition, lookups.registry.as_deref()), lookups.check_secrets(&secrets)).await;
        let findings = [vec![status(definition)], images, secrets].concat();
        let check = RollbackCheck::new(self.as_revision(definition)?, findings);
        Ok(check.accepted(self.options.accept_unproven_rollback))
    }

    /// Checks `previous`, the revision that a failed deployment of `image` returns to. `None` when nothing would be
    /// changed.
    pub(crate) async fn check_rollback_to(
        &self,
        image: &DigestRef,
        previous: &Revision,
    ) -> Result<Option<RollbackCheck>, Error> {
        let survey = self.survey().await?;
        let current = self.api.definition(&survey.definition).await?;
        if !self.would_change(&survey, &current, image).await? {
            return Ok(None);
        }
        let recorded = if previous.id != survey.definition {
            self.api.definition(&previous.id).await
        } else if self.last_stable(&survey).await?.is_none() {
            return Ok(Some(no_revision()));
        } else {
            Ok(current)
        };
        match recorded {
            Ok(definition) => self.check_rollback(Some(&definition), &self.lookups).await.map(Some),
            Err(Error::DefinitionNotFound { .. }) => {
                let message = "does not exist; register it again";
                let missing = Finding::new(subject(&previous.id), FindingState::Missing, message);
                let check = RollbackCheck::new(previous.clone(), vec![missing]);
                Ok(Some(check.accepted(self.options.accept_unproven_rollback)))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a deployment of `image` would change anything, and not follow a deployment in progress of the same.
    pub(super) async fn would_change(
        &self,
        survey: &Survey,
        current: &TaskDefinition,
        image: &DigestRef,
    ) -> Result<bool, Error> {
        let wanted = self.wanted(current, image)?;
        match &survey.in_flight {
            None => Ok(self.options.force || survey.failed || !wanted.is_same(current)),
            Some(followed) if followed.definition == survey.definition => Ok(!wanted.is_same(current)),
            Some(followed) => Ok(!wanted.is_same(&self.api.definition(&followed.definition).await?)),
        }
    }
}

fn subject(definition: &str) -> String {
    format!("task definition {}", name_of(definition))
}

/// Whether services can be updated to the definition.
fn status(definition: &TaskDefinition) -> Finding {
    let subject = subject(definition.arn().unwrap_or(definition.family()));
    match definition.status() {
        None | Some("ACTIVE") => Finding::new(subject, FindingState::Present, ""),
        Some(status) => {
            let message = format!(
                "is {status}, so the service cannot be updated to it; register it again, and update the service to that \
                 revision"
            );
            Finding::new(subject, FindingState::Invalid, message)
        }
    }
}

/// One finding for each distinct image, whichever containers run it.
async fn images(definition: &TaskDefinition, registry: Option<&dyn Resolve>) -> Vec<Finding> {
    let mut used: Vec<(String, Vec<String>)> = Vec::new();
    for container in definition.container_names() {
        let written = definition.image(&container).unwrap_or_default();
        match used.iter_mut().find(|(image, _)| image == written) {
            Some((_, containers)) => containers.push(container),
            None => used.push((written.to_owned(), vec![container])),
        }
    }
    let checked = used.iter().map(|(written, containers)| async move {
        let subject = format!("image {written} ({})", containers.join(", "));
        let unknown = |message: String| Finding::new(&subject, FindingState::Unknown, message);
        let Some(registry) = registry else {
            return unknown("not checked, because no registry client is configured".to_owned());
        };
        let image: ImageRef = match written.parse() {
            Ok(image) => image,
            Err(error) => return unknown(format!("not checked: {error}")),
        };
        match tokio::time::timeout(LOOKUP, registry.availability(&image)).await {
            Ok(found) => preflight::about_image(subject, found),
            Err(_) => unknown(no_response()),
        }
    });
    join_all(checked).await
}

fn no_response() -> String {
    format!("no response within {} s", LOOKUP.as_secs())
}

impl Lookups {
    /// One finding for each secret.
    pub(super) async fn check_secrets(&self, secrets: &[SecretReference]) -> Vec<Finding> {
        let unknown = |message: &str| {
            let finding =
                |secret: &SecretReference| Finding::new(secret.to_string(), FindingState::Unknown, message);
            secrets.iter().map(finding).collect()
        };
        if secrets.is_empty() {
            return Vec::new();
        }
        let Some(check) = &self.secrets else { return unknown(NO_CLIENT) };
        match tokio::time::timeout(LOOKUP, check.check(secrets)).await {
            Ok(findings) => findings,
            Err(_) => unknown(&no_response()),
        }
    }
}
