//! Record what a real service responds, without what identifies or authenticates anyone, so that an incident becomes a
//! test.
//!
//! A [`Recording`] is one JSON file: the responses of the API, redacted by a [`Redactor`], with the parts that could
//! not be read. The same value always becomes the same placeholder, so relations survive. `bp-ecs` and `bp-eks` make
//! one of a service or a workload. How to record an incident is in `docs/recordings.md`.

mod redact;
mod words;

use std::{collections::BTreeMap, path::Path};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::redact::Redactor;
use crate::document::{self, DocumentError, Schema};

const KIND: &str = "bp.recording";
const MAJOR: u32 = 1;

/// What a service responded, redacted.
///
/// ```
/// use bp_artifact::recording::{Recorder, Recording};
/// use serde_json::json;
///
/// let mut recorder = Recorder::default();
/// recorder.note("service", json!({ "message": "account 123456789012 cannot pull from 10.1.2.3" }));
/// let recording = recorder.finish("ecs-service", jiff::Timestamp::UNIX_EPOCH);
/// assert_eq!(recording.data["service"]["message"], "account 000000000001 cannot pull from 192.0.2.1");
/// assert_eq!(recording.replaced["account"], 1);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Recording {
    schema: Schema,
    /// Where it is from, for whoever reads the test: an incident, a ticket. Empty until an engineer writes it.
    #[serde(default)]
    pub source: String,
    /// When it was recorded.
    #[serde(rename = "recorded_at")]
    pub recorded_at: Timestamp,
    /// What was recorded: `ecs-service`, `eks-workload`.
    pub kind: String,
    /// The cause that an engineer concludes from it, for ECS. Empty until an engineer writes it.
    #[serde(default)]
    pub want: Value,
    /// What is expected of it, for Kubernetes. Empty until an engineer writes it.
    #[serde(default)]
    pub expect: Map<String, Value>,
    /// How many different values of each kind were replaced.
    #[serde(default)]
    pub replaced: BTreeMap<String, usize>,
    /// The parts that could not be read.
    #[serde(default)]
    pub missing: Vec<MissingPart>,
    /// The responses, each under the name of its part.
    #[serde(flatten)]
    pub data: Map<String, Value>,
}

/// A part of a [`Recording`] that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MissingPart {
    /// Its name.
    pub part: String,
    /// Why: the permission that is missing.
    pub reason: String,
}

impl Recording {
    /// Reads a recording.
    ///
    /// # Errors
    /// When the file cannot be read or is not a recording; the message names file, line and column.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, DocumentError> {
        let path = path.as_ref();
        Recording::parse(&document::read(path)?, &path.display().to_string())
    }

    /// Reads a recording from `text`; `file` is its name in messages.
    ///
    /// # Errors
    /// When it is not a recording.
    pub fn parse(text: &str, file: &str) -> Result<Self, DocumentError> {
        #[derive(Deserialize)]
        struct Head {
            schema: Schema,
        }
        document::from_json::<Head>(text, file)?.schema.check(file, KIND, MAJOR)?;
        document::from_json(text, file)
    }

    /// Writes the recording, whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), DocumentError> {
        document::write_atomically(path.as_ref(), document::to_json(self).as_bytes())
    }
}

/// Collects the parts of a recording. They are redacted together at the end, so that what one of them shows to be a
/// secret is replaced in all.
#[derive(Debug, Default)]
pub struct Recorder {
    parts: Map<String, Value>,
    missing: Vec<(String, String)>,
}

impl Recorder {
    /// Notes a response.
    pub fn note(&mut self, part: &str, response: Value) {
        self.parts.insert(part.to_owned(), response);
    }

    /// Notes that a part could not be read, and why.
    pub fn missing(&mut self, part: &str, reason: impl Into<String>) {
        self.missing.push((part.to_owned(), reason.into()));
    }

    /// Whether nothing could be read.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The recording of a service of this `kind`.
    pub fn finish(self, kind: impl Into<String>, recorded_at: Timestamp) -> Recording {
        let mut redactor = Redactor::default();
        let parts = Value::Object(self.parts);
        redactor.learn(&parts);
        self.missing.iter().for_each(|(_, reason)| redactor.learn(&Value::String(reason.clone())));
        let data = match redactor.redact(parts) {
            Value::Object(data) => data,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                Map::new()
            }
        };
        let missing = self
            .missing
            .into_iter()
            .map(|(part, reason)| MissingPart { part, reason: redactor.text(&reason) })
            .collect();
        Recording {
            schema: Schema::new(KIND, MAJOR),
            source: String::new(),
            recorded_at,
            kind: kind.into(),
            want: Value::Null,
            expect: Map::new(),
            replaced: redactor.replaced(),
            missing,
            data,
        }
    }
}

#[cfg(test)]
mod tests;
