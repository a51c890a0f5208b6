//! In-process simulation of OCI registries, the AWS APIs of a deployment, and Kubernetes clusters, for tests.
//!
//! It is a *model*, clock-driven and scripted: an ECS deployment progresses, fails and rolls back as time passes; a
//! [`Behaviour`] determines what an image does when it runs. Every request passes through the same pipeline, over a
//! loopback socket or in memory: it is recorded in the [`Ledger`], and [`Faults`] can be injected.
//!
//! # In memory, on a paused clock
//! [`Sandbox::transport`] is a tower service that kube and other HTTP clients accept as their transport;
//! `Sandbox::http_client` (feature `aws`) is the same for the AWS SDKs. Host names are the real ones; no socket is
//! opened, so a test may pause tokio's clock.
//!
//! # Over loopback sockets
//! [`Sandbox::serve`] binds a free port for every endpoint, for `crane`, `aws`, `kubectl` and your own pipeline. Do not
//! pause tokio's clock then; [`Clock::accelerated`] makes the model run faster.
//!
//! # Interruptions
//! [`cut`] drops work at each of its polls, to test that a rerun completes it.
//!
//! # Features
//! | feature | adds |
//! |---|---|
//! | `registry` | OCI registries, with the deviations of Amazon ECR as options |
//! | `aws` | ECR, ECS, EKS, EventBridge, Secrets Manager, Systems Manager, STS and CloudWatch alarms |
//! | `kube` | a Kubernetes API |
#![cfg_attr(docsrs, feature(doc_cfg))]

mod body;
mod clock;
#[cfg(feature = "registry")]
mod digest;
mod endpoint;
mod fault;
#[cfg(feature = "registry")]
mod image;
mod ledger;
mod sandbox;
mod server;
mod shared;
mod sockets;
mod sync;
mod tls;
mod transport;

#[cfg(feature = "aws")]
pub mod aws;
pub mod cut;
#[cfg(feature = "kube")]
pub mod kube;
#[cfg(feature = "registry")]
pub mod registry;
#[cfg(feature = "registry")]
mod runtime;

pub use body::Body;
pub use clock::Clock;
pub use endpoint::TransportError;
pub use fault::{Effect, Fault, Faults};
#[cfg(feature = "registry")]
pub use image::{Image, ImageBuilder};
pub use ledger::{Entry, Ledger, Permission};
#[cfg(feature = "registry")]
pub use runtime::Behaviour;
pub use sandbox::{Builder, Sandbox};
pub use server::Served;
pub use transport::Transport;
