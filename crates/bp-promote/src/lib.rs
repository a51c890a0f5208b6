//! Carry an image, byte for byte, from one registry to another.
//!
//! The digest is the identity: what arrives is what was sent, every byte hashed on the way, children before parents
//! and the name last. A copy can be killed at any time and run again; an equal tag costs one request on each side.
//!
//! ```
//! use bp_artifact::ImageRef;
//! use bp_promote::{CopyOptions, RegistryClient, copy, copy::CopyOutcome, registry::{Anonymous, transport}};
//! use bp_sandbox::{ImageBuilder, Sandbox, registry::RegistryOptions};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Two registries in memory, and a real image in one of them.
//! let sandbox = Sandbox::builder()
//!     .registry("dev.example.com", RegistryOptions::default())
//!     .registry("prod.example.com", RegistryOptions::default())
//!     .build();
//! let image = ImageBuilder::new().platform("linux/amd64").platform("linux/arm64").layer([("app", "hello")]).build();
//! sandbox.registry("dev.example.com").push(&image, "shop/web", "1.4.2");
//!
//! let client = RegistryClient::builder()
//!     .transport(transport(sandbox.transport()))
//!     .credentials(Anonymous)
//!     .build()?;
//! let from: ImageRef = "dev.example.com/shop/web:1.4.2".parse()?;
//! let to: ImageRef = "prod.example.com/shop/web:1.4.2".parse()?;
//! let report = copy(client.image(&from), client.image(&to), CopyOptions::default()).await?;
//!
//! assert_eq!(report.digest.as_str(), image.digest());
//! assert_eq!(sandbox.registry("prod.example.com").tags("shop/web")["1.4.2"], image.digest());
//! // What deploys is the digest:
//! let deployable = report.image_in(to.repository())?;
//! assert!(deployable.reference.to_string().starts_with("prod.example.com/shop/web@sha256:"));
//!
//! let again = copy(client.image(&from), client.image(&to), CopyOptions::default()).await?;
//! assert_eq!(again.outcome, CopyOutcome::Unchanged);
//! # Ok(()) }
//! ```
//!
//! # Modules
//! - [`mod@copy`]: one image or many in a run, with referrers, platforms and no clobbering; [plan](copy::plan()) first and
//!   [apply](copy::apply) later; events of blobs, bytes, mounts and retries as they happen.
//! - [`registry`]: the client by itself, logins, and a resolver from a tag to its digest.
//! - [`layout`]: directories and tar archives as source and destination.
//! - [`store`]: the traits for a source or destination of your own.
//! - [`Journal`]: another process continues where this one was killed. [`PromotionRecord`]: what a tag pointed to before.
//!
//! # Features
//! | feature | what it adds |
//! |---|---|
//! | `ecr` | `registry::EcrClients`: logins, layer checks and, by option, uploads in parts of Amazon ECR by injected `aws_sdk_ecr::Client`s |
//!
//! # Permissions
//! Pull from the source, pull and push at the destination; see [`copy()`] for Amazon ECR's actions.

pub mod content;
pub mod copy;
mod journal;
pub mod layout;
mod record;
pub mod registry;
pub mod retry;
pub mod store;

pub use copy::{CopyError, CopyOptions, CopyReport, copy, copy_all};
pub use journal::Journal;
pub use layout::{OciArchive, OciLayout};
pub use record::PromotionRecord;
pub use registry::RegistryClient;
#[cfg(fuzzing)]
#[doc(hidden)]
pub use registry::fuzzing;
