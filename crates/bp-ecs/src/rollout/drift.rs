//! Drift detection: definition, service and running digests compared with a deployment.

use bp_artifact::{
    ResolvedImage,
    deploy::{Change, Drift},
};

use super::{ServiceRollout, proof::Scope, service::primary, survey::Survey};
use crate::{error::Error, names::name_of};

impl ServiceRollout {
    /// Compares the service with the definition that a deployment of `image` would register.
    pub(crate) async fn drift(&self, image: &ResolvedImage) -> Result<Drift, Error> {
        let survey = self.observe().await?;
        let current = self.api.definition(&survey.definition).await?;
        let wanted = self.wanted(&current, &image.reference)?;
        let scope = if survey.is_settled() { Scope::Primary } else { Scope::All };
        let running = self.running(&survey.service, scope).await?;
        let note = running.note().filter(|_| survey.draining);
        let mut drift = Drift::of_proof(self.id.clone(), image, running.proof);
        drift.notes.extend(note);
        drift.definition = wanted.changes(&current);
        drift.service = service(&survey);
        #[cfg(feature = "schedules")]
        drift.service.extend(self.schedule_drift(&survey.service, &survey.definition).await?);
        Ok(drift)
    }
}

/// Differences of the service from a completed deployment.
fn service(survey: &Survey) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut differs = |path: &str, from: String, to: String| {
        if from != to {
            changes.push(Change::new(path, Some(from), Some(to)));
        }
    };
    let found = match (&survey.in_flight, survey.failed) {
        (Some(followed), _) => {
            format!("{} in progress, deploying {}", followed.id, name_of(&followed.definition))
        }
        (None, true) => "failed".to_owned(),
        (None, false) => "completed".to_owned(),
    };
    differs("deployment", "completed".to_owned(), found);
    let service = &survey.service;
    let old = service.deployments().iter().filter(|d| d.status.as_deref() != Some("PRIMARY"));
    let old: i32 = old.map(|d| d.running_count).sum();
    let running = service.running_count - if survey.draining { old } else { 0 };
    differs("runningCount", service.desired_count.to_string(), running.to_string());
    if !survey.draining {
        differs("tasks of earlier revisions", "0".to_owned(), old.to_string());
    }
    let configured = service.task_definition.as_deref().unwrap_or_default();
    let running = primary(service).and_then(|p| p.task_definition.as_deref()).unwrap_or(configured);
    differs("taskDefinition", name_of(running).to_owned(), name_of(configured).to_owned());
    changes
}
