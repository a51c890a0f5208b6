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
//! # Ok::<(), bp_artifact::ParseError>(())
//! ```
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

mod artifact;
#[cfg(feature = "aws")]
pub mod aws;
pub mod check;
mod commit;
mod config;
pub mod deploy;
mod digest;
mod document;
mod error;
mod exit;
mod image;
pub mod media_type;
mod operation;
mod parse;
mod platform;
mod reference;
mod resolve;
mod saga;
mod select;
pub mod sync;
pub mod text;
pub mod time;

#[cfg(feature = "schema")]
pub use artifact::artifact_schema;
pub use artifact::{Artifact, ArtifactError, ArtifactImage, Build, BuildxError, CiError, Source};
pub use commit::CommitSha;
pub use config::{
    AccountId, Config, ConfigError, ConfigLoader, DeployPlatform, DeployPolicy, EcsConfig, EksConfig,
    EksObject, Environment, EnvironmentConfig, FailureLimit, Limits, Origin, Project, Region, ReleaseConfig,
    RoleArn, ServiceConfig, ServiceName, Setting, Workload, WorkloadKind, config_schema,
};
pub use deploy::{
    Cause, Change, Current, DeployEvent, Drift, Evidence, EvidenceKind, FailureReport, Observation,
    OnFailure, Outcome, Progress, Proof, Receipt, ReceiptState, Revision, RunningImage, Target, TargetError,
    TargetId, TargetReceipt, Verdict,
};
pub use digest::{Algorithm, Digest, Hasher};
pub use document::{DocumentError, Location, write_atomically};
pub use error::{Classified, ErrorClass, chain};
pub use exit::ExitCode;
pub use image::{PlatformImage, ResolvedImage};
pub use operation::{Emitter, Event, Operation};
pub use parse::ParseError;
pub use platform::Platform;
pub use reference::{DigestRef, ImageRef, Registry, Repository, Tag};
#[cfg(feature = "ecr")]
pub use resolve::ecr::EcrResolver;
pub use resolve::{ManifestError, Missed, Resolve, ResolveError, wait_for, wait_for_with};
pub use saga::{Saga, SagaError, SagaEvent, Step};
pub use select::{Glob, TagCandidate, TagSelector};
pub use time::{TimeSource, Wait, WaitError};
