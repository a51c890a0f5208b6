//! An image to a workload, and a verdict with its cause.

mod api;
mod causes;
mod deploy;
mod error;
mod evidence;
mod follow;
mod judge;
mod options;
mod proof;
mod status;
mod target;
mod template;
mod text;
mod undo;
mod watch;

pub use error::{Conflict, Error};
pub use options::Options;
pub use status::{RolloutStatus, Stage};
pub use target::{EksTarget, Rollout};
