//! Types shared by all deployments: targets, events, verdicts, failure reports, causes, proofs, outcomes, receipts, and
//! the recorder of a deployment in progress ([`run`]).

mod cause;
mod display;
mod drift;
mod event;
mod failure;
mod finding;
mod gate;
mod origin;
mod outcome;
pub mod preflight;
mod receipt;
mod reporter;
mod revision;
mod rollback;
pub mod run;
pub mod status;
mod target;
mod target_id;
mod verdict;

pub use cause::Cause;
pub use drift::{Change, Drift};
pub use event::{DeployEvent, Progress};
pub use failure::{Evidence, EvidenceKind, FailureReport};
pub use gate::{Claim, GateName, GateReceipt, GateState};
pub use outcome::{Observation, Outcome, Proof};
pub use receipt::{Receipt, ReceiptState, TargetReceipt};
pub use reporter::Reporter;
pub use revision::{Revision, RunningImage, ScheduledTask};
pub use rollback::RollbackCheck;
pub use target::{Current, OnFailure, Target, TargetError};
pub use target_id::TargetId;
pub use verdict::Verdict;
