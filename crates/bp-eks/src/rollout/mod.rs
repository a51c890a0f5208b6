//! An image to a workload, and a verdict with its cause.

mod api;
mod blocked;
pub(crate) mod causes;
mod deploy;
mod drift;
mod error;
mod evidence;
mod follow;
mod job;
mod judge;
mod live;
mod logs;
mod names;
mod object;
mod options;
mod plan;
mod preflight;
pub(crate) mod proof;
mod pulls;
mod quota;
#[cfg(test)]
mod recorded;
mod refusals;
pub(crate) mod retry;
mod roles;
mod status;
mod survey;
mod target;
pub(crate) mod template;
pub(crate) mod text;
mod undo;
pub(crate) mod version;
pub(crate) mod watch;
mod watches;

pub(crate) use api::is_ours;
pub use error::{Conflict, Error};
pub(crate) use follow::chain;
pub use logs::LiveLogs;
pub use object::ObjectRef;
pub(crate) use object::conflicts;
pub use options::Options;
pub use plan::Plan;
pub use preflight::{Finding, Preflight};
pub use roles::Lookups;
pub use status::{RolloutStatus, Stage};
pub use target::{EksTarget, Rollout};
