//! Receipts: the record of a deployment to several targets, from which it is resumed or rolled back.

use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};
use serde_json::Value;

use super::{GateName, GateReceipt, Outcome, Revision, RollbackCheck, TargetId, Verdict, origin::Origin};
use crate::{
    document::{self, DocumentError, Schema},
    image::ResolvedImage,
};

const KIND: &str = "bp.receipt";
const MAJOR: u32 = 1;

/// The record of a deployment to several targets: the content of the receipt file.
///
/// It is written before the first change, with the rollback revision of each target, and again at every step, always
/// atomically. A killed run is resumed from it, and a joint rollback needs nothing else.
///
/// A receipt of a later minor version is accepted: its unknown fields and values are preserved when the receipt is
/// rewritten, unless they were replaced in the meantime.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Receipt"))]
// `remote = "Self"`: the derived code handles the known fields; the impls below add the unknown ones.
#[serde(rename_all = "camelCase", remote = "Self")]
pub struct Receipt {
    schema: Schema,
    /// The deployed image; if there are several, the first.
    pub image: ResolvedImage,
    /// The state.
    pub state: ReceiptState,
    /// The joint verdict of all targets. `None` while in progress, and when it ended before anything was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// When it started.
    pub started_at: Timestamp,
    /// When this receipt was last written.
    pub updated_at: Timestamp,
    /// The targets.
    pub targets: Vec<TargetReceipt>,
    /// The gates that were reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<GateReceipt>,
    /// Unknown fields and values, from a later version.
    #[serde(skip)]
    origin: Origin,
}

impl Serialize for Receipt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.origin.is_empty() {
            return Self::serialize(self, serializer);
        }
        let known = Self::serialize(self, serde_json::value::Serializer).map_err(S::Error::custom)?;
        self.origin.restore(known).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Receipt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = Value::deserialize(deserializer)?;
        Ok(Self::deserialize(&read).map_err(D::Error::custom)?.with_document(read))
    }
}

/// The state of the deployment in a [`Receipt`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ReceiptState {
    /// The previous revision of every target is recorded; targets may be changing.
    Started,
    /// The targets are being rolled back.
    RollingBack,
    /// The deployment ended.
    Finished,
    /// A state from a later version, treated as unfinished.
    #[serde(other)]
    Other,
}

impl std::fmt::Display for ReceiptState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ReceiptState::Started => "started",
            ReceiptState::RollingBack => "rolling back",
            ReceiptState::Finished => "finished",
            ReceiptState::Other => "in a state that is unknown to this version",
        })
    }
}

/// One target in a [`Receipt`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct TargetReceipt {
    /// The target.
    pub target: TargetId,
    /// The image deployed to this target, if it differs from the receipt's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ResolvedImage>,
    /// The revision before the first change: the rollback revision.
    pub previous: Revision,
    /// Whether that revision could still run before the first change, if that was checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<RollbackCheck>,
    /// The outcome of the deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// The outcome of the rollback, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<Outcome>,
    /// The error, if the deployment or the rollback has no outcome because of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Receipt {
    pub(crate) fn started(image: ResolvedImage, targets: Vec<TargetReceipt>, now: Timestamp) -> Self {
        Receipt {
            schema: Schema::new(KIND, MAJOR),
            image,
            state: ReceiptState::Started,
            verdict: None,
            started_at: now,
            updated_at: now,
            targets,
            gates: Vec::new(),
            origin: Origin::default(),
        }
    }

    /// This receipt with the document that it was read from.
    fn with_document(mut self, read: Value) -> Self {
        let parsed = Self::serialize(&self, serde_json::value::Serializer);
        self.origin = parsed.map(|parsed| Origin::new(read, parsed)).unwrap_or_default();
        self
    }

    /// Continues the receipt of an earlier run: its unknown fields are preserved, except for those about how that run
    /// ended.
    pub(crate) fn continuing(mut self, earlier: &Receipt) -> Self {
        self.schema = earlier.schema.clone();
        self.origin = earlier.origin.clone();
        self.origin.forget(&["state", "verdict"], &["rollback", "outcome", "restored", "error"]);
        self
    }

    /// Reads a receipt.
    ///
    /// # Errors
    /// When the file cannot be read or is not a receipt; the message states file, line and column.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, DocumentError> {
        let path = path.as_ref();
        Self::parse(&document::read(path)?, &path.display().to_string())
    }

    /// Parses a receipt from `text`; `file` is the file name in messages.
    ///
    /// # Errors
    /// When the text is not a receipt.
    pub fn parse(text: &str, file: &str) -> Result<Self, DocumentError> {
        #[derive(Deserialize)]
        #[serde(transparent)]
        struct Known(#[serde(with = "Receipt")] Receipt);

        // From the text, not from a `Value`, so that errors state the location.
        let Known(receipt) = document::from_versioned_json(text, file, KIND, MAJOR)?;
        Ok(receipt.with_document(document::from_json(text, file)?))
    }

    /// Writes the receipt atomically.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), DocumentError> {
        document::write(path.as_ref(), document::to_json(self).as_bytes())
    }

    /// Whether anything was changed at any target.
    pub fn is_changed(&self) -> bool {
        self.targets.iter().any(TargetReceipt::is_changed)
    }

    /// The entry of `target`.
    pub fn target(&self, target: &TargetId) -> Option<&TargetReceipt> {
        self.targets.iter().find(|entry| entry.target == *target)
    }

    /// The image that is deployed to `target`, if the receipt contains the target.
    pub fn image_of(&self, target: &TargetId) -> Option<&ResolvedImage> {
        Some(self.target(target)?.image.as_ref().unwrap_or(&self.image))
    }

    /// The entry of a gate, if it was reached.
    pub fn gate(&self, gate: &GateName) -> Option<&GateReceipt> {
        self.gates.iter().find(|entry| entry.gate == *gate)
    }

    /// Records the state of a gate.
    pub(crate) fn note_gate(&mut self, gate: GateReceipt) {
        match self.gates.iter_mut().find(|entry| entry.gate == gate.gate) {
            Some(entry) => *entry = gate,
            None => self.gates.push(gate),
        }
    }

    /// The verdict of a requested rollback: [`Verdict::Deployed`] when every target runs its previous revision.
    ///
    /// [`verdict`](Self::verdict) is then [`Verdict::RolledBack`], a failure of the image but a success of the
    /// rollback.
    pub fn rollback_verdict(&self) -> Verdict {
        match self.verdict {
            Some(Verdict::RolledBack) => Verdict::Deployed,
            Some(verdict) => verdict,
            None => Verdict::Unproven,
        }
    }
}

impl TargetReceipt {
    pub(crate) fn noted(target: TargetId, previous: Revision) -> Self {
        TargetReceipt {
            target,
            image: None,
            previous,
            rollback: None,
            outcome: None,
            restored: None,
            error: None,
        }
    }

    /// The verdict of the deployment, if it has an outcome.
    pub fn verdict(&self) -> Option<Verdict> {
        self.outcome.as_ref().map(|outcome| outcome.verdict)
    }

    /// Whether the previous revision runs again. For a revision without a digest, the platform's report is sufficient.
    pub fn is_restored(&self) -> bool {
        matches!(self.restored_verdict(), Some(Verdict::Deployed | Verdict::Unproven))
    }

    /// The verdict of the rollback, if there was one.
    pub(crate) fn restored_verdict(&self) -> Option<Verdict> {
        self.restored.as_ref().map(|outcome| outcome.verdict)
    }

    /// Whether anything was changed at this target.
    pub fn is_changed(&self) -> bool {
        [&self.outcome, &self.restored].into_iter().flatten().any(|outcome| outcome.changed)
    }
}
