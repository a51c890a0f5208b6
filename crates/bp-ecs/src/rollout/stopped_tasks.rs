//! The stopped tasks of a service: read one call at a time, and which of them count as failures of the deployment.

use std::collections::HashSet;

use aws_sdk_ecs::types::{DesiredStatus, Task};
use bp_artifact::deploy::Cause;
use jiff::Timestamp;
use tokio::time::Instant;

use super::diagnose::Stopped;
use crate::{api::Api, error::Error, names::name_of};

/// The maximum number of tasks per DescribeTasks call.
const TASKS: usize = 100;

/// The stopped tasks of a service, as far as they are known.
#[derive(Debug, Default)]
pub(super) struct StoppedTasks {
    /// Our tasks that failed.
    pub(super) failed: Vec<Stopped>,
    /// Our tasks that failed before the success, which do not count.
    failed_before: Vec<Stopped>,
    /// When ECS reported success.
    success: Option<Timestamp>,
    /// The tasks of other deployments.
    pub(super) others: HashSet<String>,
    /// The tasks whose final state is known, or does not matter.
    known: HashSet<String>,
    /// Listed tasks that were not described.
    unread: Vec<String>,
    /// Our tasks that are still stopping.
    stopping: Vec<String>,
    /// The page to list next.
    page: Option<String>,
    /// Whether there may be tasks that were not listed.
    stale: bool,
    /// Whether the last call described tasks: lists and descriptions alternate.
    described: bool,
    /// When the last complete list was read.
    listed_at: Option<Instant>,
    /// The failures that later progress outweighs.
    outweighed: HashSet<String>,
    /// Why they could not be read.
    pub(super) error: Option<String>,
}

impl StoppedTasks {
    /// From here on, only tasks that stopped after the deployment's success count. Without that time, tasks that are
    /// listed now do not count.
    pub(super) async fn count_from(&mut self, api: &Api, success: Option<Timestamp>) {
        (self.success, self.stale) = (success, true);
        if success.is_none() {
            self.ignore_listed(api).await;
        }
        let (after, before) = self.failed.drain(..).partition(|stopped| is_after(stopped, success));
        (self.failed, self.failed_before) = (after, before);
    }

    async fn ignore_listed(&mut self, api: &Api) {
        let mut read = self.list(api).await;
        while read.is_ok() && self.page.is_some() {
            read = self.list(api).await;
        }
        let listed = self.unread.drain(..).chain(self.stopping.drain(..));
        self.known.extend(listed.map(|arn| name_of(&arn).to_owned()));
        self.note(read);
    }

    /// The failures before the success count too: no task has replaced those that failed.
    pub(super) fn count_all(&mut self) {
        self.failed.append(&mut self.failed_before);
    }

    /// Reads a page of the list, or describes listed tasks: one call.
    pub(super) async fn read_some(&mut self, api: &Api, ours: &str, container: &str) {
        let has_list = self.stale || self.page.is_some();
        let lists = has_list && (self.unread.is_empty() || self.described);
        self.described = !lists;
        let read = if lists { self.list(api).await } else { self.describe(api, ours, container).await };
        self.note(read);
    }

    /// Reads all of them.
    pub(super) async fn read_all(&mut self, api: &Api, ours: &str, container: &str) {
        let mut read = self.list(api).await;
        while read.is_ok() && self.page.is_some() {
            read = self.list(api).await;
        }
        while read.is_ok() && self.has_unread() {
            read = self.describe(api, ours, container).await;
        }
        self.note(read);
    }

    fn note(&mut self, read: Result<(), Error>) {
        self.error = read.err().map(|error| error.to_string());
    }

    async fn list(&mut self, api: &Api) -> Result<(), Error> {
        let (arns, next) = api.list_tasks(DesiredStatus::Stopped, self.page.take()).await?;
        for arn in arns {
            let is_new = !self.unread.contains(&arn) && !self.stopping.contains(&arn);
            if is_new && !self.known.contains(name_of(&arn)) {
                self.unread.push(arn);
            }
        }
        if next.is_none() {
            (self.stale, self.listed_at) = (false, Some(Instant::now()));
        }
        self.page = next;
        Ok(())
    }

    async fn describe(&mut self, api: &Api, ours: &str, container: &str) -> Result<(), Error> {
        let some: Vec<String> = self.unread.iter().chain(&self.stopping).take(TASKS).cloned().collect();
        let tasks = api.describe_tasks(&some).await?;
        self.unread.retain(|arn| !some.contains(arn));
        self.stopping.retain(|arn| !some.contains(arn));
        for task in tasks {
            self.add(&task, ours, container);
        }
        Ok(())
    }

    fn add(&mut self, task: &Task, ours: &str, container: &str) {
        let arn = task.task_arn.clone().unwrap_or_default();
        let name = name_of(&arn).to_owned();
        if task.started_by.as_deref() != Some(ours) {
            self.others.insert(name.clone());
            self.known.insert(name);
            return;
        }
        self.failed.retain(|stopped| stopped.task != name);
        self.failed_before.retain(|stopped| stopped.task != name);
        let is_final = task.last_status.as_deref() == Some("STOPPED");
        // Until a task has stopped, its exit codes may be missing.
        let failure =
            Stopped::of(task, container).filter(|failure| is_final || failure.cause != Cause::Unknown);
        match failure {
            Some(failure) if self.success.is_some() && !is_after(&failure, self.success) => {
                self.failed_before.push(failure);
            }
            failure => self.failed.extend(failure),
        }
        if is_final {
            self.known.insert(name);
        } else {
            self.stopping.push(arn);
        }
    }

    /// Whether the list was read since then, and every task in it.
    pub(super) fn is_read_since(&self, at: Instant) -> bool {
        !self.has_unread() && self.listed_at.is_some_and(|listed| listed >= at)
    }

    /// Whether listed tasks are not described yet, or the list has more pages.
    pub(super) fn has_unread(&self) -> bool {
        !self.unread.is_empty() || self.page.is_some()
    }

    /// Notes that there may be tasks that were not listed: something changed, or ECS counts more failures than are known.
    pub(super) fn expect(&mut self, changed: bool, counted: usize) {
        self.stale |= changed || counted > self.failed.len() + self.failed_before.len();
    }

    /// Whether a call would read something.
    pub(super) fn has_work(&self) -> bool {
        self.stale || self.has_unread() || !self.stopping.is_empty()
    }

    /// Whether failed tasks are known and no others are expected.
    pub(super) fn is_complete(&self) -> bool {
        !self.failed.is_empty() && !self.has_unread() && !self.stale && self.error.is_none()
    }

    /// The failures so far no longer count: the deployment made healthy progress.
    pub(super) fn outweigh(&mut self) {
        self.outweighed.extend(self.failed.iter().map(|stopped| stopped.task.clone()));
    }

    /// Whether `limit` tasks failed for the same cause since the last progress.
    pub(super) fn reach(&self, limit: usize) -> bool {
        let counts = |stopped: &&Stopped| !self.outweighed.contains(&stopped.task);
        let failed = || self.failed.iter().filter(counts);
        failed().any(|one| failed().filter(|other| other.cause == one.cause).count() >= limit)
    }
}

/// Whether the task began to stop after the success.
fn is_after(stopped: &Stopped, success: Option<Timestamp>) -> bool {
    stopped.at.zip(success).is_some_and(|(at, success)| at > success)
}
