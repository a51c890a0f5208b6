//! Deploy Helm releases by digest: the `helm` program upgrades, with early failures, evidence, rollback and proof added.
//!
//! Helm reaches the cluster through us alone: a server on loopback that passes its requests on over our own client, and
//! only as long as we hold the release's Lease. So it needs no kubeconfig and no AWS CLI, no credential of the cluster
//! appears in its arguments or environment, and a Lease that has run out proves that no helm of ours is at work any
//! more, on whatever machine it was started.

mod context;
mod error;
mod lease;
mod manifest;
mod program;
mod proxy;
mod recover;
mod release;
mod rollback;
mod upgrade;

pub use context::{HelmRevision, ImageKeys};
pub use error::HelmError;
pub use release::{HelmRelease, HelmRun};
