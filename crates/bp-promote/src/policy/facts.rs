//! What is known about an image when it asks to enter an environment.

use std::collections::{BTreeMap, BTreeSet};

use bp_artifact::{
    Digest,
    config::{Environment, PolicyName, Severity},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::attestation::KeyId;

/// A fact, or why it is not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Fact<T> {
    /// It is known.
    Known(T),
    /// It is not known.
    Unknown(Unknown),
}

impl<T> Fact<T> {
    /// A fact that is not known for this reason.
    pub fn unknown(reason: impl Into<String>) -> Self {
        Fact::Unknown(Unknown { reason: reason.into(), remedy: None })
    }

    /// The fact, if it is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Fact::Known(fact) => Some(fact),
            Fact::Unknown(_) => None,
        }
    }

    /// The fact, or why it is not known.
    pub(super) fn get(&self) -> Result<&T, &Unknown> {
        match self {
            Fact::Known(fact) => Ok(fact),
            Fact::Unknown(unknown) => Err(unknown),
        }
    }
}

/// Why a fact is not known, and what provides it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unknown {
    /// Why.
    pub reason: String,
    /// The command or setting that provides it, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Unknown {
    /// A fact that is not known for this reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Unknown { reason: reason.into(), remedy: None }
    }

    /// With the command or setting that provides it.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// The facts that a decision rests on. Every signature in them was verified by whoever collected them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// The image.
    pub image: Digest,
    /// The environment that it asks to enter.
    pub environment: Environment,
    /// Where it is copied from.
    pub from: Option<Environment>,
    /// When the request was made: the first one, if it is repeated.
    pub requested_at: Fact<Timestamp>,
    /// Who made it.
    pub requester: Fact<String>,
    /// The build.
    pub build: Fact<BuildFacts>,
    /// The records of the environment that the image comes from, in any order. `None` if it keeps no records.
    pub upstream: Fact<Option<Vec<Upstream>>>,
    /// The recall of the image, if it was recalled.
    pub recall: Fact<Option<Recall>>,
    /// The approvals for this environment whose signatures are valid for a configured approver.
    pub approvals: Fact<Vec<Approval>>,
    /// The scans of every image of an index, or of the image itself.
    pub scans: Fact<Vec<Scan>>,
    /// The required signatures that were read, by their names in the policy.
    pub signatures: BTreeMap<PolicyName, Fact<SignatureFact>>,
    /// The artifact types of the attached referrers.
    pub referrers: Fact<BTreeSet<String>>,
}

impl Facts {
    /// Facts of which nothing but the image is known.
    pub fn unknown(image: Digest, environment: Environment) -> Self {
        fn none<T>() -> Fact<T> {
            Fact::unknown("it was not collected")
        }
        Facts {
            image,
            environment,
            from: None,
            requested_at: none(),
            requester: none(),
            build: none(),
            upstream: none(),
            recall: none(),
            approvals: none(),
            scans: none(),
            signatures: BTreeMap::new(),
            referrers: none(),
        }
    }
}

/// What is known about the build of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BuildFacts {
    /// The full name of the branch, tag or pull request: `refs/heads/main`.
    pub reference: Option<String>,
    /// Whether the commit is from a fork.
    pub fork: Option<bool>,
    /// Who or what started the build.
    pub initiator: Option<String>,
}

/// A record that the image entered an environment, or was deployed there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Upstream {
    /// The environment.
    pub environment: Environment,
    /// The digest of the record.
    pub record: Digest,
    /// When the image entered.
    pub entered_at: Timestamp,
    /// When a deployment there was proven, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proven_at: Option<Timestamp>,
}

/// A recall of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recall {
    /// The digest of the record.
    pub record: Digest,
    /// Why it was recalled.
    pub because: String,
    /// When.
    pub at: Timestamp,
}

/// An approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// Whose key signed it.
    pub approver: PolicyName,
    /// The key.
    pub key: KeyId,
    /// The digest of the record.
    pub record: Digest,
    /// When it was given.
    pub at: Timestamp,
    /// When it expires, if before what the policy allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// The scan of one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scan {
    /// The image: one of an index.
    pub image: Digest,
    /// The platform, for messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// When the data was updated that the findings rest on.
    pub updated_at: Timestamp,
    /// The number of findings by severity.
    pub findings: BTreeMap<Severity, Finding>,
}

/// The findings of one severity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// How many.
    pub count: u32,
    /// For how many of them no fix is known. `None` if the scanner does not report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfixed: Option<u32>,
}

/// A valid signature of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SignatureFact {
    /// There is one; by whom.
    Signed(String),
    /// There is none.
    Unsigned,
}
