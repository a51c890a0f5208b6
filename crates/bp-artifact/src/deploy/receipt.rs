//! The receipt: what a deployment to several targets found, did and left behind.

use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Outcome, Revision, TargetId, Verdict};
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    schema: Schema,
    /// The image that is deployed.
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
    /// What a later version wrote.
    #[serde(flatten)]
    rest: Map<String, Value>,
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
}

impl std::fmt::Display for ReceiptState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ReceiptState::Started => "started",
            ReceiptState::RollingBack => "rolling back",
            ReceiptState::Finished => "finished",
        })
    }
}

/// One target in a [`Receipt`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetReceipt {
    /// Where.
    pub target: TargetId,
    /// What ran before the first change: the way back.
    pub previous: Revision,
    /// How the deployment ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// How going back ended, when it was needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<Outcome>,
    /// The error that kept the last step from an outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What a later version wrote.
    #[serde(flatten)]
    rest: Map<String, Value>,
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
            rest: Map::new(),
        }
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
        document::from_json::<Head>(text, file)?.schema.check(file, KIND, MAJOR)?;
        document::from_json(text, file)
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
        TargetReceipt { target, previous, outcome: None, restored: None, error: None, rest: Map::new() }
    }

    /// The verdict of the deployment, if it came to one.
    pub fn verdict(&self) -> Option<Verdict> {
        self.outcome.as_ref().map(|outcome| outcome.verdict)
    }

    /// Whether the previous revision is known to run again. An older revision that names no digest cannot be proven
    /// further than the platform's word.
    pub fn is_restored(&self) -> bool {
        let verdict = self.restored.as_ref().map(|outcome| outcome.verdict);
        matches!(verdict, Some(Verdict::Deployed | Verdict::Unproven))
    }

    /// Whether anything was changed here.
    pub fn is_changed(&self) -> bool {
        [&self.outcome, &self.restored].into_iter().flatten().any(|outcome| outcome.changed)
    }
}
