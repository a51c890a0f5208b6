//! One-off tasks, such as database migrations: what runs, with the settings of a service.

use std::{collections::BTreeMap, time::Duration};

/// A one-off task: the command and the settings that differ from those of the service, which are sent as overrides.
/// Run it with [`EcsTarget::run_task`](crate::EcsTarget::run_task), or as a step of a deployment with
/// [`EcsTarget::before`](crate::EcsTarget::before) and [`EcsTarget::after`](crate::EcsTarget::after).
///
/// Without a command the container runs its own.
///
/// ```
/// use bp_ecs::OneOff;
///
/// let migrate = OneOff::default().command(["./manage", "migrate"]).variable("VERBOSE", "1").memory("2GB");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OneOff {
    pub(crate) container: Option<String>,
    pub(crate) command: Vec<String>,
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) cpu: Option<String>,
    pub(crate) memory: Option<String>,
    pub(crate) timeout: Option<Duration>,
}

impl OneOff {
    /// Sets the command of the container.
    pub fn command(mut self, words: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.command = words.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the container that the command and the variables are for, and whose exit code counts. Defaults to the first
    /// container of the target. It must be one of the target's containers, which run the image.
    pub fn container(mut self, name: impl Into<String>) -> Self {
        self.container = Some(name.into());
        self
    }

    /// Sets an environment variable of the container.
    pub fn variable(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// Sets the CPU units of the task, in the format of ECS: `256`, `1 vCPU`.
    pub fn cpu(mut self, units: impl Into<String>) -> Self {
        self.cpu = Some(units.into());
        self
    }

    /// Sets the memory of the task, in the format of ECS: `512`, `1GB`.
    pub fn memory(mut self, size: impl Into<String>) -> Self {
        self.memory = Some(size.into());
        self
    }

    /// Limits the task to this time, after which it is stopped. Defaults to the deadline of the service's
    /// [`Options`](crate::Options).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

/// The one-off tasks of a deployment, each with its name, in their order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Steps {
    pub(crate) before: Vec<(String, OneOff)>,
    pub(crate) after: Vec<(String, OneOff)>,
}

impl Steps {
    pub(crate) fn is_empty(&self) -> bool {
        self.before.is_empty() && self.after.is_empty()
    }
}
