//! Carry an image, byte for byte, from one registry to another.
//!
//! The digest is the identity: what arrives is what was sent, every byte hashed on the way, children before parents
//! and the name last. A copy can be killed at any time and run again; an equal tag costs one request on each side.
//!
//! ```
//! use bp_artifact::ImageRef;
//! use bp_promote::{Anonymous, CopyOptions, CopyOutcome, RegistryClient, copy, transport};
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
//! # What else there is
//! - [`copy_all`]: several images in one run, what they share once; [`plan`] and [`apply`]: to see first.
//! - [`OciLayout`] and [`OciArchive`]: directories and tar archives as source and destination. [`Source`] and
//!   [`Destination`] are for your own.
//! - [`CopyOptions`]: referrers, platforms, no clobbering; [`CopyEvent`]: blobs, bytes, mounts, retries as they happen.
//! - [`Journal`]: another process goes on where this one was killed. [`PromotionRecord`]: what was there before.
//! - [`RegistryClient`] by itself, and [`RegistryResolver`]: from a tag to its digest.
//!
//! # Features
//! | feature | what it adds |
//! |---|---|
//! | `ecr` | `EcrClients`: logins, layer checks and, by option, uploads in parts of Amazon ECR by injected `aws_sdk_ecr::Client`s |
//!
//! # Permissions
//! Pull from the source, pull and push at the destination; see [`copy`] for Amazon ECR's actions.

mod content;
mod copy;
mod journal;
mod layout;
mod record;
mod registry;
mod retry;
mod store;

pub use content::{Descriptor, Links, Manifest, Reference};
pub use copy::{
    Carried, CopyError, CopyEvent, CopyOptions, CopyOutcome, CopyPlan, CopyReport, Counts,
    ImageReport, Kept, Planned, PlannedReferrer, Progress, Requests, RunPlan, RunReport, Side, apply,
    apply_all, copy, copy_all, plan, plan_all,
};
pub use journal::Journal;
pub use layout::{LayoutError, OciArchive, OciLayout};
pub use record::{PROMOTION_RECORD, PromotionRecord};
#[cfg(feature = "ecr")]
pub use registry::EcrClients;
#[cfg(fuzzing)]
#[doc(hidden)]
pub use registry::fuzzing;
pub use registry::{
    Anonymous, ApiError, ApiErrors, Body, BuildError, Chain, CredentialError, CredentialSource, DockerConfig,
    Login, Logins, RegistryClient, RegistryClientBuilder, RegistryError, RegistryResolver, RepositoryClient,
    RequestLine, Transport, transport,
};
pub use retry::{Observer, Retry, RetryPolicy};
pub use store::{BlobStream, Capabilities, Destination, ImageAt, PutError, RepositoryState, RequestCounter, RunContext, Source, StoreError, Stored, TagList};
