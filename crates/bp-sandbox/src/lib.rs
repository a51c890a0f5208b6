//! The outside world of a delivery in one process: OCI registries, the AWS calls that a deployment makes, and a
//! Kubernetes API.
//!
//! It is a *model*, clock-driven and scripted: an ECS deployment progresses, fails and rolls back as time passes;
//! what an image does when it runs is decided by a [`Behaviour`]. Every request goes through the same pipeline,
//! whether it comes over a loopback socket or in memory: the [`Ledger`] writes it down, [`Faults`] may spoil it.
//!
//! # In memory, on a paused clock
//! [`Sandbox::transport`] is a tower service that kube and other HTTP clients take as their transport;
//! `Sandbox::http_client` (feature `aws`) is the same for the AWS SDKs. Host names are the real ones; no socket is
//! opened, so a test may pause tokio's clock.
//!
//! # Over loopback sockets
//! [`Sandbox::serve`] binds a free port for every endpoint; `crane`, `aws`, `kubectl` and your own pipeline can talk
//! to it. Never pause the clock then; let the model run faster with [`Clock::accelerated`].
//!
//! # Features
//! | feature | what it adds |
//! |---|---|
//! | `registry` | OCI registries, with Amazon ECR's quirks as switches |
//! | `aws` | ECR, ECS, EKS, Secrets Manager, Systems Manager and STS |
//! | `kube` | a Kubernetes API |

mod body;
mod clock;
mod endpoint;
mod fault;
#[cfg(feature = "registry")]
mod image;
mod ledger;
mod sandbox;
mod server;
mod sync;
mod tls;
mod transport;

#[cfg(feature = "aws")]
pub mod aws;
#[cfg(feature = "kube")]
pub mod kube;
#[cfg(feature = "registry")]
pub mod registry;
#[cfg(feature = "registry")]
mod runtime;

pub use body::Body;
pub use clock::Clock;
pub use fault::{Effect, Fault, Faults};
#[cfg(feature = "registry")]
pub use image::{Image, ImageBuilder};
pub use ledger::{Entry, Ledger};
#[cfg(feature = "registry")]
pub use runtime::Behaviour;
pub use sandbox::{Builder, Sandbox};
pub use server::Served;
pub use transport::{Transport, TransportError};
