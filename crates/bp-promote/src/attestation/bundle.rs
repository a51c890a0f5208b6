//! Sigstore bundles of version 0.3: an envelope with a hint to its key, as cosign stores attestations.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Envelope, KeyId};

/// A Sigstore bundle with a DSSE envelope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bundle {
    media_type: String,
    verification_material: Value,
    /// The envelope.
    pub dsse_envelope: Envelope,
}

impl Bundle {
    /// The media type, in a registry and in the bundle.
    pub const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
    /// The largest bundle that is read, in bytes.
    pub const LARGEST: u64 = 1024 * 1024;

    /// A bundle with an envelope that a key has signed.
    pub fn new(envelope: Envelope, key: &KeyId) -> Self {
        Bundle {
            media_type: Self::MEDIA_TYPE.to_owned(),
            verification_material: serde_json::json!({ "publicKey": { "hint": key }, "tlogEntries": [] }),
            dsse_envelope: envelope,
        }
    }
}
