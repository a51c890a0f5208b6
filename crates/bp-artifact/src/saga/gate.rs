//! Gates: what has to be true between two stages of a saga.

use std::{collections::BTreeSet, fmt, sync::Arc};

use super::Step;
use crate::{
    check::Check,
    deploy::{Claim, GateName, OnFailure},
    reference::DigestRef,
    time::Wait,
};

/// Stands between two stages of a [`Saga`](super::Saga): when the targets before it are deployed and proven, the next
/// stage starts only if the check passes, or somebody has approved.
///
/// | the gate | what is done |
/// |---|---|
/// | the check passes, or it is approved | the next stage starts |
/// | nobody has answered yet | the run ends with [`AwaitingApproval`](crate::deploy::Verdict::AwaitingApproval), the receipt stays open |
/// | the check cannot be observed | the run ends with [`Unobserved`](crate::deploy::Verdict::Unobserved), the receipt stays open |
/// | the check fails, or it is rejected | as [`OnFailure`] says: all targets are put back, or all stay as they are |
///
/// ```
/// use bp_artifact::saga::Gate;
///
/// // Behind the targets of stage 0.
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
    /// An approval behind the stage `after`. The process does not wait for it: the run ends, and another one with an
    /// [`Answer`] continues.
    pub fn approval(name: GateName, after: u32) -> Self {
        Gate { name, after, condition: Condition::Approval, on_failure: OnFailure::default() }
    }

    /// A check behind the stage `after`, repeated until it passes or the time of `wait` is over.
    pub fn check(name: GateName, after: u32, check: Arc<dyn Check>, wait: Wait) -> Self {
        let condition = Condition::Check { check, wait };
        Gate { name, after, condition, on_failure: OnFailure::default() }
    }

    /// What to do when the check fails or the gate is rejected. Go back, if not set.
    pub fn on_failure(mut self, on_failure: OnFailure) -> Self {
        self.on_failure = on_failure;
        self
    }

    /// Its name.
    pub fn name(&self) -> &GateName {
        &self.name
    }

    /// What is checked; `None` for an approval.
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
/// It counts only where the receipt says that this gate awaits approval, and of the same images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Which gate.
    pub gate: GateName,
    /// What is answered.
    pub decision: Decision,
    /// Who answers, as far as it is reported.
    pub by: Option<Claim>,
}

/// What is answered to a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The next stage may start.
    Approve,
    /// The deployment counts as failed.
    Reject,
}

/// A stage: its targets, and the gates behind them.
pub(super) struct Stage<'a> {
    pub(super) steps: Vec<&'a Step>,
    pub(super) gates: Vec<&'a Gate>,
}

/// The stages in their order. Of the gates behind a stage checks come first, so that whoever approves sees what was
/// checked.
pub(super) fn stages<'a>(steps: &'a [Step], gates: &'a [Gate]) -> Vec<Stage<'a>> {
    let numbers: Vec<u32> =
        steps.iter().map(|step| step.stage).collect::<BTreeSet<_>>().into_iter().collect();
    let stage = |(at, number): (usize, &u32)| {
        let is_here = |gate: &&Gate| {
            let later = at == 0 || gate.after >= *number;
            later && numbers.get(at + 1).is_none_or(|next| gate.after < *next)
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
