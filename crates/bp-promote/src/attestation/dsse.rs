//! DSSE envelopes: a payload of a stated type, and signatures over both.

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE},
};
use serde::{Deserialize, Serialize};

use super::{AttestationError, KeyError, KeyId, Keyring, PublicKey, Signer, Statement};

/// A payload with its type, and signatures over both.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use bp_artifact::Digest;
/// use bp_promote::attestation::{Envelope, Keyring, LocalSigner, Statement};
///
/// let signer = LocalSigner::generate()?;
/// let statement = Statement::about(&Digest::sha256("an image"), "urn:example:tested", &"all green")?;
/// let envelope = Envelope::sign(&statement, &signer).await?;
///
/// let known: Keyring = [signer.public_key().clone()].into_iter().collect();
/// let (read, key) = envelope.verify(&known)?;
/// assert_eq!((&read, key.id()), (&statement, signer.public_key().id()));
/// assert!(envelope.verify(&Keyring::default()).is_err());
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    payload_type: String,
    payload: String,
    signatures: Vec<Signature>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Signature {
    /// A hint, which is not signed: never used to choose the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keyid: Option<KeyId>,
    sig: String,
}

/// The most signatures of an envelope that are verified.
const SIGNATURES: usize = 16;

impl Envelope {
    /// The type of an in-toto statement.
    pub const STATEMENT: &str = "application/vnd.in-toto+json";

    /// Signs a statement.
    ///
    /// # Errors
    /// When the signer fails.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is stored.
    pub async fn sign(statement: &Statement, signer: &dyn Signer) -> Result<Self, KeyError> {
        let payload = statement.to_json();
        let signature = signer.sign(&signed_bytes(Self::STATEMENT, payload.as_bytes())).await?;
        let signature = Signature {
            keyid: Some(signer.public_key().id().clone()),
            sig: BASE64_STANDARD.encode(signature),
        };
        Ok(Envelope {
            payload_type: Self::STATEMENT.to_owned(),
            payload: BASE64_STANDARD.encode(payload),
            signatures: vec![signature],
        })
    }

    /// The statement, and the key that signed it.
    ///
    /// # Errors
    /// When no signature is valid for a key of `known`, or the payload is not a statement.
    pub fn verify<'a>(&self, known: &'a Keyring) -> Result<(Statement, &'a PublicKey), AttestationError> {
        let unexpected = |reason: &str| AttestationError::Unexpected { reason: reason.to_owned() };
        let payload = decode(&self.payload).ok_or_else(|| unexpected("its payload is not base64"))?;
        let signed = signed_bytes(&self.payload_type, &payload);
        let signatures =
            self.signatures.iter().take(SIGNATURES).filter_map(|signature| decode(&signature.sig));
        let key = signatures.into_iter().find_map(|signature| known.signer_of(&signed, &signature));
        let key = key.ok_or_else(|| AttestationError::Unverified { known: known.ids() })?;
        if self.payload_type != Self::STATEMENT {
            return Err(unexpected("its payload is not an in-toto statement"));
        }
        Ok((Statement::from_json(&payload)?, key))
    }
}

/// The bytes that are signed: type and payload with their lengths.
fn signed_bytes(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// Decodes base64 in either alphabet, as the specification asks of readers.
fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(text).or_else(|_| BASE64_URL_SAFE.decode(text)).ok()
}

#[cfg(test)]
mod tests {
    use bp_artifact::Digest;

    use super::*;
    use crate::attestation::LocalSigner;

    #[test]
    fn signed_bytes_are_those_of_the_specification() {
        let bytes = signed_bytes("http://example.com/HelloWorld", b"hello world");
        assert_eq!(bytes, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[tokio::test]
    async fn any_changed_byte_is_detected() {
        let signer = LocalSigner::generate().unwrap();
        let known: Keyring = [signer.public_key().clone()].into_iter().collect();
        let statement = Statement::about(&Digest::sha256("image"), "urn:example:tested", &"green").unwrap();
        let envelope = Envelope::sign(&statement, &signer).await.unwrap();
        assert_eq!(envelope.verify(&known).unwrap().0, statement);

        let text = serde_json::to_string(&envelope).unwrap();
        let from = text.find("payloadType").unwrap();
        let payload = BASE64_STANDARD.decode(&envelope.payload).unwrap();
        for index in 0..payload.len() {
            let mut changed = payload.clone();
            changed[index] ^= 1;
            let changed = Envelope { payload: BASE64_STANDARD.encode(changed), ..envelope.clone() };
            assert!(changed.verify(&known).is_err(), "byte {index} of the payload");
        }
        // Whatever is changed outside, the statement is the same or refused.
        for index in from..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[index] = if changed[index] == b'x' { b'y' } else { b'x' };
            let Ok(changed) = serde_json::from_slice::<Envelope>(&changed) else { continue };
            if let Ok((read, _)) = changed.verify(&known) {
                assert_eq!(read, statement, "byte {index}");
            }
        }
    }
}
