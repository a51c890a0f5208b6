//! A secret: its versions, their staging labels, and their description in the API.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicU64, Ordering},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::error::{invalid_parameter, invalid_request, not_found};
use crate::aws::wire::ApiError;

pub(super) const CURRENT: &str = "AWSCURRENT";
const PREVIOUS: &str = "AWSPREVIOUS";

/// The number of secrets created so far.
static CREATED: AtomicU64 = AtomicU64::new(0);

/// Account and region.
pub(super) type AccountRegion = (String, String);

#[derive(Debug, Clone)]
pub(super) struct Secret {
    /// The secrets that were created before it have smaller numbers.
    pub(super) number: u64,
    pub(super) arn: String,
    pub(super) name: String,
    pub(super) description: Option<String>,
    /// Keys and values.
    pub(super) tags: Vec<(String, String)>,
    pub(super) kms_key: Option<String>,
    /// The region of the original of a replica.
    pub(super) primary_region: Option<String>,
    pub(super) created: Timestamp,
    pub(super) changed: Timestamp,
    pub(super) deleted: Option<Timestamp>,
    pub(super) versions: Vec<Version>,
    /// Regions of the replicas.
    pub(super) replicas: BTreeSet<String>,
    /// Accounts that the resource policy allows to read it.
    pub(super) shared_with: BTreeSet<String>,
    /// IAM actions that are denied.
    pub(super) denied: BTreeSet<String>,
}

#[derive(Clone)]
pub(super) struct Version {
    pub(super) id: String,
    pub(super) content: Content,
    pub(super) stages: BTreeSet<String>,
    pub(super) created: Timestamp,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Content {
    Text(String),
    Binary(Vec<u8>),
}

impl std::fmt::Debug for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Version").field("id", &self.id).field("stages", &self.stages).finish_non_exhaustive()
    }
}

impl Content {
    pub(super) fn of(input: &Value) -> Result<Option<Self>, ApiError> {
        match (input["SecretString"].as_str(), input["SecretBinary"].as_str()) {
            (Some(text), None) => Ok(Some(Content::Text(text.to_owned()))),
            (None, Some(text)) => match BASE64_STANDARD.decode(text) {
                Ok(bytes) => Ok(Some(Content::Binary(bytes))),
                Err(_) => Err(ApiError::new(400, "SerializationException", "SecretBinary is not base64")),
            },
            (None, None) => Ok(None),
            _ => Err(invalid_parameter("You can't specify both SecretString and SecretBinary.")),
        }
    }

    /// Its member in a response.
    pub(super) fn member(&self) -> (&'static str, Value) {
        match self {
            Content::Text(text) => ("SecretString", json!(text)),
            Content::Binary(bytes) => ("SecretBinary", json!(BASE64_STANDARD.encode(bytes))),
        }
    }
}

impl Secret {
    pub(super) fn new(account_region: &AccountRegion, name: &str, now: Timestamp) -> Self {
        let suffix: String = std::iter::repeat_with(fastrand::alphanumeric).take(6).collect();
        let (account, region) = account_region;
        Secret {
            number: CREATED.fetch_add(1, Ordering::Relaxed),
            arn: format!("arn:aws:secretsmanager:{region}:{account}:secret:{name}-{suffix}"),
            name: name.to_owned(),
            description: None,
            tags: Vec::new(),
            kms_key: None,
            primary_region: None,
            created: now,
            changed: now,
            deleted: None,
            versions: Vec::new(),
            replicas: BTreeSet::new(),
            shared_with: BTreeSet::new(),
            denied: BTreeSet::new(),
        }
    }

    /// Adds a version. Does nothing when a version with this id and content exists, as for a repeated request.
    pub(super) fn put(
        &mut self,
        id: String,
        content: Content,
        stages: &[String],
        now: Timestamp,
    ) -> Result<(), ApiError> {
        if self.repeats(&id, Some(&content))? {
            return Ok(());
        }
        self.versions.push(Version { id: id.clone(), content, stages: BTreeSet::new(), created: now });
        self.changed = now;
        for stage in stages {
            self.move_stage(stage, &id);
        }
        Ok(())
    }

    /// Whether a version with this id and content exists; one with another content is an error.
    pub(super) fn repeats(&self, id: &str, content: Option<&Content>) -> Result<bool, ApiError> {
        match self.versions.iter().find(|v| v.id == id) {
            None => Ok(false),
            Some(version) if Some(&version.content) == content => Ok(true),
            Some(_) => Err(ApiError::new(
                400,
                "ResourceExistsException",
                format!(
                    "You can't use ClientRequestToken {id} because that value is already in use for a version of secret \
                     {}.",
                    self.arn
                ),
            )),
        }
    }

    /// Moves `stage` to a version; the version that loses `AWSCURRENT` becomes `AWSPREVIOUS`.
    pub(super) fn move_stage(&mut self, stage: &str, to: &str) {
        let previous = self.versions.iter_mut().find(|v| v.stages.contains(stage) && v.id != to);
        let previous = previous.map(|version| {
            version.stages.remove(stage);
            version.id.clone()
        });
        if let Some(version) = self.versions.iter_mut().find(|v| v.id == to) {
            version.stages.insert(stage.to_owned());
        }
        if let (CURRENT, Some(previous)) = (stage, previous) {
            self.unstage(PREVIOUS);
            self.move_stage(PREVIOUS, &previous);
        }
    }

    pub(super) fn unstage(&mut self, stage: &str) {
        for version in &mut self.versions {
            version.stages.remove(stage);
        }
    }

    pub(super) fn version(&self, id: Option<&str>, stage: Option<&str>) -> Result<&Version, ApiError> {
        let found = match (id, stage) {
            (Some(id), stage) => {
                let version = self.versions.iter().find(|v| v.id == id);
                if let (Some(version), Some(stage)) = (version, stage)
                    && !version.stages.contains(stage)
                {
                    return Err(invalid_request(
                        "You provided a VersionStage that is not associated to the provided VersionId.",
                    ));
                }
                version.ok_or_else(|| format!("VersionId: {id}"))
            }
            (None, stage) => {
                let stage = stage.unwrap_or(CURRENT);
                let version = self.versions.iter().find(|v| v.stages.contains(stage));
                version.ok_or_else(|| format!("staging label: {stage}"))
            }
        };
        found.map_err(|which| {
            not_found(format!("Secrets Manager can't find the specified secret value for {which}"))
        })
    }

    pub(super) fn value(&self, version: &Version) -> Value {
        let mut value = json!({
            "ARN": self.arn,
            "Name": self.name,
            "VersionId": version.id,
            "VersionStages": version.stages,
            "CreatedDate": seconds(version.created),
        });
        let (member, content) = version.content.member();
        value[member] = content;
        value
    }

    pub(super) fn stages(&self) -> BTreeMap<&str, &BTreeSet<String>> {
        self.versions.iter().filter(|v| !v.stages.is_empty()).map(|v| (v.id.as_str(), &v.stages)).collect()
    }

    pub(super) fn describe(&self) -> Value {
        let mut value = json!({
            "ARN": self.arn,
            "Name": self.name,
            "CreatedDate": seconds(self.created),
            "LastChangedDate": seconds(self.changed),
        });
        if !self.versions.is_empty() {
            value["VersionIdsToStages"] = json!(self.stages());
        }
        if !self.tags.is_empty() {
            let tag = |(key, value): &(String, String)| json!({ "Key": key, "Value": value });
            value["Tags"] = self.tags.iter().map(tag).collect();
        }
        if let Some(key) = &self.kms_key {
            value["KmsKeyId"] = json!(key);
        }
        if let Some(region) = &self.primary_region {
            value["PrimaryRegion"] = json!(region);
        }
        if let Some(description) = &self.description {
            value["Description"] = json!(description);
        }
        if let Some(deleted) = self.deleted {
            value["DeletedDate"] = json!(seconds(deleted));
        }
        value
    }
}

pub(super) fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}
