//! Verdicts: how a deployment ended.

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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The image runs in every task or pod, and its digest was observed there.
    Deployed,
    /// The platform reports success, but the digest could not be observed: nothing runs (desired count 0), or a running
    /// task or pod does not report its digest.
    Unproven,
    /// A digest other than that of the requested image was observed.
    DigestMismatch,
    /// The deployment failed and the previous revision runs again.
    RolledBack,
    /// The deployment failed, and so did the rollback.
    RollbackFailed,
    /// The deployment failed and was not rolled back: the failed revision is still in place.
    FailedInPlace,
    /// Another party stopped the deployment.
    Stopped,
    /// Another deployment replaced this one before it completed.
    Superseded,
    /// The service or workload was deleted during the deployment.
    Gone,
    /// The deployment waits for an approval.
    AwaitingApproval,
    /// The deadline passed while the deployment was in progress. It continues on the platform.
    DeadlineExceeded,
    /// A change was applied, or may have been, and its outcome could not be observed: credentials expired, a read was
    /// denied, or the API was throttled or unreachable until the deadline. Neither success nor failure: the deployment
    /// continues on the platform, and the same command resumes.
    ///
    /// With a [`failure`](super::Outcome::failure), the deployment is known to have failed, and the outcome of its
    /// rollback could not be observed.
    ///
    /// An unknown verdict, in a document of a later version, is parsed as this one.
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

    /// Whether the image runs and its digest is proven.
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
            Verdict::FailedInPlace => "failed and not rolled back",
            Verdict::Stopped => "stopped by another party",
            Verdict::Superseded => "superseded by another deployment",
            Verdict::Gone => "the target was deleted",
            Verdict::AwaitingApproval => "awaiting approval",
            Verdict::DeadlineExceeded => "not completed by the deadline",
            Verdict::Unobserved => "the outcome could not be observed",
        })
    }
}
