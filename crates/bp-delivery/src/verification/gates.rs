//! The checks of gates, and of endpoints given by the caller, as rows of a verification.

use std::sync::Arc;

use bp_artifact::{
    Digest, ResolvedImage,
    check::{Check, CheckKind, CheckResult, CheckVerdict, Verified},
    config::{EnvironmentConfig, GateCondition, GateConfig},
    deploy::GateName,
    time,
};
use tokio::time::timeout_at;

use super::{
    endpoint::Endpoint,
    row::{TIMEOUT, failed},
    selection::Selection,
};
use crate::{Delivery, Failure, gates};

/// A check to run once.
pub(super) struct Prepared {
    kind: CheckKind,
    gate: Option<GateName>,
    /// The row of a check that cannot be run.
    check: Result<Arc<dyn Check>, Verified>,
    /// How long it may take.
    limit: std::time::Duration,
    /// Its URL, for the checks of the host.
    pub(super) url: Option<String>,
}

type Services = [(Delivery, Option<ResolvedImage>)];

/// The selected checks.
pub(super) async fn checks(
    environment: &EnvironmentConfig,
    services: &Services,
    selection: &Selection,
    endpoints: &[Endpoint],
) -> Result<Vec<Prepared>, Failure> {
    let mut checks = Vec::new();
    for endpoint in endpoints {
        let check = endpoint.check()?;
        checks.push(Prepared {
            kind: CheckKind::Http,
            gate: None,
            check: Ok(Arc::new(check)),
            limit: TIMEOUT,
            url: Some(endpoint.url.clone()),
        });
    }
    let Some((first, image)) = services.first() else { return Ok(checks) };
    for gate in environment.gates() {
        let Some(kind) = kind(gate).filter(|kind| runs(selection, gate, *kind)) else { continue };
        // Only a command reads the image.
        let image = image_of(services, gate).or(image.as_ref()).cloned();
        let none = || ResolvedImage::from(first.service.repository.at(Digest::sha256("")));
        let prepared = gates::check(gate, first, &image.unwrap_or_else(none)).await;
        let (check, limit) = match prepared {
            Ok(Some((check, wait))) => (Ok(check), wait.deadline()),
            Ok(None) => continue,
            // What ends a deployment before its first change is a result here.
            Err(failure) => (Err(not_run(kind, &failure)), TIMEOUT),
        };
        let limit = if kind == CheckKind::Job { limit } else { limit.min(TIMEOUT) };
        let url = match &gate.condition {
            GateCondition::Http { url, .. } => Some(url.clone()),
            GateCondition::Approval
            | GateCondition::Command { .. }
            | GateCondition::Alarms { .. }
            | GateCondition::Job { .. } => None,
        };
        checks.push(Prepared { kind, gate: Some(gate.name.clone()), check, limit, url });
    }
    Ok(checks)
}

/// Whether to run the check of a gate: as bp.toml enables it, or because its kind was asked for.
fn runs(selection: &Selection, gate: &GateConfig, kind: CheckKind) -> bool {
    use CheckKind::{Dns, Http, Tls};
    if kind == Http {
        return gate.verify && [Http, Dns, Tls].into_iter().any(|kind| selection.has(kind));
    }
    selection.names(kind) || gate.verify && selection.has(kind)
}

/// The image of the service after which the gate comes.
fn image_of<'s>(services: &'s Services, gate: &GateConfig) -> Option<&'s ResolvedImage> {
    let after = gate.after.as_ref()?;
    let (_, image) = services.iter().find(|(of, _)| of.service.name == after.service)?;
    image.as_ref()
}

impl Prepared {
    /// Whether the check itself is selected, not only its host.
    pub(super) fn is_selected(&self, selection: &Selection) -> bool {
        self.kind != CheckKind::Http || selection.has(CheckKind::Http)
    }

    /// Runs the check once.
    pub(super) async fn row(&self) -> Verified {
        let row = match &self.check {
            Ok(check) => {
                let attempt = timeout_at(time::deadline(self.limit), check.attempt()).await;
                let silent = |_| CheckVerdict::unobserved(format!("no answer within {:?}", self.limit));
                Verified::of(check.name(), self.kind, &attempt.unwrap_or_else(silent))
            }
            Err(row) => row.clone(),
        };
        row.gate(self.gate.clone())
    }
}

/// The row of a check that cannot be run. That this build lacks a feature is no statement about the environment.
fn not_run(kind: CheckKind, failure: &Failure) -> Verified {
    if kind == CheckKind::Alarms && cfg!(not(feature = "alarms")) {
        return Verified::new(kind, kind, CheckResult::Unknown, failure.to_string());
    }
    failed(kind.as_str(), kind, failure)
}

fn kind(gate: &GateConfig) -> Option<CheckKind> {
    match &gate.condition {
        GateCondition::Approval => None,
        GateCondition::Http { .. } => Some(CheckKind::Http),
        GateCondition::Command { .. } => Some(CheckKind::Command),
        GateCondition::Alarms { .. } => Some(CheckKind::Alarms),
        GateCondition::Job { .. } => Some(CheckKind::Job),
    }
}
