//! Stores: read secrets and parameters from AWS in batches, behind one trait.

#[cfg(feature = "ssm")]
mod parameter_store;
#[cfg(any(feature = "secretsmanager", feature = "ssm"))]
mod sdk;
#[cfg(feature = "secretsmanager")]
mod secrets_manager;
#[cfg(any(feature = "secretsmanager", feature = "ssm"))]
mod stores;

use std::{collections::HashMap, future::Future};

#[cfg(feature = "ssm")]
pub use self::parameter_store::ParameterStore;
#[cfg(feature = "secretsmanager")]
pub use self::secrets_manager::SecretsManager;
#[cfg(any(feature = "secretsmanager", feature = "ssm"))]
pub use self::stores::Stores;
use crate::{
    error::{Error, ErrorKind},
    json,
    reference::Reference,
    value::{Fetched, Stored},
};

/// Metadata of a secret or parameter, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Description {
    /// Its ARN.
    pub arn: String,
    /// The id of the version that the reference points to, or the parameter's version number. Empty when only reading
    /// the value would show it.
    pub version: String,
    /// The customer managed KMS key, if the service reports one.
    pub kms_key: Option<String>,
}

/// A source of secret values, such as Secrets Manager.
///
/// Each method returns one result per reference, in their order; a failure of one does not affect the others.
///
/// ```
/// use bp_secrets::{Error, Reference, SecretValue, Store, store::Description, value::Stored};
///
/// /// A store for tests that returns the same value for every reference.
/// struct Always(&'static str);
///
/// impl Store for Always {
///     async fn read(&self, references: &[Reference]) -> Vec<Result<Stored, Error>> {
///         let stored = |_| Ok(Stored::new(SecretValue::Text(self.0.to_owned().into()), "arn", "1"));
///         references.iter().map(stored).collect()
///     }
///
///     async fn describe(&self, _: &[Reference]) -> Vec<Result<Description, Error>> {
///         Vec::new()
///     }
/// }
/// ```
pub trait Store: Send + Sync {
    /// Reads the whole values (a JSON key is ignored) in as few calls as the service allows.
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    fn read(&self, references: &[Reference]) -> impl Future<Output = Vec<Result<Stored, Error>>> + Send;

    /// Checks that the references exist, without decrypting a value.
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    fn describe(
        &self,
        references: &[Reference],
    ) -> impl Future<Output = Vec<Result<Description, Error>>> + Send;

    /// Reads the values of the references. All keys of one secret cost one read.
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    fn fetch(&self, references: &[Reference]) -> impl Future<Output = Vec<Result<Fetched, Error>>> + Send {
        async move {
            let (whole_refs, at) = distinct(references);
            let stored = self.read(&whole_refs).await;
            let answers = references.iter().zip(at).map(|(reference, at)| match stored.get(at) {
                Some(Ok(stored)) => json::pick(reference, stored),
                Some(Err(error)) => Err(error.for_reference(reference)),
                None => Err(Error::new(reference, ErrorKind::Unreadable)),
            });
            answers.collect()
        }
    }

    /// Reads the value of one reference.
    ///
    /// # Errors
    /// When it does not exist or cannot be read.
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    fn fetch_one(&self, reference: &Reference) -> impl Future<Output = Result<Fetched, Error>> + Send {
        async move {
            let mut answers = self.fetch(std::slice::from_ref(reference)).await;
            answers.pop().unwrap_or_else(|| Err(Error::new(reference, ErrorKind::Unreadable)))
        }
    }
}

/// The distinct whole references, and for each reference the index of its whole reference.
pub(crate) fn distinct(references: &[Reference]) -> (Vec<Reference>, Vec<usize>) {
    let (mut whole_refs, mut seen) = (Vec::new(), HashMap::new());
    let at = references.iter().map(|reference| {
        let whole = reference.whole();
        *seen.entry(whole).or_insert_with_key(|whole| {
            whole_refs.push(whole.clone());
            whole_refs.len().saturating_sub(1)
        })
    });
    let at = at.collect();
    (whole_refs, at)
}

/// Runs the calls, at most `limit` concurrently, and returns their outputs in order.
#[cfg(any(feature = "secretsmanager", feature = "ssm"))]
async fn run_buffered<F: Future>(limit: usize, calls: impl Iterator<Item = F>) -> Vec<F::Output> {
    use futures_util::{StreamExt as _, stream};
    // Collected first: a closure in the stream would have to be generic over every lifetime.
    stream::iter(calls.collect::<Vec<_>>()).buffered(limit).collect().await
}
