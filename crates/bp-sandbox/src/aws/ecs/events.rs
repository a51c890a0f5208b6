//! The events of a service, as recorded on ECS.

use std::{collections::BTreeMap, fmt::Display, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    names::{epoch, hex_id},
    service::{Event, Service},
    task::{Failure, Task},
};

/// From the stop of a task until its target is deregistered.
pub(super) const DEREGISTRATION: Duration = Duration::from_secs(10);
/// How many events DescribeServices returns.
const SHOWN: usize = 100;
/// How many events are kept.
const KEPT: usize = 300;

/// `(task a) (task b)`, as in messages.
fn list(ids: &[String]) -> String {
    ids.iter().map(|id| format!("(task {id})")).collect::<Vec<_>>().join(" ")
}

impl Service {
    pub(super) fn say(&mut self, at: Timestamp, message: impl Display) {
        let message = format!("(service {}) {message}", self.name);
        self.push(Event { id: hex_id(), at, message });
    }

    fn push(&mut self, event: Event) {
        if self.events.len() == KEPT {
            self.events.drain(..KEPT - SHOWN);
        }
        self.events.push(event);
    }

    /// The latest events, newest first.
    pub(super) fn shown_events(&self) -> Vec<Value> {
        let mut events: Vec<&Event> = self.events.iter().filter(|event| event.at <= self.clock).collect();
        events.sort_by_key(|event| event.at);
        let view = |e: &&Event| json!({ "id": e.id, "createdAt": epoch(e.at), "message": e.message });
        events.iter().rev().take(SHOWN).map(view).collect()
    }

    /// Adds an event of the past.
    pub(super) fn remember(&mut self, age: Duration, message: impl Display) {
        self.say(self.clock - age, message);
    }

    pub(super) fn report_started(&mut self, now: Timestamp, ids: &[String]) {
        if !ids.is_empty() {
            self.say(now, format_args!("has started {} tasks: {}.", ids.len(), list(ids)));
        }
    }

    /// Reports tasks that the load balancer can reach from now on.
    pub(super) fn report_registered(&mut self, now: Timestamp) {
        let Some(target) = self.target() else { return };
        let mut count = 0;
        for task in self.tasks.iter_mut().filter(|task| !task.registered && task.is_running(now)) {
            task.registered = true;
            count += 1;
        }
        if count > 0 {
            self.say(now, format_args!("registered {count} targets in (target-group {})", target.group));
        }
    }

    /// Reports running tasks that were stopped, with the deployment of each.
    pub(super) fn report_stopped(&mut self, now: Timestamp, tasks: &[(u64, String)]) {
        if tasks.is_empty() {
            return;
        }
        let ids: Vec<String> = tasks.iter().map(|(_, id)| id.clone()).collect();
        self.say(now, format_args!("has stopped {} running tasks: {}.", ids.len(), list(&ids)));
        self.report_deregistered(now, tasks);
    }

    /// Reports that the load balancer no longer reaches stopped tasks, some time later.
    fn report_deregistered(&mut self, now: Timestamp, tasks: &[(u64, String)]) {
        let Some(target) = self.target() else { return };
        let later = now + DEREGISTRATION;
        self.say(
            later,
            format_args!("deregistered {} targets in (target-group {})", tasks.len(), target.group),
        );
        let mut drained: BTreeMap<u64, usize> = BTreeMap::new();
        tasks.iter().for_each(|(deployment, _)| *drained.entry(*deployment).or_default() += 1);
        for (deployment, count) in drained {
            let message = format!(
                "(service {}, taskSet ecs-svc/{deployment}) has begun draining connections on {count} tasks.",
                self.name
            );
            self.push(Event { id: hex_id(), at: later, message });
        }
    }

    /// Reports a task that failed. The exit of a container is not an event.
    pub(super) fn report_failure(&mut self, now: Timestamp, task: &Task) {
        let Some(failure) = &task.failure else { return };
        let (id, target) = (task.id(), self.target());
        match (failure, target) {
            (Failure::NotStarted, _) => {
                let reason = task.stop.as_ref().map_or("", |stop| &stop.reason);
                return self.say(now, format_args!("was unable to place a task. Reason: {reason}."));
            }
            (Failure::Exited, _) => {
                return self.report_deregistered(now, &[(task.deployment, id.to_owned())]);
            }
            (Failure::Unreachable(reason), Some(target)) => self.say(
                now,
                format_args!(
                    "(task {id}) (port {}) is unhealthy in (target-group {}) due to (reason {reason}).",
                    target.port, target.group
                ),
            ),
            (Failure::Unhealthy | Failure::Unreachable(_), _) => {
                self.say(now, format_args!("(task {id}) failed container health checks."));
            }
        }
        self.report_stopped(now, &[(task.deployment, id.to_owned())]);
    }
}
