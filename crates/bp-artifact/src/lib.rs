//! Shared types of a container delivery pipeline: image references and digests, `artifact.json`, the configuration file
//! `bp.toml`, and the verdicts, failure causes and receipts of deployments.
//!
//! An image is identified by its digest. A tag is resolved once, at the start of the pipeline; after that only a
//! [`DigestRef`] is passed on, so deploying a mutable tag does not compile:
//!
//! ```
//! use bp_artifact::{DigestRef, ImageRef};
//!
//! let tagged: ImageRef = "111111111111.dkr.ecr.eu-central-1.amazonaws.com/shop/web:1.4.2".parse()?;
//! assert_eq!(tagged.tag().unwrap().as_str(), "1.4.2");
//! // Only a reference with a digest converts.
//! assert!(DigestRef::try_from(tagged).is_err());
//! # Ok::<(), bp_artifact::error::ParseError>(())
//! ```
//!
//! # Modules
//! - [`mod@reference`], [`digest`]: image references. [`select`], [`resolve`]: choose a tag, resolve it to its digest.
//!   [`paths`]: which files of a repository belong to a service.
//! - [`artifact`]: `artifact.json`. [`config`]: `bp.toml`, its environments and services. [`document`]: parse errors
//!   with their location. [`mod@file`]: atomic file replacement, and locks.
//! - [`deploy`]: types shared by all deployments: targets, events, verdicts, causes, failure reports, receipts,
//!   preflight. [`saga`]: deploys to several targets, all or none. [`check`]: checks that the deployed application
//!   responds.
//! - [`operation`]: a future with a stream of events. [`error`]: error classes. [`time`]: deadlines, poll intervals and
//!   duration parsing. [`text`]: sanitizes untrusted text for terminals and CI logs. [`recording`]: redacted API
//!   responses, to reproduce an incident in a test.
//!
//! # Features
//! | feature | adds |
//! |---|---|
//! | `aws` | [`aws`]: one classifier for the errors of all AWS SDK calls |
//! | `command` | `check::CommandCheck`; [`process`]: child processes that end with this one |
//! | `ecr` | the digest resolver for Amazon ECR, with an injected `aws_sdk_ecr::Client` |
//! | `schema` | the JSON Schemas of `artifact.json` and of verifications, generated from the types |
//!
//! Without features the crate depends on no HTTP client, SDK or git library.
//!
//! # Permissions
//! None, except with `ecr`: `ecr:BatchGetImage` on the repository, and `ecr:DescribePullThroughCacheRules` for tags.
#![cfg_attr(docsrs, feature(doc_cfg))]
// What is parsed comes from outside, and must not make the program panic.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice))]

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
pub mod file;
pub mod host;
mod image;
mod location;
pub mod media_type;
pub mod operation;
mod parse;
pub mod paths;
mod platform;
#[cfg(feature = "command")]
pub mod process;
pub mod recording;
pub mod reference;
pub mod resolve;
pub mod saga;
pub mod select;
pub mod sync;
pub mod text;
pub mod time;

pub use artifact::Artifact;
#[cfg(feature = "ecr")]
pub use aws_sdk_ecr;
pub use commit::CommitSha;
pub use config::Config;
pub use deploy::{Outcome, Verdict};
pub use digest::Digest;
pub use exit::ExitCode;
pub use image::ResolvedImage;
pub use operation::Operation;
pub use platform::Platform;
pub use reference::{DigestRef, ImageRef, Registry, Repository, Tag};
