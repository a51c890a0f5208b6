//! The receipt: what a deployment to several targets found, did and left behind.

use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};
use serde_json::Value;

use super::{GateName, GateReceipt, Outcome, Revision, TargetId, Verdict, origin::Origin};
use crate::{
    document::{self, DocumentError, Schema},
    image::ResolvedImage,
};

const KIND: &str = "bp.receipt";
const MAJOR: u32 = 1;

/// What a deployment to several targets found, did and left behind: the content of the receipt file.
///
/// It is written before the first change, with the revision that each target can go back to, and again at every step,
/// always whole. A killed run is finished from it, and a joint rollback needs nothing else.
///
/// A receipt of a later minor version is read: what this version does not know in it, members as well as values, is
/// kept when the receipt is written again, unless it was replaced meanwhile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
// `Self`: the derived code is that of the known members; the impls below add what is not known.
#[serde(rename_all = "camelCase", remote = "Self")]
pub struct Receipt {
    schema: Schema,
    /// The image that is deployed; of several, the first.
    pub image: ResolvedImage,
    /// How far it is.
    pub state: ReceiptState,
    /// How all targets together ended. `None` while it goes on, and when it ended before anything was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// When it started.
    pub started_at: Timestamp,
    /// When this receipt was written last.
    pub updated_at: Timestamp,
    /// Each target.
    pub targets: Vec<TargetReceipt>,
    /// The gates that were reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<GateReceipt>,
    /// What a later version wrote.
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
        Ok(Self::deserialize(&read).map_err(D::Error::custom)?.read_as(read))
    }
}

/// How far the work of a [`Receipt`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReceiptState {
    /// Every target's previous revision is noted; targets may be changing.
    Started,
    /// The targets are being put back.
    RollingBack,
    /// It ended.
    Finished,
    /// A state of a later version. It is not known to have ended, so it is taken for unfinished.
    #[serde(other)]
    Other,
}

impl std::fmt::Display for ReceiptState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ReceiptState::Started => "started",
            ReceiptState::RollingBack => "rolling back",
            ReceiptState::Finished => "finished",
            ReceiptState::Other => "in a state that this version does not know",
        })
    }
}

/// One target in a [`Receipt`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetReceipt {
    /// Where.
    pub target: TargetId,
    /// The image that is deployed here, when that is not the receipt's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ResolvedImage>,
    /// What ran before the first change: the way back.
    pub previous: Revision,
    /// How the deployment ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// How going back ended, when it was needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<Outcome>,
    /// The error that kept the deployment or the rollback from an outcome of its own.
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

    /// The same receipt, which was read from this document.
    fn read_as(mut self, read: Value) -> Self {
        let understood = Self::serialize(&self, serde_json::value::Serializer);
        self.origin = understood.map(|understood| Origin::new(read, understood)).unwrap_or_default();
        self
    }

    /// Continues the document of an earlier run: what this version does not know in it is kept, but for how that run
    /// ended.
    pub(crate) fn continuing(mut self, earlier: &Receipt) -> Self {
        self.schema = earlier.schema.clone();
        self.origin = earlier.origin.clone();
        self.origin.forget(&["state", "verdict"], &["outcome", "restored", "error"]);
        self
    }

    /// Reads a receipt.
    ///
    /// # Errors
    /// When the file cannot be read or is no receipt; the message names file, line and column.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, DocumentError> {
        let path = path.as_ref();
        Self::parse(&document::read(path)?, &path.display().to_string())
    }

    /// Reads a receipt from `text`; `file` is its name in messages.
    ///
    /// # Errors
    /// When it is no receipt.
    pub fn parse(text: &str, file: &str) -> Result<Self, DocumentError> {
        #[derive(Deserialize)]
        struct Head {
            schema: Schema,
        }
        #[derive(Deserialize)]
        #[serde(transparent)]
        struct Known(#[serde(with = "Receipt")] Receipt);

        document::from_json::<Head>(text, file)?.schema.check(file, KIND, MAJOR)?;
        // From the text, not from its value: mistakes carry their place.
        let Known(receipt) = document::from_json(text, file)?;
        Ok(receipt.read_as(document::from_json(text, file)?))
    }

    /// Writes the receipt, whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), DocumentError> {
        document::write_atomically(path.as_ref(), document::to_json(self).as_bytes())
    }

    /// Whether anything was changed at any target.
    pub fn is_changed(&self) -> bool {
        self.targets.iter().any(TargetReceipt::is_changed)
    }

    /// The part about `target`.
    pub fn target(&self, target: &TargetId) -> Option<&TargetReceipt> {
        self.targets.iter().find(|entry| entry.target == *target)
    }

    /// The image that is deployed to `target`, if the receipt is of it.
    pub fn image_of(&self, target: &TargetId) -> Option<&ResolvedImage> {
        Some(self.target(target)?.image.as_ref().unwrap_or(&self.image))
    }

    /// The part about the gate of this name, if it was reached.
    pub fn gate(&self, gate: &GateName) -> Option<&GateReceipt> {
        self.gates.iter().find(|entry| entry.gate == *gate)
    }

    /// Notes how far a gate is.
    pub(crate) fn note_gate(&mut self, gate: GateReceipt) {
        match self.gates.iter_mut().find(|entry| entry.gate == gate.gate) {
            Some(entry) => *entry = gate,
            None => self.gates.push(gate),
        }
    }

    /// How a rollback that was asked for ended: [`Verdict::Deployed`] when every target runs its previous revision.
    ///
    /// [`verdict`](Self::verdict) is then [`Verdict::RolledBack`], which for the image is a failure and for the
    /// rollback success.
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
        TargetReceipt { target, image: None, previous, outcome: None, restored: None, error: None }
    }

    /// The verdict of the deployment, if it came to one.
    pub fn verdict(&self) -> Option<Verdict> {
        self.outcome.as_ref().map(|outcome| outcome.verdict)
    }

    /// Whether the previous revision is known to run again. An older revision that names no digest cannot be proven
    /// further than the platform's word.
    pub fn is_restored(&self) -> bool {
        matches!(self.restored_verdict(), Some(Verdict::Deployed | Verdict::Unproven))
    }

    /// The verdict of going back, if that was tried.
    pub(crate) fn restored_verdict(&self) -> Option<Verdict> {
        self.restored.as_ref().map(|outcome| outcome.verdict)
    }

    /// Whether anything was changed here.
    pub fn is_changed(&self) -> bool {
        [&self.outcome, &self.restored].into_iter().flatten().any(|outcome| outcome.changed)
    }
}
