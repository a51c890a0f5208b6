//! Build deployment tools for Amazon ECS and EKS: AWS and Kubernetes clients, deployment targets and promotions from
//! `bp.toml`, and the frame of a command-line program with arguments, progress output and exit codes.
//!
//! ```no_run
//! use bp_artifact::{Artifact, Config, saga::Saga};
//! use bp_delivery::{Delivery, Failure, Session};
//!
//! # async fn deploy() -> Result<(), Failure> {
//! let config = Config::load("bp.toml")?;
//! let environment = config.environment("staging")?;
//! let service = environment.service(None)?;
//! let clients = Session::from_env()?.open(environment).await?;
//! let delivery = Delivery::new(environment.clone(), service.clone(), clients);
//!
//! let image = Artifact::read("artifact.json")?.image_of(service)?;
//! let image = delivery.clients.resolver(image.repository().registry())?.resolve(&image).await?;
//! let receipt = Saga::new(delivery.targets().await?, image, "receipt.json").run().await?;
//! # Ok(()) }
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | [`Session`], [`Clients`], [`Endpoints`] | authenticate to an environment and create its clients |
//! | [`Delivery`], [`gates`] | the targets of an environment, and the gates between its stages |
//! | [`Location`], [`RegistryOptions`] | images in registries and OCI layouts, and the access to them |
//! | [`verification`] | verify an environment: one table of checks, from the running digest to TLS of the host |
//! | [`changes`] | which targets are concerned by the paths that have changed between two commits |
//! | [`promotion`], [`governance`], [`secrets`] | promotion of images between environments, and its rules; references to secrets |
//! | [`render`] (feature `render`) | events as progress in place, lines or JSON lines, with untrusted text escaped |
//! | [`cli`], [`program`], [`verb`] (feature `cli`) | arguments, the program frame, and the verbs of the binaries |
//!
//! # Features
//! | feature | what it adds |
//! |---|---|
//! | `render` | [`render`] |
//! | `cli` | [`cli`], [`program`] and [`verb`]; includes `render` |
//! | `helm` | `deploy-helm` |
//! | `logs` | ECS failure reports include the last log lines |
//! | `alarms` | gates that check CloudWatch alarms |
//! | `preflight` | preflight checks look up IAM roles and target groups; includes `logs` |
//!
//! # Permissions
//! `sts:AssumeRole` on the environments' roles and `sts:GetCallerIdentity`, in addition to those of the libraries.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod actor;
pub mod changes;
#[cfg(feature = "render")]
#[cfg_attr(not(feature = "cli"), allow(dead_code, reason = "the program frame uses it"))]
mod ci;
#[cfg(feature = "cli")]
pub mod cli;
mod delivery;
#[cfg(feature = "cli")]
mod doctor;
mod failure;
mod gates;
pub mod governance;
#[cfg(feature = "cli")]
mod help;
mod image;
#[cfg(feature = "cli")]
mod init;
mod location;
mod locked;
#[cfg(feature = "render")]
mod look;
#[cfg(feature = "cli")]
pub mod multicall;
mod pins;
#[cfg(feature = "cli")]
mod plan_file;
#[cfg(feature = "render")]
mod printer;
#[cfg(feature = "cli")]
pub mod program;
pub mod promotion;
mod record_file;
mod registries;
#[cfg(feature = "render")]
pub mod render;
#[cfg(feature = "cli")]
mod replication;
pub mod secrets;
mod session;
#[cfg(feature = "render")]
mod stop;
#[cfg(feature = "cli")]
pub mod verb;
pub mod verification;

pub use actor::actor;
#[cfg(feature = "render")]
pub use ci::Ci;
pub use delivery::{Delivery, steps};
pub use failure::Failure;
pub use gates::gates;
#[cfg(feature = "cli")]
pub use help::{Example, Help};
pub use image::{image_wait, wait_for_image};
pub use location::{LayoutImage, Location, LocationError};
pub use registries::RegistryOptions;
#[cfg(feature = "render")]
pub use render::{Output, Ui};
pub use session::{Clients, Endpoints, Session};
