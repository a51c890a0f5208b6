//! Scheduled tasks of a service's task definition family: targets of EventBridge rules, and schedules of EventBridge
//! Scheduler. They move to the revision that is deployed, and back.

mod entry;
mod pages;
mod rules;
mod scheduler;

use bp_artifact::time::TimeSource;
use futures_util::future::join_all;

use self::entry::Timing;
pub(crate) use self::entry::{Entry, Key, family_of, is_unpinned};
use crate::error::Error;

/// The maximum number of concurrent reads.
const CONCURRENT: usize = 8;

/// The clients of EventBridge and EventBridge Scheduler, with which [`EcsTarget::schedules`](crate::EcsTarget::schedules) finds and moves scheduled
/// tasks.
#[derive(Debug, Clone)]
pub struct Schedules {
    events: aws_sdk_eventbridge::Client,
    scheduler: aws_sdk_scheduler::Client,
    time: TimeSource,
}

impl Schedules {
    /// Creates a set of clients.
    pub fn new(events: aws_sdk_eventbridge::Client, scheduler: aws_sdk_scheduler::Client) -> Self {
        Schedules { events, scheduler, time: TimeSource::system() }
    }
}

impl Schedules {
    /// The current time.
    pub(crate) fn now(&self) -> jiff::Timestamp {
        self.time.now()
    }

    /// Everything that starts tasks of one of `families` in one of the clusters, which are ARNs.
    pub(crate) async fn find(&self, clusters: &[String], families: &[&str]) -> Result<Vec<Entry>, Error> {
        let mut rules = Vec::new();
        for bus in self.event_buses().await? {
            for cluster in clusters {
                for rule in self.rules_with(&bus, cluster).await? {
                    if !rules.contains(&(bus.clone(), rule.clone())) {
                        rules.push((bus.clone(), rule));
                    }
                }
            }
        }
        let mut entries = Vec::new();
        for some in rules.chunks(CONCURRENT) {
            for read in join_all(some.iter().map(|(bus, rule)| self.rule(bus, rule))).await {
                entries.extend(read?);
            }
        }
        for some in self.schedules_with(clusters).await?.chunks(CONCURRENT) {
            for read in join_all(some.iter().map(|(group, name)| self.schedule(group, name))).await {
                entries.extend(read?);
            }
        }
        entries.retain(|entry| {
            families.contains(&entry.family()) && clusters.iter().any(|cluster| entry.is_in(cluster))
        });
        Ok(entries)
    }

    /// The targets of a rule that start ECS tasks; none when it does not exist.
    async fn rule(&self, bus: &str, rule: &str) -> Result<Vec<Entry>, Error> {
        match self.timing(bus, rule).await? {
            Some(timing) => self.targets(bus, rule, &timing).await,
            None => Ok(Vec::new()),
        }
    }

    /// Reads one again. `None` when it does not exist, or starts no ECS tasks any more.
    pub(crate) async fn read(&self, key: &Key) -> Result<Option<Entry>, Error> {
        match key {
            Key::Rule { bus, rule, .. } => {
                let targets = self.targets(bus, rule, &Timing::default()).await?;
                Ok(targets.into_iter().find(|entry| entry.key == *key))
            }
            Key::Schedule { group, name } => self.schedule(group, name).await,
        }
    }

    /// Writes one with this task definition. Both calls are idempotent.
    pub(crate) async fn write(&self, entry: &Entry, definition: &str) -> Result<(), Error> {
        let mut members = entry.with_definition(definition);
        let error = match &entry.key {
            Key::Rule { .. } => return self.put(entry, members).await,
            Key::Schedule { .. } => match self.update(entry, members.clone()).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            },
        };
        // The API rejects a start date of the past, even that of the existing schedule. It has no effect any more.
        let rejects_start = error.refusal().is_some_and(|message| message.contains("StartDate"));
        if !rejects_start || !entry.has_started(self.now()) {
            return Err(error);
        }
        members.remove("StartDate");
        self.update(entry, members).await
    }
}
