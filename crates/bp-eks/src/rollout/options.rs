//! How a roll-out is to go.

use std::{num::NonZeroU32, time::Duration};

use bp_artifact::{OnFailure, WaitError};

/// How a roll-out is to go. A deadline is mandatory: Kubernetes itself never gives up.
///
/// ```
/// use std::time::Duration;
/// use bp_eks::Options;
///
/// let options = Options::new(Duration::from_secs(900))?.take_over(true);
/// assert!(Options::new(Duration::ZERO).is_err());
/// # Ok::<(), bp_artifact::WaitError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    pub(crate) deadline: Duration,
    pub(crate) on_failure: OnFailure,
    pub(crate) fail_after: NonZeroU32,
    pub(crate) take_over: bool,
    /// Only follows what is in place already, and writes nothing.
    pub(crate) adopt_only: bool,
}

impl Options {
    /// Gives the roll-out at most `deadline`, and an undo as much again.
    ///
    /// # Errors
    /// When it is zero.
    pub fn new(deadline: Duration) -> Result<Self, WaitError> {
        if deadline.is_zero() {
            return Err(WaitError::NoDeadline);
        }
        Ok(Options {
            deadline,
            on_failure: OnFailure::default(),
            fail_after: NonZeroU32::MIN.saturating_add(1),
            take_over: false,
            adopt_only: false,
        })
    }

    /// What to do on failure.
    pub fn on_failure(mut self, policy: OnFailure) -> Self {
        self.on_failure = policy;
        self
    }

    /// Takes the roll-out for failed after this many pods that fail for the same reason; two if not said. Before that
    /// it has failed when every new pod has.
    pub fn fail_after(mut self, pods: NonZeroU32) -> Self {
        self.fail_after = pods;
        self
    }

    /// Follows the roll-out that somebody else began, and never begins or undoes one.
    pub(crate) fn adopt_only(mut self) -> Self {
        self.adopt_only = true;
        self.on_failure(OnFailure::Leave)
    }

    /// Takes the image's field from whoever owns it. Off if not said: then the first deployment of a workload that
    /// kubectl, Helm or Terraform made is refused with [`Error::Conflict`](crate::Error::Conflict), which names the
    /// owner.
    ///
    /// Only the image of the deployed container is taken, nothing else, and from then on it is ours without force.
    /// Remove the image from what the owner applies, or have it ignored there (Terraform: `ignore_changes`; Argo CD:
    /// `ignoreDifferences`); else its next run puts its own image back.
    pub fn take_over(mut self, yes: bool) -> Self {
        self.take_over = yes;
        self
    }
}
