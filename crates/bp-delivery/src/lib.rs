//! What every deploy tool around the bp crates needs: from `bp.toml` to AWS and Kubernetes clients, deployment targets and
//! promotions, and a program's frame with arguments, progress on a terminal or as JSON lines, and exit codes.
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
//! | [`Session`], [`Clients`], [`Endpoints`] | signs in to an environment, once for each role and run, and makes its clients |
//! | [`Delivery`], [`gates`] | the targets of an environment, and what stands between them |
//! | [`promotion`], [`secrets`] | copies between environments; references to secrets |
//! | [`render`] (feature `render`) | events as bars, lines or JSON lines, safe to print |
//! | [`cli`], [`program`], [`verb`] (feature `cli`) | arguments, a program's frame, and the verbs that the binaries run |
//!
//! # Features
//! | feature | what it adds |
//! |---|---|
//! | `render` | [`render`] |
//! | `cli` | [`cli`], [`program`] and [`verb`]; with `render` |
//! | `helm` | `deploy-helm` |
//! | `logs` | failure reports of ECS carry the last log lines |
//! | `preflight` | checks look up IAM roles and target groups; with `logs` |
//!
//! # Permissions
//! `sts:AssumeRole` on the environments' roles and `sts:GetCallerIdentity`; else those of the libraries.

#[cfg(feature = "cli")]
pub mod cli;
mod delivery;
mod failure;
mod gates;
mod image;
#[cfg(feature = "render")]
mod printer;
#[cfg(feature = "cli")]
pub mod program;
pub mod promotion;
#[cfg(feature = "render")]
pub mod render;
pub mod secrets;
mod session;
#[cfg(feature = "cli")]
pub mod verb;

pub use delivery::{Delivery, steps};
pub use failure::Failure;
pub use gates::{actor, gates};
pub use image::{patience, wait_for_image};
#[cfg(feature = "render")]
pub use render::{Output, Ui};
pub use session::{Clients, Endpoints, Session};
