//! Create and update the objects of Kubernetes manifests by server-side apply, with the image by digest: a plan first,
//! then every object in order, then all workloads watched to one verdict.
//!
//! `docs/manifests.md` describes the rules. The previous revisions of all workloads are one [revision] of the set, so that
//! a receipt and `rollback` work as for a single workload. Nothing is pruned: an object that is removed from the files
//! stays in the cluster.
//!
//! [revision]: bp_artifact::deploy::Revision

mod apply;
mod conclude;
mod context;
mod deploy;
mod error;
mod follow;
mod images;
mod object;
mod order;
mod plan;
mod prepare;
mod read;
mod resources;
mod revision;
mod target;
mod watch;

pub use error::{ManifestProblem, ManifestsError};
pub use plan::{ManifestPlan, PlannedAction, PlannedObject};
pub use read::ManifestSet;
pub use target::{Manifests, ManifestsRun};
