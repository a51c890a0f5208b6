//! Gates: approvals and checks between the stages of a saga.

use std::{collections::BTreeSet, fmt, sync::Arc};

use super::Step;
use crate::{
    check::Check,
    deploy::{Claim, GateName, OnFailure},
    reference::DigestRef,
    time::Wait,
};

/// An approval or a check between two stages of a [`Saga`](super::Saga): when the targets before it are deployed and
/// proven, the next stage starts only if the check passes, or the gate was approved.
///
/// | the gate | action |
/// |---|---|
/// | the check passes, or it is approved | the next stage starts |
/// | it is not answered yet | the run ends with [`AwaitingApproval`](crate::deploy::Verdict::AwaitingApproval), the receipt stays open |
/// | the check cannot be observed | the run ends with [`Unobserved`](crate::deploy::Verdict::Unobserved), the receipt stays open |
/// | the check fails, or it is rejected | by [`OnFailure`]: all targets are rolled back, or all are left as they are |
///
/// ```
/// use bp_artifact::saga::Gate;
///
/// // After the targets of stage 0.
/// let gate = Gate::approval("go-live".parse()?, 0);
/// assert_eq!(gate.name().as_str(), "go-live");
/// # Ok::<(), bp_artifact::error::ParseError>(())
/// ```
#[derive(Clone)]
#[must_use = "a gate does nothing until a saga has it"]
pub struct Gate {
    name: GateName,
    after: u32,
    pub(super) condition: Condition,
    pub(super) on_failure: OnFailure,
}

#[derive(Clone)]
pub(super) enum Condition {
    Approval,
    Check { check: Arc<dyn Check>, wait: Wait },
}

impl Gate {
    /// An approval after the stage `after`. The process does not wait for it: the run ends, and another run with an
    /// [`Answer`] continues.
    pub fn approval(name: GateName, after: u32) -> Self {
        Gate { name, after, condition: Condition::Approval, on_failure: OnFailure::default() }
    }

    /// A check after the stage `after`, repeated until it passes or the deadline of `wait` passes.
    pub fn check(name: GateName, after: u32, check: Arc<dyn Check>, wait: Wait) -> Self {
        let condition = Condition::Check { check, wait };
        Gate { name, after, condition, on_failure: OnFailure::default() }
    }

    /// What to do when the check fails or the gate is rejected. Defaults to a rollback.
    pub fn on_failure(mut self, on_failure: OnFailure) -> Self {
        self.on_failure = on_failure;
        self
    }

    /// Its name.
    pub fn name(&self) -> &GateName {
        &self.name
    }

    /// The name of the check; `None` for an approval.
    pub fn checks(&self) -> Option<String> {
        match &self.condition {
            Condition::Approval => None,
            Condition::Check { check, .. } => Some(check.name()),
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("name", &self.name)
            .field("after", &self.after)
            .field("checks", &self.checks())
            .finish_non_exhaustive()
    }
}

/// An answer to a gate that awaits approval.
///
/// It is valid only if, according to the receipt, this gate awaits approval of the same images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The gate.
    pub gate: GateName,
    /// The decision.
    pub decision: Decision,
    /// Who answers, if reported.
    pub by: Option<Claim>,
}

/// The decision on a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The next stage may start.
    Approve,
    /// The deployment counts as failed.
    Reject,
}

/// A stage: its targets, and the gates after them.
pub(super) struct Stage<'a> {
    pub(super) steps: Vec<&'a Step>,
    pub(super) gates: Vec<&'a Gate>,
}

/// The stages in order. Of the gates after a stage, checks come first, so that the approver sees their results.
pub(super) fn stages<'a>(steps: &'a [Step], gates: &'a [Gate]) -> Vec<Stage<'a>> {
    let numbers: Vec<u32> =
        steps.iter().map(|step| step.stage).collect::<BTreeSet<_>>().into_iter().collect();
    let stage = |(at, number): (usize, &u32)| {
        let is_here = |gate: &&Gate| {
            let later = at == 0 || gate.after >= *number;
            later && numbers.get(at.saturating_add(1)).is_none_or(|next| gate.after < *next)
        };
        let mut gates: Vec<&Gate> = gates.iter().filter(is_here).collect();
        gates.sort_by_key(|gate| matches!(gate.condition, Condition::Approval));
        Stage { steps: steps.iter().filter(|step| step.stage == *number).collect(), gates }
    };
    numbers.iter().enumerate().map(stage).collect()
}

/// The images of all steps, each once.
pub(super) fn images(steps: &[Step]) -> Vec<DigestRef> {
    let images: BTreeSet<_> = steps.iter().map(|step| step.image.reference.clone()).collect();
    images.into_iter().collect()
}
