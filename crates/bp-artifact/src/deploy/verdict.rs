//! How a deployment ended.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a deployment ended. Only [`Deployed`](Verdict::Deployed) is success; a rollback never is.
///
/// ```
/// use bp_artifact::Verdict;
///
/// assert!(Verdict::Deployed.is_success() && !Verdict::RolledBack.is_success());
/// assert_eq!(serde_json::to_value(Verdict::RolledBack).unwrap(), "rolled-back");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The image runs everywhere it was asked for, and its digest was seen running.
    Deployed,
    /// The platform reports success, but the digest could not be observed: nothing runs (desired count 0), or what
    /// runs does not tell its digest.
    Unproven,
    /// Something else than the image asked for was seen running.
    DigestMismatch,
    /// The deployment failed and the previous revision runs again.
    RolledBack,
    /// The deployment failed and so did going back.
    RollbackFailed,
    /// The deployment failed and nothing went back: the failed revision is still in place.
    FailedInPlace,
    /// Somebody stopped the deployment.
    Stopped,
    /// Another deployment took our place before ours was done.
    Superseded,
    /// The service or workload was deleted while we were at it.
    Gone,
    /// The deployment waits for an approval.
    AwaitingApproval,
    /// The deadline passed while the deployment was still going on. It goes on without us.
    DeadlineExceeded,
    /// A change was applied, or may have been, and how it ended could not be observed: credentials expired, a read was
    /// denied, the API throttled past the deadline or could not be reached. Neither success nor failure: the platform
    /// continues without us, and the same command resumes.
    ///
    /// With a [`failure`](super::Outcome::failure) the deployment was seen to fail, and how its rollback ended could not
    /// be observed.
    ///
    /// A verdict of a later version in a document is read as this one: what it says is not known here.
    #[serde(other)]
    Unobserved,
}

impl Verdict {
    /// Every verdict that this version knows.
    pub const ALL: &'static [Verdict] = &[
        Verdict::Deployed,
        Verdict::Unproven,
        Verdict::DigestMismatch,
        Verdict::RolledBack,
        Verdict::RollbackFailed,
        Verdict::FailedInPlace,
        Verdict::Stopped,
        Verdict::Superseded,
        Verdict::Gone,
        Verdict::AwaitingApproval,
        Verdict::DeadlineExceeded,
        Verdict::Unobserved,
    ];

    /// Whether the image runs, proven.
    pub fn is_success(self) -> bool {
        self == Verdict::Deployed
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Deployed => "deployed",
            Verdict::Unproven => "deployed, but the running digest is unproven",
            Verdict::DigestMismatch => "another digest runs",
            Verdict::RolledBack => "failed and rolled back",
            Verdict::RollbackFailed => "failed, and the rollback failed too",
            Verdict::FailedInPlace => "failed; the failed revision is still in place",
            Verdict::Stopped => "stopped by somebody",
            Verdict::Superseded => "superseded by another deployment",
            Verdict::Gone => "the target is gone",
            Verdict::AwaitingApproval => "awaiting approval",
            Verdict::DeadlineExceeded => "not done by the deadline",
            Verdict::Unobserved => "the outcome could not be observed",
        })
    }
}
