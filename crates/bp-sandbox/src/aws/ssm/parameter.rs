//! A parameter: its versions, their labels, and its description in the API.

use std::collections::BTreeSet;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::Digest as _;

/// Account and region.
pub(super) type AccountRegion = (String, String);

/// The maximum number of versions of a parameter.
const VERSIONS: usize = 100;
/// The KMS key of a `SecureString` without a key of its own.
const DEFAULT_KEY: &str = "alias/aws/ssm";

#[derive(Debug, Clone)]
pub(super) struct Parameter {
    pub(super) arn: String,
    pub(super) name: String,
    pub(super) kind: String,
    /// The KMS key of a `SecureString`.
    pub(super) key: Option<String>,
    data_type: String,
    pub(super) versions: Vec<Version>,
    /// Accounts that it is shared with.
    pub(super) shared_with: BTreeSet<String>,
    /// IAM actions that are denied.
    pub(super) denied: BTreeSet<String>,
}

#[derive(Clone)]
pub(super) struct Version {
    pub(super) number: i64,
    pub(super) value: String,
    pub(super) labels: BTreeSet<String>,
    pub(super) at: Timestamp,
}

impl std::fmt::Debug for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Version").field("number", &self.number).finish_non_exhaustive()
    }
}

/// What a new version of a parameter changes. Missing members keep their value.
pub(super) struct Revision<'a> {
    pub(super) value: &'a str,
    pub(super) key: Option<&'a str>,
    pub(super) data_type: Option<&'a str>,
}

/// The oldest version cannot be removed, because it has a label.
#[derive(Debug)]
pub(super) struct Overflow(pub(super) i64);

impl Parameter {
    pub(super) fn new((account, region): &AccountRegion, name: &str, kind: &str) -> Self {
        let path = name.trim_start_matches('/');
        Parameter {
            arn: format!("arn:aws:ssm:{region}:{account}:parameter/{path}"),
            name: name.to_owned(),
            kind: kind.to_owned(),
            key: (kind == "SecureString").then(|| DEFAULT_KEY.to_owned()),
            data_type: "text".to_owned(),
            versions: Vec::new(),
            shared_with: BTreeSet::new(),
            denied: BTreeSet::new(),
        }
    }

    /// Adds a version; the oldest of too many is removed.
    pub(super) fn put(&mut self, revision: &Revision<'_>, at: Timestamp) -> Result<i64, Overflow> {
        if self.versions.len() >= VERSIONS {
            match self.versions.first() {
                Some(oldest) if !oldest.labels.is_empty() => return Err(Overflow(oldest.number)),
                _ => drop(self.versions.remove(0)),
            }
        }
        if let Some(key) = revision.key {
            self.key = Some(key.to_owned());
        }
        if let Some(data_type) = revision.data_type {
            self.data_type = data_type.to_owned();
        }
        let number = self.latest().map_or(1, |last| last.number + 1);
        self.versions.push(Version { number, value: revision.value.to_owned(), labels: BTreeSet::new(), at });
        Ok(number)
    }

    pub(super) fn latest(&self) -> Option<&Version> {
        self.versions.last()
    }

    /// The version of a selector (`3`, `production`); the latest without a selector.
    pub(super) fn version(&self, selector: Option<&str>) -> Option<&Version> {
        match selector.map(|s| (s, s.parse::<i64>())) {
            None => self.latest(),
            Some((_, Ok(number))) => self.versions.iter().find(|v| v.number == number),
            Some((label, Err(_))) => self.versions.iter().find(|v| v.labels.contains(label)),
        }
    }

    pub(super) fn label(&mut self, number: i64, label: &str) {
        for version in &mut self.versions {
            version.labels.remove(label);
        }
        if let Some(version) = self.versions.iter_mut().find(|v| v.number == number) {
            version.labels.insert(label.to_owned());
        }
    }

    pub(super) fn value(&self, version: &Version, selector: Option<&str>, decrypt: bool) -> Value {
        let value = if self.kind == "SecureString" && !decrypt {
            let sealed = sha2::Sha256::digest(version.value.as_bytes());
            format!("AQICAH{}", BASE64_STANDARD.encode(sealed))
        } else {
            version.value.clone()
        };
        let mut parameter = json!({
            "Name": self.name,
            "Type": self.kind,
            "Value": value,
            "Version": version.number,
            "LastModifiedDate": version.at.as_millisecond() as f64 / 1000.0,
            "ARN": self.arn,
            "DataType": self.data_type,
        });
        if let Some(selector) = selector {
            parameter["Selector"] = json!(format!(":{selector}"));
        }
        parameter
    }
}
