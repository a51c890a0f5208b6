//! The plan of a saga: its stages, targets and gates.

use std::fmt;

use serde::Serialize;

use super::{Saga, gate};
use crate::{
    deploy::{GateName, TargetId},
    reference::DigestRef,
};

/// The stages of a [`Saga`] in order. Displays one line for each target and gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SagaPlan {
    /// The stages. One starts when the targets before it are deployed and proven, and their gates are open.
    pub stages: Vec<PlannedStage>,
}

/// A stage of a [`SagaPlan`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PlannedStage {
    /// The targets that are deployed concurrently, with their images.
    pub targets: Vec<(TargetId, DigestRef)>,
    /// The gates after them: the name of the gate and of its check; `None` for an approval.
    pub gates: Vec<(GateName, Option<String>)>,
}

impl Saga {
    /// The plan of this saga. Reads and changes nothing.
    pub fn plan(&self) -> SagaPlan {
        let stage = |stage: gate::Stage<'_>| PlannedStage {
            targets: stage
                .steps
                .iter()
                .map(|step| (step.target.id(), step.image.reference.clone()))
                .collect(),
            gates: stage.gates.iter().map(|gate| (gate.name().clone(), gate.checks())).collect(),
        };
        SagaPlan { stages: gate::stages(&self.steps, &self.gates).into_iter().map(stage).collect() }
    }
}

impl fmt::Display for SagaPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, PlannedStage { targets, gates }) in (1..).zip(&self.stages) {
            if number > 1 {
                writeln!(f)?;
            }
            write!(f, "stage {number}:")?;
            for (target, image) in targets {
                write!(f, "\n  deploy {target}: {image}")?;
            }
            for (gate, checks) in gates {
                match checks {
                    Some(what) => write!(f, "\n  gate {gate}: check {what}")?,
                    None => write!(f, "\n  gate {gate}: approval")?,
                }
            }
        }
        Ok(())
    }
}
