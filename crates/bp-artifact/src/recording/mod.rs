//! Record the API responses about a real service, redacted, so that an incident can be reproduced in a test.
//!
//! A [`Recording`] is one JSON file: the responses of the API, redacted by a [`Redactor`], and the parts that could not
//! be read. The same value is always replaced by the same placeholder, so relations are preserved. `bp-ecs` and
//! `bp-eks` record a service, a workload, a Helm release or a namespace. `docs/recordings.md` explains how to record an incident.

mod patterns;
mod redact;

use std::{collections::BTreeMap, fmt, path::Path};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::redact::Redactor;
use crate::document::{self, DocumentError, Schema};

const KIND: &str = "bp.recording";
const MAJOR: u32 = 1;

/// Redacted API responses.
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
    /// The source, for readers of the test: an incident, a ticket. Empty until an engineer fills it in.
    #[serde(default)]
    pub source: String,
    /// When it was recorded.
    #[serde(rename = "recorded_at")]
    pub recorded_at: Timestamp,
    /// What was recorded: `ecs-service`, `eks-workload`, `eks-namespace`, `eks-release`.
    pub kind: String,
    /// The expected cause, for ECS. Empty until an engineer fills it in.
    #[serde(default)]
    pub want: Value,
    /// The expectations, for Kubernetes. Empty until an engineer fills them in.
    #[serde(default)]
    pub expect: Map<String, Value>,
    /// The number of different values of each kind that were replaced.
    #[serde(default)]
    pub replaced: BTreeMap<String, usize>,
    /// The parts that could not be read.
    #[serde(default)]
    pub missing: Vec<MissingPart>,
    /// The parts that exceeded a limit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub omitted: Vec<OmittedPart>,
    /// The responses, by the name of the part.
    #[serde(flatten)]
    pub data: Map<String, Value>,
}

/// A part of a [`Recording`] that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MissingPart {
    /// Its name.
    pub part: String,
    /// The reason, such as a missing permission.
    pub reason: String,
    /// The missing permission, if that is the reason, such as `list statefulsets.apps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permission: Option<String>,
}

/// A part of a [`Recording`] that is incomplete because it exceeded a limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OmittedPart {
    /// Its name.
    pub part: String,
    /// The number of objects that are recorded.
    pub recorded: usize,
    /// The number of objects that were read and omitted.
    pub omitted: usize,
    /// Whether there are more objects, which were not read.
    pub more: bool,
    /// The limit, and which objects were preferred.
    pub reason: String,
}

impl fmt::Display for OmittedPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OmittedPart { part, recorded, omitted, more, reason } = self;
        let more = if *more { " or more" } else { "" };
        write!(f, "{part}: {recorded} recorded, {omitted}{more} omitted: {reason}")
    }
}

impl Recording {
    /// Reads a recording.
    ///
    /// # Errors
    /// When the file cannot be read or is not a recording; the message states file, line and column.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, DocumentError> {
        let path = path.as_ref();
        Recording::parse(&document::read(path)?, &path.display().to_string())
    }

    /// Parses a recording from `text`; `file` is the file name in messages.
    ///
    /// # Errors
    /// When the text is not a recording.
    pub fn parse(text: &str, file: &str) -> Result<Self, DocumentError> {
        document::from_versioned_json(text, file, KIND, MAJOR)
    }

    /// Writes the recording atomically.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), DocumentError> {
        document::write(path.as_ref(), document::to_json(self).as_bytes())
    }
}

/// Collects the parts of a recording. They are redacted together at the end, so that a secret that is found in one part
/// is replaced in all.
#[derive(Debug, Default)]
pub struct Recorder {
    parts: Map<String, Value>,
    missing: Vec<MissingPart>,
    omitted: Vec<OmittedPart>,
}

impl Recorder {
    /// Adds a response.
    pub fn note(&mut self, part: &str, response: Value) {
        self.parts.insert(part.to_owned(), response);
    }

    /// Adds a part that could not be read, and the reason.
    pub fn missing(&mut self, part: &str, reason: impl Into<String>) {
        self.add_missing(MissingPart { part: part.to_owned(), reason: reason.into(), permission: None });
    }

    /// Adds a part that could not be read, with the missing permission.
    pub fn add_missing(&mut self, missing: MissingPart) {
        self.missing.push(missing);
    }

    /// Adds a part that is incomplete because it exceeded a limit.
    pub fn add_omitted(&mut self, omitted: OmittedPart) {
        self.omitted.push(omitted);
    }

    /// Whether nothing could be read.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Redacts the parts and returns the recording, of the given `kind`.
    pub fn finish(self, kind: impl Into<String>, recorded_at: Timestamp) -> Recording {
        let mut redactor = Redactor::default();
        let parts = Value::Object(self.parts);
        redactor.learn(&parts);
        self.missing.iter().for_each(|missing| redactor.learn(&Value::String(missing.reason.clone())));
        let data = match redactor.redact(parts) {
            Value::Object(data) => data,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                Map::new()
            }
        };
        let missing = self
            .missing
            .into_iter()
            .map(|missing| MissingPart { reason: redactor.text(&missing.reason), ..missing })
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
            omitted: self.omitted,
            data,
        }
    }
}

#[cfg(test)]
mod tests;
