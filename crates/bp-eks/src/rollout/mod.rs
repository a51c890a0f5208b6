//! An image to a workload, and a verdict with its cause.

mod api;
pub(crate) mod causes;
mod deploy;
mod error;
mod evidence;
mod follow;
mod judge;
mod options;
pub(crate) mod proof;
mod status;
mod target;
pub(crate) mod template;
pub(crate) mod text;
mod undo;
pub(crate) mod watch;

pub(crate) use api::is_ours;
pub use error::{Conflict, Error};
pub(crate) use error::{Place, conflicts, shown};
pub(crate) use follow::chain;
pub use options::Options;
pub use status::{RolloutStatus, Stage};
pub use target::{EksTarget, Rollout};
