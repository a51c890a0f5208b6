//! What every deployment shares, whatever it deploys to: target, events, verdict, failure, proof, outcome, and the
//! recorder of one while it runs ([`run`]).

mod display;
mod drift;
mod event;
mod failure;
mod origin;
mod outcome;
mod receipt;
pub mod run;
mod target;
mod verdict;

pub use drift::{Change, Drift};
pub use event::{DeployEvent, Progress};
pub use failure::{Cause, Evidence, EvidenceKind, FailureReport};
pub use outcome::{Observation, Outcome, Proof};
pub use receipt::{Receipt, ReceiptState, TargetReceipt};
pub use target::{Current, OnFailure, Revision, Target, TargetError, TargetId};
pub use verdict::Verdict;
