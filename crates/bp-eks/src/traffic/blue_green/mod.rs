//! Blue/green deployment on one Service: switch its selector from one Deployment to another, and back.

mod arrival;
mod cleanup;
mod follow;
mod restore;
pub(super) mod slots;
mod stage;
pub(super) mod state;
mod switch;
pub(super) mod target;

use std::{fmt, time::Duration};

use bp_artifact::{
    config::{Workload, WorkloadKind},
    deploy::{TargetId, run::Run},
};

use super::{
    blue_green::slots::{Slot, Slots},
    error::TrafficError,
};
use crate::{api::scope::Scope, options::Options, target::EksTarget};

/// A Service and its two slots.
#[derive(Clone)]
pub(in crate::traffic) struct SlotSwitch {
    pub(in crate::traffic) namespace: Scope,
    pub(in crate::traffic) id: TargetId,
    pub(in crate::traffic) service: String,
    pub(in crate::traffic) slots: Slots,
    pub(in crate::traffic) container: Option<String>,
    pub(in crate::traffic) test_service: Option<String>,
    pub(in crate::traffic) bake: Duration,
    pub(in crate::traffic) options: Options,
}

impl fmt::Debug for SlotSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlueGreen").field("id", &self.id).field("slots", &self.slots).finish_non_exhaustive()
    }
}

impl SlotSwitch {
    /// The Deployment of a slot as a deployment target.
    pub(in crate::traffic) fn target(&self, slot: &Slot, options: Options) -> EksTarget {
        let workload = Workload { kind: WorkloadKind::Deployment, name: slot.deployment.clone() };
        EksTarget::of(self.namespace.clone(), workload, self.container.clone(), options).part_of(&self.id)
    }

    pub(in crate::traffic) fn object(&self) -> String {
        format!("service/{}", self.service)
    }

    /// Call before every change.
    ///
    /// # Errors
    /// When the operation was cancelled.
    pub(in crate::traffic) fn checkpoint(&self, run: &Run) -> Result<(), TrafficError> {
        run.checkpoint().map_err(|_| self.interrupted())
    }

    pub(in crate::traffic) fn interrupted(&self) -> TrafficError {
        TrafficError::Interrupted { object: self.object() }
    }
}
