//! Lookups of the images and secrets that a task definition refers to, in any registry and store.

use std::sync::Arc;

use bp_artifact::{
    DigestRef, ImageRef, Repository, ResolvedImage,
    deploy::{
        Cause,
        preflight::{CheckSecrets, Finding, FindingState, SecretReference},
    },
    resolve::{Availability, Resolve, ResolveError},
};
use bp_secrets::{Depth, Error, ErrorKind, Reference, check, check::Checked, reference::ParseError};
use futures_util::future::BoxFuture;

use super::Clients;
use crate::secrets::reference_of;

impl Clients {
    /// The clients with which ECS preflight checks look up images and secrets, and as far as this build supports them
    /// roles, target groups and log groups. They read no values.
    pub fn lookups(&self) -> bp_ecs::Lookups {
        self.lookups_to(Depth::Describe)
    }

    /// As [`lookups`](Self::lookups), but secrets are checked down to their JSON keys, for which their values are read. If
    /// that is denied, only their existence is checked.
    pub fn lookups_of_keys(&self) -> bp_ecs::Lookups {
        self.lookups_to(Depth::Keys)
    }

    fn lookups_to(&self, depth: Depth) -> bp_ecs::Lookups {
        let lookups = bp_ecs::Lookups::default()
            .registry(Arc::new(EveryRegistry(self.clone())))
            .secrets(Arc::new(SecretChecks { clients: self.clone(), depth }));
        #[cfg(feature = "logs")]
        let lookups = lookups.logs(self.logs());
        #[cfg(feature = "preflight")]
        let lookups = lookups
            .iam(client!(aws_sdk_iam, &self.config))
            .load_balancers(client!(aws_sdk_elasticloadbalancingv2, &self.config));
        lookups
    }
}

/// Resolves images of any registry, each with the client of its registry.
struct EveryRegistry(Clients);

impl EveryRegistry {
    fn of(&self, repository: &Repository) -> Result<Box<dyn Resolve>, ResolveError> {
        let unsupported =
            |reason: String| ResolveError::WrongRegistry { repository: repository.clone(), reason };
        self.0.resolver(repository.registry()).map_err(|error| unsupported(error.to_string()))
    }
}

impl Resolve for EveryRegistry {
    fn resolve<'a>(&'a self, image: &'a ImageRef) -> BoxFuture<'a, Result<ResolvedImage, ResolveError>> {
        Box::pin(async move { self.of(image.repository())?.resolve(image).await })
    }

    fn confirm<'a>(&'a self, image: &'a DigestRef) -> BoxFuture<'a, Result<(), ResolveError>> {
        Box::pin(async move { self.of(image.repository())?.confirm(image).await })
    }

    fn availability<'a>(&'a self, image: &'a ImageRef) -> BoxFuture<'a, Result<Availability, ResolveError>> {
        Box::pin(async move { self.of(image.repository())?.availability(image).await })
    }
}

/// Checks secrets in Secrets Manager and Parameter Store.
struct SecretChecks {
    clients: Clients,
    depth: Depth,
}

impl CheckSecrets for SecretChecks {
    fn check<'a>(&'a self, secrets: &'a [SecretReference]) -> BoxFuture<'a, Vec<Finding>> {
        Box::pin(async move {
            let parsed: Vec<_> = secrets.iter().map(reference_of).collect();
            let references: Vec<Reference> =
                parsed.iter().filter_map(|parsed| parsed.as_ref().ok()).cloned().collect();
            let stores = self.clients.secrets(&references);
            let report = check(&stores, &references, self.depth).await;
            // A deployer may see that a secret exists without being allowed to read it.
            let unread = |checked: &&Checked| checked.reference.key().is_some() && is_denied(checked);
            let unread: Vec<Reference> =
                report.checked.iter().filter(unread).map(|checked| checked.reference.clone()).collect();
            let described = match self.depth {
                Depth::Describe => Vec::new(),
                _ => check(&stores, &unread, Depth::Describe).await.checked,
            };
            let described = |checked: &Checked| {
                described.iter().find(|other| is_denied(checked) && other.reference == checked.reference)
            };
            let mut checked = report.checked.iter();
            let finding = |(secret, parsed): (&SecretReference, &Result<Reference, _>)| match parsed {
                Ok(_) => match checked.next() {
                    Some(checked) => match described(checked) {
                        Some(described) if described.error.is_none() => key_not_checked(secret, checked),
                        Some(described) => found(secret, described.error.as_ref()),
                        None => found(secret, checked.error.as_ref()),
                    },
                    None => found(secret, None),
                },
                Err(error) => invalid(secret, error),
            };
            secrets.iter().zip(&parsed).map(finding).collect()
        })
    }
}

fn is_denied(checked: &Checked) -> bool {
    checked.error.as_ref().is_some_and(|error| matches!(error.kind(), ErrorKind::Denied { .. }))
}

fn key_not_checked(secret: &SecretReference, checked: &Checked) -> Finding {
    let error = checked.error.as_ref().map(ToString::to_string).unwrap_or_default();
    let message = format!("exists; whether it has the JSON key is unknown: {error}");
    Finding::new(secret.to_string(), FindingState::Unknown, message)
}

fn invalid(secret: &SecretReference, error: &ParseError) -> Finding {
    let finding = Finding::new(secret.to_string(), FindingState::Invalid, error.to_string());
    finding.cause(Cause::SecretMissing)
}

fn found(secret: &SecretReference, error: Option<&Error>) -> Finding {
    let Some(error) = error else { return Finding::new(secret.to_string(), FindingState::Present, "") };
    let state = match error.kind() {
        ErrorKind::Missing | ErrorKind::NoSuchVersion | ErrorKind::Deleted => FindingState::Missing,
        ErrorKind::NoSuchKey { .. } | ErrorKind::NotJson { .. } | ErrorKind::Binary => FindingState::Invalid,
        // The caller may lack the permission, or the store is unavailable: the tasks may still succeed.
        _ => FindingState::Unknown,
    };
    let finding = Finding::new(secret.to_string(), state, error.to_string());
    if state.is_fatal() { finding.cause(Cause::SecretMissing) } else { finding }
}
