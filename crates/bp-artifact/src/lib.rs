//! What the stages of a delivery hand each other: references and digests, `artifact.json`, environments,
//! verdicts and receipts.
//!
//! The digest is the identity. A tag is resolved once, at the edge, and from there only a [`DigestRef`]
//! travels; deploying a mutable tag does not compile:
//!
//! ```
//! use bp_artifact::{DigestRef, ImageRef};
//!
//! let asked: ImageRef = "111111111111.dkr.ecr.eu-central-1.amazonaws.com/shop/web:1.4.2".parse()?;
//! assert_eq!(asked.tag().unwrap().as_str(), "1.4.2");
//! // Only a reference that names a digest becomes one that deploys.
//! assert!(DigestRef::try_from(asked).is_err());
//! # Ok::<(), bp_artifact::error::ParseError>(())
//! ```
//!
//! # Modules
//! - [`mod@reference`], [`digest`]: what names an image. [`resolve`], [`select`]: from a tag to its digest.
//! - [`artifact`]: `artifact.json`. [`config`]: `bp.toml`, its environments and services. [`document`]: where text is wrong,
//!   and files that are replaced atomically.
//! - [`deploy`]: what all deployments share: targets, events, verdicts, causes, failure reports, receipts, preflight.
//!   [`saga`]: one image on several targets, all or none. [`check`]: does what was deployed answer?
//! - [`operation`]: a future with events. [`error`]: what a caller can do about an error. [`time`]: deadlines, waits, and
//!   durations as text. [`text`]: foreign text made fit for a terminal.
//!
//! # Features
//! | feature | what it adds |
//! |---|---|
//! | `aws` | [`aws`]: one reading of the errors of all AWS SDK calls |
//! | `command` | `check::CommandCheck` |
//! | `ecr` | the digest resolver for Amazon ECR, over an injected `aws_sdk_ecr::Client` |
//! | `schema` | the JSON Schema of `artifact.json`, made of the types |
//!
//! Without features the crate has no HTTP, no SDK and no git.
//!
//! # Permissions
//! None of its own; with `ecr`: `ecr:BatchGetImage` on the repository, and `ecr:DescribePullThroughCacheRules` for tags.

pub mod artifact;
#[cfg(feature = "aws")]
pub mod aws;
pub mod check;
mod commit;
pub mod config;
pub mod deploy;
pub mod digest;
pub mod document;
pub mod error;
mod exit;
mod image;
pub mod media_type;
pub mod operation;
mod parse;
mod platform;
pub mod recording;
pub mod reference;
pub mod resolve;
pub mod saga;
pub mod select;
pub mod sync;
pub mod text;
pub mod time;

pub use artifact::Artifact;
pub use commit::CommitSha;
pub use config::Config;
pub use deploy::{Outcome, Verdict};
pub use digest::Digest;
pub use exit::ExitCode;
pub use image::ResolvedImage;
pub use operation::Operation;
pub use platform::Platform;
pub use reference::{DigestRef, ImageRef, Registry, Repository, Tag};
