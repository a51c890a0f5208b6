//! What an image needs to enter an environment: `[environment.policy]`.
//!
//! The rules are data: nothing here reads a registry or a clock. Environment variables and flags cannot set them, so that
//! the person who runs a pipeline cannot relax what the file in the repository demands.

mod freeze;
mod name;
mod read;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

pub(super) use read::read;
use serde::{Deserialize, Serialize};

pub use self::{
    freeze::{Freeze, FreezeWindow},
    name::PolicyName,
};
use super::name::Environment;
use crate::{digest::Digest, select::Glob};

/// What an image needs to enter an environment, and to be deployed there.
///
/// ```
/// use bp_artifact::Config;
///
/// let config = Config::parse(r#"
/// version = 1
/// [project]
/// name = "shop"
/// repository = "shop/web"
/// [[environment]]
/// name = "staging"
/// region = "eu-central-1"
/// registry = "registry.example.com"
/// [[environment]]
/// name = "prod"
/// region = "eu-central-1"
/// registry = "registry.example.org"
/// [environment.policy]
/// soak = "24h"
/// branches = "main, release/*"
/// "#, "bp.toml")?;
///
/// let policy = config.environment("prod")?.policy();
/// assert_eq!(policy.from, ["staging".parse()?]);
/// assert!(policy.branches[1].matches("release/2.0"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Records contain it as JSON, so that a decision can be evaluated again; members that this version does not know are
/// refused there, because a rule that is ignored is a gate that is open.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct PolicyConfig {
    /// The environments from which images enter, any of them. Defaults to the one before; empty for the first.
    pub from: Vec<Environment>,
    /// How long the image must have been in an environment of [`from`](Self::from).
    pub soak: Option<Duration>,
    /// Whether a deployment must have been proven there.
    pub proven: bool,
    /// The approvals.
    pub approvals: Option<ApprovalRule>,
    /// The branches, one of which the image must have been built from. Empty: any branch or tag.
    pub branches: Vec<Glob>,
    /// Whether images built from a fork may enter. Defaults to whether any branch may.
    pub forks: bool,
    /// How long after the request the image enters at the earliest.
    pub wait: Option<Duration>,
    /// The times at which no image enters.
    pub freezes: Vec<Freeze>,
    /// The vulnerabilities that are accepted.
    pub scan: Option<ScanBudget>,
    /// The signatures that are required, all of them.
    pub signatures: Vec<SignatureRule>,
    /// The artifact types of the referrers that are required, all of them.
    pub referrers: Vec<String>,
    /// The records of the environment.
    pub records: Option<RecordRule>,
}

impl PolicyConfig {
    /// The digest of the rules, which distinguishes this policy from any other in records.
    pub fn digest(&self) -> Digest {
        Digest::sha256(serde_json::json!(self).to_string())
    }

    /// Whether there is any rule beyond the order of the environments.
    pub fn is_default(&self) -> bool {
        let rules = PolicyConfig { from: Vec::new(), ..self.clone() };
        rules == PolicyConfig { forks: true, ..PolicyConfig::default() }
    }
}

/// Which records an environment keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RecordRule {
    /// The files with the public keys whose signatures are valid, at least one.
    pub keys: Vec<PathBuf>,
    /// Whether deployments refuse an image without a valid record.
    pub required: bool,
}

/// How many people have to approve, and who may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ApprovalRule {
    /// How many distinct approvers.
    pub count: u32,
    /// How long an approval is valid.
    pub expiry: Duration,
    /// The approvers, at least [`count`](Self::count).
    pub approvers: BTreeMap<PolicyName, Approver>,
}

/// A person or system that may approve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Approver {
    /// The file with the public key that verifies the approvals.
    pub key: PathBuf,
    /// The approver's names in build systems, by which builder and requester of an image are recognised: they cannot
    /// approve it.
    pub aliases: Vec<String>,
}

/// A severity of vulnerabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Critical.
    Critical,
    /// High.
    High,
    /// Medium.
    Medium,
    /// Low.
    Low,
}

impl Severity {
    /// All severities, the worst first.
    pub const ALL: [Severity; 4] = [Severity::Critical, Severity::High, Severity::Medium, Severity::Low];

    /// The name in `bp.toml`.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Critical => "critical",
            Severity::High => "high",
            Severity::Medium => "medium",
            Severity::Low => "low",
        }
    }
}

/// How many vulnerabilities are accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ScanBudget {
    /// The highest accepted number by severity; any number of the others.
    pub limits: BTreeMap<Severity, u32>,
    /// Whether vulnerabilities without a fix count.
    pub unfixed: bool,
    /// How old a scan may be, by the last update of the vulnerability database that it used.
    pub max_age: Duration,
}

/// A required signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SignatureRule {
    /// Its name in the file.
    pub name: PolicyName,
    /// Whose signature.
    pub by: Signatory,
}

/// Who signed an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Signatory {
    /// The owner of a key, with cosign.
    Key {
        /// The file with the public key.
        file: PathBuf,
    },
    /// An identity, with a certificate of Sigstore.
    Identity {
        /// The identity, with `*` for any characters.
        identity: Glob,
        /// The issuer, exactly.
        issuer: String,
        /// The file with the trusted root.
        trusted_root: PathBuf,
    },
    /// Amazon ECR, by a signing profile.
    SigningProfile {
        /// The profile's ARN.
        arn: String,
    },
}
