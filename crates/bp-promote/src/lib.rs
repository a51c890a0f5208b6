//! Copy container images between OCI registries, byte for byte, and promote them from one environment to the next.
//!
//! An image is identified by its digest: every byte is hashed while it is copied, blobs and child manifests are stored
//! before their parents, and the tag is pushed last. A copy can be killed at any time and rerun. A tag that already
//! points to the image costs one request on each side.
//!
//! ```
//! use bp_artifact::ImageRef;
//! use bp_promote::{CopyOptions, RegistryClient, copy, copy::CopyOutcome, registry::{Anonymous, transport}};
//! use bp_sandbox::{ImageBuilder, Sandbox, registry::RegistryOptions};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Two in-memory registries, and an image in one of them.
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
//! // Deploy by digest:
//! let deployable = report.image_in(to.repository())?;
//! assert!(deployable.reference.to_string().starts_with("prod.example.com/shop/web@sha256:"));
//!
//! let again = copy(client.image(&from), client.image(&to), CopyOptions::default()).await?;
//! assert_eq!(again.outcome, CopyOutcome::Unchanged);
//! # Ok(()) }
//! ```
//!
//! # Modules
//! - [`mod@copy`]: copy one image or several, with referrers, platform selection and a no-clobber mode;
//!   [plan](copy::plan()) first and [apply](copy::apply) later; events for blobs, bytes, mounts and retries.
//! - [`registry`]: the registry client, credentials, and a resolver from tags to digests.
//! - [`layout`]: OCI image layouts, as directories and tar archives, as source and destination.
//! - [`store`]: the traits to implement for a custom source or destination.
//! - [`Journal`]: lets another process continue after this one was killed. [`PromotionRecord`]: what a tag pointed to
//!   before.
//!
//! # Features
//! | feature | what it adds |
//! |---|---|
//! | `ecr` | Amazon ECR's API through injected `aws_sdk_ecr::Client`s: logins, layer checks, uploads in parts, archived images, and the module `ecr`: checks of a plan, replication |
//!
//! # Permissions
//! Pull from the source, pull and push at the destination; see [`copy()`] for the Amazon ECR actions.
#![cfg_attr(docsrs, feature(doc_cfg))]
// What is parsed comes from outside, and must not make the program panic.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice))]

mod attach;
pub mod attestation;
pub mod content;
pub mod copy;
#[cfg(feature = "ecr")]
#[cfg_attr(docsrs, doc(cfg(feature = "ecr")))]
pub mod ecr;
mod journal;
pub mod layout;
pub mod policy;
mod record;
pub mod registry;
pub mod retry;
pub mod store;

#[cfg(feature = "ecr")]
pub use aws_sdk_ecr;
pub use copy::{CopyError, CopyOptions, CopyReport, copy, copy_all};
pub use journal::Journal;
pub use layout::{OciArchive, OciLayout};
pub use record::{PromotionOutcome, PromotionRecord};
pub use registry::RegistryClient;
#[cfg(fuzzing)]
#[doc(hidden)]
pub use registry::fuzzing;
