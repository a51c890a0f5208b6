//! An image to a workload, and a verdict with its cause.

mod api;
pub(crate) mod causes;
mod deploy;
mod drift;
mod error;
mod evidence;
mod follow;
mod job;
mod judge;
mod live;
mod names;
mod options;
mod plan;
mod preflight;
pub(crate) mod proof;
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
pub(crate) use error::{Place, conflicts, shown};
pub(crate) use follow::chain;
pub use options::Options;
pub use plan::Plan;
pub use preflight::{Finding, Preflight};
pub use status::{RolloutStatus, Stage};
pub use target::{EksTarget, Rollout};
