//! Scheduled tasks of a deployment: found before the first change, moved after its success, and moved back.

use std::time::Duration;

use aws_sdk_ecs::types::Service;
use bp_artifact::{
    deploy::{
        Cause, Change, FailureReport, Revision, ScheduledTask,
        preflight::{Finding, FindingState},
        run::Run,
    },
    error::Classified,
    text::SingleLine,
};
use tokio::time::Instant;

use super::{ServiceRollout, retry::RetryBudget, step::StepFailed};
use crate::{
    error::Error,
    names::name_of,
    schedules::{Entry, Schedules, family_of, is_unpinned},
};

/// How long to try to change one schedule, within the deadline.
const PATIENCE: Duration = Duration::from_secs(60);

/// The result of changing the task definition of a schedule.
enum Moved {
    /// It was changed; with the paths of other members that differ afterwards.
    Changed(Vec<String>),
    /// It already had the definition.
    Already,
    /// It no longer exists.
    Gone,
    /// Another party has given it this definition.
    Taken(String),
}

/// An error, and the phase in which it occurred.
struct Attempt {
    error: Error,
    /// Whether the schedule may have been changed.
    maybe_changed: bool,
    is_read: bool,
}

impl ServiceRollout {
    /// The schedules of the families of these definitions in the service's cluster. None without clients.
    pub(crate) async fn scheduled(
        &self,
        service: &Service,
        definitions: &[&str],
    ) -> Result<Vec<Entry>, Error> {
        let Some(schedules) = &self.schedules else { return Ok(Vec::new()) };
        let cluster = service.cluster_arn.clone().ok_or_else(|| Error::UnexpectedResponse {
            operation: "ecs:DescribeServices",
            reason: "the service has no cluster".to_owned(),
        })?;
        let families: Vec<&str> = definitions.iter().map(|definition| family_of(definition)).collect();
        schedules.find(&[cluster], &families).await
    }

    /// As [`scheduled`](Self::scheduled), before a change: an error if one has members that could be lost.
    pub(crate) async fn movable(&self, service: &Service, definitions: &[&str]) -> Result<Vec<Entry>, Error> {
        let entries = self.scheduled(service, definitions).await?;
        let mut changed = entries.iter().filter(|entry| self.fixed(entry).is_none());
        changed.try_for_each(Entry::check_known)?;
        Ok(entries)
    }

    fn fixed(&self, entry: &Entry) -> Option<String> {
        entry.fixed(self.schedules.as_ref()?.now())
    }

    /// One finding for each schedule: what a deployment would do with it.
    pub(crate) fn schedule_findings(&self, entries: &[Entry]) -> Vec<Finding> {
        let finding = |entry: &Entry| {
            let when = match (entry.timing.expression.as_str(), entry.timing.disabled) {
                ("", false) => " (event pattern)".to_owned(),
                ("", true) => " (event pattern, disabled)".to_owned(),
                (expression, false) => format!(" ({expression})"),
                (expression, true) => format!(" ({expression}, disabled)"),
            };
            let subject = format!("scheduled task {}{when}", entry.key);
            let latest = if entry.is_unpinned() { ", the latest active revision" } else { "" };
            let now = format!("{}{latest}", entry.short_definition());
            match self.fixed(entry) {
                Some(why) => {
                    Finding::new(subject, FindingState::Warning, format!("stays at {now}, because {why}"))
                }
                None => Finding::new(
                    subject,
                    FindingState::Present,
                    format!("{now}; starts tasks of the deployed revision after the deployment"),
                ),
            }
        };
        entries.iter().map(finding).collect()
    }

    /// The schedules that do not start tasks of the definition that the service runs.
    pub(super) async fn schedule_drift(
        &self,
        service: &Service,
        definition: &str,
    ) -> Result<Vec<Change>, Error> {
        let entries = self.scheduled(service, &[definition]).await?;
        let differs = entries.iter().filter(|entry| !entry.runs(definition) && self.fixed(entry).is_none());
        let change = |entry: &Entry| {
            let (from, to) = (name_of(definition).to_owned(), entry.short_definition().to_owned());
            Change::new(format!("scheduled task {}", entry.key), Some(from), Some(to))
        };
        Ok(differs.map(change).collect())
    }

    /// Moves the schedules to the deployed definition. Returns their definitions afterwards.
    pub(super) async fn move_schedules(
        &self,
        run: &mut Run,
        entries: &[Entry],
        to: &str,
    ) -> Result<Vec<ScheduledTask>, StepFailed> {
        let mut now = Vec::new();
        for entry in entries {
            if let Some(why) = self.fixed(entry) {
                run.notice(format!(
                    "scheduled task {} stays at {}: {why}",
                    entry.key,
                    entry.short_definition()
                ));
                now.push(entry.recorded());
                continue;
            }
            match self.move_one(run, entry, to).await? {
                Moved::Changed(_) | Moved::Already => now.push(ScheduledTask::new(entry.key.to_string(), to)),
                Moved::Gone => {}
                Moved::Taken(by) => {
                    let why = format!(
                        "scheduled task {} was changed by another party from {} to {} during the deployment, and was \
                         left so",
                        entry.key,
                        entry.short_definition(),
                        name_of(&by)
                    );
                    run.failing(FailureReport::new(Cause::ConfigInvalid, why.clone()));
                    return Err(StepFailed::Failed(why));
                }
            }
        }
        Ok(now)
    }

    /// Moves the schedules back: to the recorded definitions, or to the restored revision. `replaced` is the definition
    /// from which the service is restored, if that is known.
    pub(super) async fn restore_schedules(
        &self,
        run: &mut Run,
        service: &Service,
        revision: &Revision,
        replaced: Option<&str>,
    ) -> Result<(), StepFailed> {
        if self.schedules.is_none() {
            return Ok(());
        }
        let definitions: Vec<&str> = [Some(revision.id.as_str()), replaced].into_iter().flatten().collect();
        let found = self.movable(service, &definitions).await;
        let entries = found.map_err(|error| failed("the scheduled tasks could not be read", &error, true))?;
        for entry in &entries {
            let recorded = revision.schedules.iter().find(|task| task.schedule == entry.key.to_string());
            // Without a revision it would start tasks of the latest one, from which the service was restored.
            let recorded = recorded.map(|task| task.definition.as_str()).filter(|text| !is_unpinned(text));
            let to = recorded.unwrap_or(&revision.id);
            if entry.runs(to) || self.fixed(entry).is_some() {
                continue;
            }
            let is_ours = entry.is_unpinned()
                || match replaced {
                    Some(replaced) => entry.runs(replaced),
                    None => recorded.is_some(),
                };
            if !is_ours {
                run.notice(format!(
                    "scheduled task {} stays at {}, to which another party has set it",
                    entry.key,
                    entry.short_definition()
                ));
                continue;
            }
            if let Moved::Taken(by) = self.move_one(run, entry, to).await? {
                run.notice(format!(
                    "scheduled task {} stays at {}, to which another party has set it",
                    entry.key,
                    name_of(&by)
                ));
            }
        }
        Ok(())
    }

    /// Changes the task definition of one schedule, unless another party has done so since it was read.
    async fn move_one(&self, run: &mut Run, entry: &Entry, to: &str) -> Result<Moved, StepFailed> {
        let Some(schedules) = &self.schedules else { return Ok(Moved::Already) };
        let deadline = bp_artifact::time::deadline(PATIENCE.min(self.options.deadline));
        let mut retries = RetryBudget::default();
        let mut maybe_changed = false;
        loop {
            let Attempt { error, maybe_changed: sent, is_read } =
                match self.attempt(schedules, entry, to, maybe_changed, deadline).await {
                    Ok(moved) => {
                        report(run, entry, to, &moved);
                        return Ok(moved);
                    }
                    Err(attempt) => attempt,
                };
            maybe_changed |= sent;
            let is_conflict = matches!(
                error.code(),
                Some("ConcurrentModificationException" | "ConflictException" | "InternalException")
            );
            let no_credentials = matches!(error, Error::NoCredentials { .. });
            let is_refused = !(is_read || is_conflict || no_credentials || error.is_retryable());
            let is_over = is_refused
                || if is_conflict {
                    Instant::now() >= deadline
                } else {
                    retries.is_exhausted(&error, deadline)
                };
            if is_over {
                let what = format!("scheduled task {} could not be set to {}", entry.key, name_of(to));
                let failure = failed(&what, &error, maybe_changed || !is_refused);
                if let StepFailed::Failed(why) = &failure {
                    let denied = matches!(error, Error::AccessDenied { .. });
                    let cause = if denied { Cause::PermissionMissing } else { Cause::ConfigInvalid };
                    run.failing(FailureReport::new(cause, why.clone()));
                }
                return Err(failure);
            }
            tracing::warn!(error = %SingleLine(&error), "failed to change a scheduled task, retrying");
            tokio::time::sleep(self.options.pause(false)).await;
        }
    }

    /// Reads the schedule, writes it with the definition, and reads it again until the change is visible.
    async fn attempt(
        &self,
        schedules: &Schedules,
        entry: &Entry,
        to: &str,
        sent_before: bool,
        deadline: Instant,
    ) -> Result<Moved, Attempt> {
        let reading = |maybe_changed: bool| move |error| Attempt { error, maybe_changed, is_read: true };
        let Some(before) = schedules.read(&entry.key).await.map_err(reading(false))? else {
            return Ok(Moved::Gone);
        };
        if before.runs(to) {
            let moved = if sent_before { Moved::Changed(entry.differences(&before)) } else { Moved::Already };
            return Ok(moved);
        }
        if before.definition() != entry.definition() {
            return Ok(Moved::Taken(before.definition().to_owned()));
        }
        let writing = |error: Error| {
            let maybe_changed = error.may_have_been_handled();
            Attempt { error, maybe_changed, is_read: false }
        };
        before.check_known().map_err(writing)?;
        schedules.write(&before, to).await.map_err(writing)?;
        loop {
            match schedules.read(&entry.key).await.map_err(reading(true))? {
                None => return Ok(Moved::Gone),
                Some(after) if after.runs(to) => return Ok(Moved::Changed(before.differences(&after))),
                Some(after) if after.definition() != entry.definition() => {
                    return Ok(Moved::Taken(after.definition().to_owned()));
                }
                Some(_) if Instant::now() >= deadline => {
                    let reason = format!("{} still has its earlier task definition", entry.key);
                    let error = Error::UnexpectedResponse { operation: "events:PutTargets", reason };
                    return Err(Attempt { error, maybe_changed: true, is_read: true });
                }
                Some(_) => tokio::time::sleep(self.options.pause(false)).await,
            }
        }
    }
}

/// Emits what was changed.
fn report(run: &mut Run, entry: &Entry, to: &str, moved: &Moved) {
    match moved {
        Moved::Changed(others) => {
            run.changed();
            run.notice(format!(
                "scheduled task {}: {} -> {}",
                entry.key,
                entry.short_definition(),
                name_of(to)
            ));
            let others: Vec<&str> =
                others.iter().map(String::as_str).filter(|path| *path != "StartDate").collect();
            if !others.is_empty() {
                run.notice(format!(
                    "scheduled task {} differs in {} after the change: another party changed it at the same time, or \
                     EventBridge did not keep them",
                    entry.key,
                    others.join(", ")
                ));
            }
        }
        Moved::Gone => run.notice(format!("scheduled task {} no longer exists", entry.key)),
        Moved::Already | Moved::Taken(_) => {}
    }
}

fn failed(what: &str, error: &Error, unobserved: bool) -> StepFailed {
    let why = format!("{what}: {}", error.in_one_line());
    if unobserved { StepFailed::Unobserved(why) } else { StepFailed::Failed(why) }
}
