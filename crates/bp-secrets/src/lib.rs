//! References to AWS Secrets Manager and Parameter Store: parse them, read what they stand for, and check that they
//! hold, without a secret in any log.
//!
//! ```no_run
//! use bp_secrets::{Depth, ParameterStore, Reference, SecretsManager, Store as _, Stores, check};
//!
//! # async fn example(config: aws_types::SdkConfig) -> Result<(), Box<dyn std::error::Error>> {
//! let stores = Stores::new()
//!     .secrets_manager(SecretsManager::new(aws_sdk_secretsmanager::Client::new(&config)))
//!     .parameter_store(ParameterStore::new(aws_sdk_ssm::Client::new(&config)));
//!
//! // What stands in a task definition.
//! let references: Vec<Reference> = vec![
//!     "arn:aws:secretsmanager:eu-central-1:111111111111:secret:prod/db-AbCdEf:password::".parse()?,
//!     "/prod/db/host".parse()?,
//! ];
//! // Before the deployment: does a task with these start?
//! for error in check(&stores, &references, Depth::Keys).await.errors() {
//!     println!("{error}");
//! }
//! // In a program: the values, in memory that is wiped.
//! for fetched in stores.fetch(&references).await {
//!     let password = fetched?.into_value();
//! }
//! # Ok(()) }
//! ```
//!
//! # What stays secret
//! `Debug`, `Display`, errors, reports and `tracing` events never hold a value or a part of one, not even where the
//! JSON of a secret is malformed or an HTTP answer is cut; values cannot be serialised by accident. Our copies are
//! wiped when they are dropped. The copies that the SDK, TLS and the operating system made are out of reach.
//!
//! # Permissions
//! `secretsmanager:GetSecretValue` and `ssm:GetParameters` on what is read; `secretsmanager:BatchGetSecretValue` on
//! `*` saves calls; `secretsmanager:DescribeSecret` for checks; `kms:Decrypt` on a customer's key. [`permissions`]
//! writes down what a list of references needs.
//!
//! # Features
//! | feature | what it adds |
//! |---|---|
//! | `secretsmanager` (default) | [`SecretsManager`], over an injected `aws_sdk_secretsmanager::Client` |
//! | `ssm` (default) | [`ParameterStore`], over an injected `aws_sdk_ssm::Client` |
//! | `cache` (default) | [`Cache`], in front of any [`Store`] |
//! | `yaml` | reads YAML: `projection::from_yaml`, and objects of a `SecretProviderClass` written in it |
//!
//! Without features the crate parses, prints and projects references, and has no SDK.

#[cfg(feature = "cache")]
pub mod cache;
pub mod check;
mod error;
mod json;
mod lint;
pub mod permissions;
pub mod projection;
pub mod reference;
pub mod store;
pub mod value;

#[cfg(feature = "cache")]
pub use cache::Cache;
pub use check::{CheckReport, Depth, check};
pub use error::{Error, ErrorKind};
pub use lint::Lint;
pub use reference::Reference;
#[cfg(feature = "ssm")]
pub use store::ParameterStore;
#[cfg(feature = "secretsmanager")]
pub use store::SecretsManager;
pub use store::Store;
#[cfg(any(feature = "secretsmanager", feature = "ssm"))]
pub use store::Stores;
pub use value::SecretValue;
