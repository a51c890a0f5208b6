//! In-toto statements: a predicate about an image.

use std::collections::BTreeMap;

use bp_artifact::Digest;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::AttestationError;

/// The type of version 1 of a statement.
const TYPE: &str = "https://in-toto.io/Statement/v1";
/// The most subjects of a statement that is read.
const SUBJECTS: usize = 256;

/// A statement: a predicate about one or more subjects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    /// What the predicate is about.
    pub subject: Vec<Subject>,
    /// The type of the predicate, a URI.
    pub predicate_type: String,
    predicate: Value,
}

/// A subject of a [`Statement`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Its name, if any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its digests in hexadecimal digits, by algorithm.
    pub digest: BTreeMap<String, String>,
}

impl Statement {
    /// A statement about one image.
    ///
    /// # Errors
    /// When the predicate cannot be serialized as JSON.
    pub fn about(
        image: &Digest,
        predicate_type: &str,
        predicate: &impl Serialize,
    ) -> Result<Self, AttestationError> {
        let predicate = serde_json::to_value(predicate)
            .map_err(|error| AttestationError::Unexpected { reason: error.to_string() })?;
        let digest = [(image.algorithm().name().to_owned(), image.hex().to_owned())].into();
        Ok(Statement {
            kind: TYPE.to_owned(),
            subject: vec![Subject { name: String::new(), digest }],
            predicate_type: predicate_type.to_owned(),
            predicate,
        })
    }

    /// Whether the image is a subject.
    pub fn is_about(&self, image: &Digest) -> bool {
        let is = |subject: &Subject| {
            subject.digest.get(image.algorithm().name()).is_some_and(|hex| hex == image.hex())
        };
        self.subject.iter().take(SUBJECTS).any(is)
    }

    /// The predicate.
    ///
    /// # Errors
    /// When it does not have this form.
    pub fn predicate<T: DeserializeOwned>(&self) -> Result<T, AttestationError> {
        T::deserialize(&self.predicate).map_err(|error| AttestationError::Unexpected {
            reason: format!("the predicate {} is malformed: {error}", self.predicate_type),
        })
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::json!(self).to_string()
    }

    pub(super) fn from_json(json: &[u8]) -> Result<Self, AttestationError> {
        let unexpected = |reason: String| AttestationError::Unexpected { reason };
        let statement: Statement =
            serde_json::from_slice(json).map_err(|error| unexpected(error.to_string()))?;
        if statement.kind != TYPE {
            return Err(unexpected(format!("its type is {:?}, expected {TYPE}", statement.kind)));
        }
        Ok(statement)
    }
}
