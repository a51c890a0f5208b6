//! Deploy Helm releases by digest: run `helm upgrade`, detect failures early, collect evidence, roll back and verify.
//!
//! Helm reaches the cluster only through a loopback proxy, which forwards requests over the client of this process
//! while the release's Lease is held. Helm needs neither a kubeconfig nor the AWS CLI, cluster credentials never appear
//! in its arguments or environment, and an expired Lease proves that no helm started by bp-eks still changes the
//! release, on any machine.

mod context;
mod error;
mod lease;
mod manifest;
mod program;
mod proxy;
mod record;
mod recover;
mod release;
mod rollback;
mod upgrade;

pub use context::{HelmRevision, ImageKeys};
pub use error::HelmError;
pub use release::{HelmRelease, HelmRun};
