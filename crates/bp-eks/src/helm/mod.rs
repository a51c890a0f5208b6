//! Deploy Helm releases by digest: run `helm upgrade`, detect failures early, collect evidence, roll back and verify.
//!
//! Helm reaches the cluster only through a loopback proxy, which forwards requests over the client of this process
//! while the release's Lease is held. Helm needs neither a kubeconfig nor the AWS CLI, cluster credentials never appear
//! in its arguments or environment, and an expired Lease proves that no helm started by bp-eks still changes the
//! release, on any machine.

mod chart;
mod command_line;
mod conflicts;
mod context;
mod drift;
mod error;
mod flags;
mod follow;
mod hooks;
mod lease;
mod login;
mod manifest;
mod program;
mod proxy;
mod record;
mod recover;
mod release;
mod rollback;
mod status;
mod upgrade;
mod wait;

pub use chart::{ImageKeys, VariablesForm};
pub use context::HelmRevision;
pub use error::HelmError;
pub use flags::HelmFlags;
pub use release::{HelmRelease, HelmRun};
