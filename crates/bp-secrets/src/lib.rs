//! References to AWS Secrets Manager and Parameter Store: parse them, fetch and cache their values, check them before a
//! deployment, and convert them to other formats, without a secret in any log.
//!
//! ```no_run
//! use bp_secrets::{Depth, ParameterStore, Reference, SecretsManager, Store as _, Stores, check};
//!
//! # async fn example(config: aws_types::SdkConfig) -> Result<(), Box<dyn std::error::Error>> {
//! let stores = Stores::new()
//!     .secrets_manager(SecretsManager::new(aws_sdk_secretsmanager::Client::new(&config)))
//!     .parameter_store(ParameterStore::new(aws_sdk_ssm::Client::new(&config)));
//!
//! // As in the `secrets[].valueFrom` of an ECS task definition.
//! let references: Vec<Reference> = vec![
//!     "arn:aws:secretsmanager:eu-central-1:111111111111:secret:prod/db-AbCdEf:password::".parse()?,
//!     "/prod/db/host".parse()?,
//! ];
//! // Before a deployment: would a task with these references start?
//! for error in check(&stores, &references, Depth::Keys).await.errors() {
//!     println!("{error}");
//! }
//! // In a program: the values, in memory that is wiped on drop.
//! for fetched in stores.fetch(&references).await {
//!     let password = fetched?.into_value();
//! }
//! # Ok(()) }
//! ```
//!
//! # How values are protected
//! `Debug`, `Display`, errors, reports and `tracing` events never contain a value or a part of one, not even when the
//! JSON of a secret is malformed or an HTTP response is truncated; values cannot be serialised by accident. The copies
//! of this crate are wiped when they are dropped. Copies made by the SDK, TLS and the operating system are not.
//!
//! # Permissions
//! `secretsmanager:GetSecretValue` and `ssm:GetParameters` on the secrets and parameters that are read;
//! `secretsmanager:BatchGetSecretValue` on `*` saves calls; `secretsmanager:DescribeSecret` for checks; `kms:Decrypt`
//! on a customer managed key. [`permissions`] generates the policy for a list of references.
//!
//! # Features
//! | feature | adds |
//! |---|---|
//! | `secretsmanager` (default) | [`SecretsManager`], over an injected `aws_sdk_secretsmanager::Client` |
//! | `ssm` (default) | [`ParameterStore`], over an injected `aws_sdk_ssm::Client` |
//! | `cache` (default) | [`Cache`], in front of any [`Store`] |
//! | `yaml` | `projection::from_yaml`, and parsing a `SecretProviderClass` whose `objects` are YAML |
//!
//! Without features the crate parses, prints and converts references, and does not depend on an SDK.
#![cfg_attr(docsrs, feature(doc_cfg))]
// What is parsed comes from outside, and must not make the program panic.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice))]

#[cfg(feature = "cache")]
pub mod cache;
pub mod check;
mod error;
mod json;
mod lint;
pub mod permissions;
mod pin;
pub mod projection;
pub mod reference;
pub mod store;
pub mod value;

#[cfg(feature = "secretsmanager")]
pub use aws_sdk_secretsmanager;
#[cfg(feature = "ssm")]
pub use aws_sdk_ssm;
#[cfg(feature = "cache")]
pub use cache::Cache;
pub use check::{CheckReport, Depth, check};
pub use error::{Error, ErrorKind};
pub use lint::Lint;
pub use pin::pin;
pub use reference::Reference;
#[cfg(feature = "ssm")]
pub use store::ParameterStore;
#[cfg(feature = "secretsmanager")]
pub use store::SecretsManager;
pub use store::Store;
#[cfg(any(feature = "secretsmanager", feature = "ssm"))]
pub use store::Stores;
pub use value::SecretValue;
