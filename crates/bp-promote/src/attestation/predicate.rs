//! The predicates of promotions: approved, entered, deployed, recalled; and SLSA's verification summary.
//!
//! Their types are URIs, and their members are described in `docs/predicates.md`. A member that a reader does not know is
//! ignored; a change of meaning gets another type.

use bp_artifact::{Digest, Repository, config::Environment};
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{AttestationError, Statement};
use crate::policy::Decision;

/// A predicate with its type.
pub trait Predicate: Serialize + DeserializeOwned {
    /// The type, a URI.
    const TYPE: &str;

    /// A statement of it about an image.
    ///
    /// # Errors
    /// When it cannot be serialized as JSON.
    fn about(&self, image: &Digest) -> Result<Statement, AttestationError> {
        Statement::about(image, Self::TYPE, self)
    }

    /// Reads it from a statement.
    ///
    /// # Errors
    /// When the statement has another type or form.
    fn of(statement: &Statement) -> Result<Self, AttestationError> {
        if statement.predicate_type != Self::TYPE {
            let reason = format!("the predicate is {}, expected {}", statement.predicate_type, Self::TYPE);
            return Err(AttestationError::Unexpected { reason });
        }
        statement.predicate()
    }
}

/// Somebody approves that the image enters an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Approved {
    /// The environment.
    pub environment: Environment,
    /// The [digest of the policy](bp_artifact::config::PolicyConfig::digest) that the approver saw. An approval does not
    /// count for another one.
    pub policy: Digest,
    /// When.
    pub at: Timestamp,
    /// When it expires, if before what the policy allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// A comment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

impl Predicate for Approved {
    const TYPE: &str = "urn:bp:predicate:approved:v1";
}

/// The image entered an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entered {
    /// The environment.
    pub environment: Environment,
    /// The repository there.
    pub repository: Repository,
    /// The tag there, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// What the tag pointed to before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// When.
    pub at: Timestamp,
    /// Who requested it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester: Option<String>,
    /// The run that promoted it: a URL or an ARN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// The record of the environment that it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<UpstreamRecord>,
    /// The decision with its facts.
    pub decision: Decision,
    /// Why it entered although gates were closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub break_glass: Option<BreakGlass>,
}

impl Predicate for Entered {
    const TYPE: &str = "urn:bp:predicate:entered:v1";
}

/// The record of another environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamRecord {
    /// The environment.
    pub environment: Environment,
    /// The digest of the record's manifest.
    pub record: Digest,
}

/// Why an image entered an environment although gates were closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BreakGlass {
    /// The reason, as stated.
    pub reason: String,
    /// Who, as stated by the build system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// The image runs in an environment: every task or pod was seen with its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deployed {
    /// The environment.
    pub environment: Environment,
    /// The target: `ecs/shop/web`.
    pub target: String,
    /// The revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// When it was seen.
    pub at: Timestamp,
    /// The run that deployed it: a URL or an ARN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
}

impl Predicate for Deployed {
    const TYPE: &str = "urn:bp:predicate:deployed:v1";
}

/// The image must not be promoted or deployed any more, anywhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recalled {
    /// Why.
    pub because: String,
    /// When.
    pub at: Timestamp,
    /// Who, as stated by the build system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl Predicate for Recalled {
    const TYPE: &str = "urn:bp:predicate:recalled:v1";
}

/// The type of SLSA's verification summary.
pub const VERIFICATION_SUMMARY: &str = "https://slsa.dev/verification_summary/v1";

/// SLSA's verification summary of a decision, for tools that know nothing of ours: the image at `resource` passed the
/// policy, or failed.
///
/// # Errors
/// When it cannot be serialized as JSON.
pub fn verification_summary(decision: &Decision, resource: &str) -> Result<Statement, AttestationError> {
    let records = decision.facts.upstream.known().and_then(Option::as_ref);
    let approvals = decision.facts.approvals.known();
    let inputs = records.into_iter().flatten().map(|record| &record.record);
    let inputs = inputs.chain(approvals.into_iter().flatten().map(|approval| &approval.record));
    let digest = |digest: &Digest| json!({ digest.algorithm().name(): digest.hex() });
    let inputs: Vec<Value> = inputs.map(|input| json!({ "digest": digest(input) })).collect();
    let summary = json!({
        "verifier": { "id": "urn:bp:verifier:promote" },
        "timeVerified": decision.at,
        "resourceUri": resource,
        "policy": { "uri": format!("urn:bp:policy:{}", decision.facts.environment), "digest": digest(&decision.policy.digest()) },
        "inputAttestations": inputs,
        "verificationResult": if decision.is_allowed() { "PASSED" } else { "FAILED" },
        "verifiedLevels": [],
    });
    Statement::about(&decision.facts.image, VERIFICATION_SUMMARY, &summary)
}
