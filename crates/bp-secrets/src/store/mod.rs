//! Stores: where whole values are read, many in one call.

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

/// What is known of a secret or parameter without reading its value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Description {
    /// Its ARN.
    pub arn: String,
    /// The id of the version that the reference means, or the parameter's version number. Empty when only the
    /// value's own call would tell.
    pub version: String,
    /// The customer's KMS key, where the service tells it.
    pub kms_key: Option<String>,
}

/// Reads whole values, and keys of them.
///
/// Answers come one for each reference and in their order; one that fails does not spoil the others.
///
/// ```
/// use bp_secrets::{Error, Reference, SecretValue, Store, store::Description, value::Stored};
///
/// /// A store for tests, in which every value is the same.
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

    /// Asks whether they are there, without reading a value that is encrypted.
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    fn describe(
        &self,
        references: &[Reference],
    ) -> impl Future<Output = Vec<Result<Description, Error>>> + Send;

    /// Reads what the references stand for. Many keys of one secret cost one read.
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    fn fetch(&self, references: &[Reference]) -> impl Future<Output = Vec<Result<Fetched, Error>>> + Send {
        async move {
            let (wholes, at) = distinct(references);
            let stored = self.read(&wholes).await;
            let answers = references.iter().zip(at).map(|(reference, at)| match &stored[at] {
                Ok(stored) => json::pick(reference, stored),
                Err(error) => Err(error.about(reference)),
            });
            answers.collect()
        }
    }

    /// Reads what one reference stands for.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
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

/// The whole places that the references are in, each once, and for each reference the number of its place.
pub(crate) fn distinct(references: &[Reference]) -> (Vec<Reference>, Vec<usize>) {
    let (mut wholes, mut seen) = (Vec::new(), HashMap::new());
    let at = references.iter().map(|reference| {
        let whole = reference.whole();
        *seen.entry(whole).or_insert_with_key(|whole| {
            wholes.push(whole.clone());
            wholes.len() - 1
        })
    });
    let at = at.collect();
    (wholes, at)
}

/// Runs the calls, at most `most` at the same time, and gives their answers in order.
#[cfg(any(feature = "secretsmanager", feature = "ssm"))]
async fn under_way<F: Future>(most: usize, calls: impl Iterator<Item = F>) -> Vec<F::Output> {
    use futures_util::{StreamExt as _, stream};
    // Collected first: a closure in the stream would have to be general over every lifetime.
    stream::iter(calls.collect::<Vec<_>>()).buffered(most).collect().await
}
