//! Models of Amazon EventBridge (rules and their targets) and EventBridge Scheduler, as far as a deployment reads and
//! changes them. They start no tasks.

mod events;
mod parameters;
mod scheduler;

use serde_json::{Value, json};

use self::parameters::Place;
pub(super) use self::{events::Events, scheduler::Scheduler};
use crate::clock::Clock;

/// The rules and schedules of an account in a region, to create and change. See [`Aws::schedules`](super::Aws::schedules).
pub struct Schedules<'a> {
    events: &'a Events,
    scheduler: &'a Scheduler,
    clock: &'a Clock,
    account: String,
    region: String,
}

impl<'a> Schedules<'a> {
    pub(super) fn new(
        events: &'a Events,
        scheduler: &'a Scheduler,
        clock: &'a Clock,
        account: &str,
        region: &str,
    ) -> Self {
        Schedules { events, scheduler, clock, account: account.to_owned(), region: region.to_owned() }
    }
}

impl Schedules<'_> {
    fn place(&self) -> Place {
        (self.account.clone(), self.region.clone())
    }

    /// Creates an event bus, or a rule on it with any of the members of PutRule's input, such as `ScheduleExpression` and
    /// `State`; also `ManagedBy`. The bus `default` always exists.
    pub fn rule(&self, bus: &str, name: &str, members: Value) -> &Self {
        self.events.create_rule(&self.place(), bus, name, members);
        self
    }

    /// Adds a target to a rule, or replaces it, as PutTargets does.
    ///
    /// # Panics
    /// When the service would reject it.
    pub fn target(&self, bus: &str, rule: &str, target: Value) -> &Self {
        let input = json!({ "EventBusName": bus, "Rule": rule, "Targets": [target] });
        self.events.put(&self.place(), &input).expect("a target that EventBridge takes");
        self
    }

    /// The targets of a rule as the API shows them. Empty if there is no such rule.
    pub fn targets(&self, bus: &str, rule: &str) -> Vec<Value> {
        self.events.targets(&self.place(), bus, rule)
    }

    /// Deletes a rule and its targets.
    pub fn delete_rule(&self, bus: &str, rule: &str) {
        self.events.delete_rule(&self.place(), bus, rule);
    }

    /// Creates a schedule with the members of CreateSchedule's input, or replaces it. Its group is also created.
    ///
    /// # Panics
    /// When the service would reject it.
    pub fn schedule(&self, group: &str, name: &str, members: Value) -> &Self {
        let created = self.scheduler.create(&self.place(), self.clock.now(), group, name, &members);
        created.expect("a schedule that EventBridge Scheduler takes");
        self
    }

    /// Sets members of a schedule without any check, such as a start date of the past, or one that AWS adds later.
    pub fn set(&self, group: &str, name: &str, members: Value) -> &Self {
        self.scheduler.set(&self.place(), group, name, members);
        self
    }

    /// A schedule as the API shows it.
    pub fn get(&self, group: &str, name: &str) -> Option<Value> {
        self.scheduler.get(&self.place(), group, name)
    }

    /// Deletes a schedule.
    pub fn delete(&self, group: &str, name: &str) {
        self.scheduler.delete(&self.place(), group, name);
    }
}
