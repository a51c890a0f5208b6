//! Keys: P-256 with SHA-256, the algorithm of cosign's keys and of AWS KMS' `ECC_NIST_P256`.

use std::{collections::BTreeMap, fmt, path::Path};

use aws_lc_rs::{
    encoding::AsDer as _,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, ParsedPublicKey,
    },
};
use futures_util::future::BoxFuture;
use rustls_pki_types::{PrivatePkcs8KeyDer, PrivateSec1KeyDer, SubjectPublicKeyInfoDer, pem::PemObject as _};

use super::{KeyError, KeyId};

/// The largest file with a key.
const LARGEST: u64 = 64 * 1024;

/// A public key that verifies signatures. Cheap to clone.
///
/// ```
/// use bp_promote::attestation::LocalSigner;
///
/// let signer = LocalSigner::generate()?;
/// let again = bp_promote::attestation::PublicKey::from_pem(signer.public_key().to_pem().as_bytes(), "shop.pub")?;
/// assert_eq!(again.id(), signer.public_key().id());
/// # Ok::<(), bp_promote::attestation::KeyError>(())
/// ```
#[derive(Clone)]
pub struct PublicKey {
    id: KeyId,
    der: Vec<u8>,
    key: ParsedPublicKey,
}

impl PublicKey {
    /// Reads a public key in PEM (`BEGIN PUBLIC KEY`); `origin` is its name in messages.
    ///
    /// # Errors
    /// When the text is not a public key on the curve P-256.
    pub fn from_pem(pem: &[u8], origin: &str) -> Result<Self, KeyError> {
        let wrong = |reason| KeyError::Unsupported { origin: origin.to_owned(), reason };
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem)
            .map_err(|_| wrong("expected a public key in PEM, which begins with BEGIN PUBLIC KEY"))?;
        Self::from_der(&der).ok_or_else(|| wrong("expected a key on the curve P-256 (ECDSA)"))
    }

    /// Reads a public key (SubjectPublicKeyInfo in DER), as AWS KMS returns it. `None` if it is not on the curve P-256.
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, der).ok()?;
        let der = key.as_der().ok()?.as_ref().to_vec();
        Some(PublicKey { id: KeyId::of(&der), der, key })
    }

    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read, or is not a public key on the curve P-256.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        Self::from_pem(&read(path)?, &path.display().to_string())
    }

    /// The ID.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// The key in PEM.
    pub fn to_pem(&self) -> String {
        use base64::{Engine as _, prelude::BASE64_STANDARD};
        let text = BASE64_STANDARD.encode(&self.der);
        let lines: Vec<&str> =
            text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap_or_default()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    /// Whether `signature` (ASN.1 in DER) is a signature of `message` by this key.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify_sig(message, signature).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id)
    }
}

/// Public keys by ID.
#[derive(Debug, Clone, Default)]
pub struct Keyring(BTreeMap<KeyId, PublicKey>);

impl Keyring {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read, or is not a public key on the curve P-256.
    pub fn read<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Result<Self, KeyError> {
        paths.into_iter().map(PublicKey::read).collect()
    }

    /// The keys.
    pub fn keys(&self) -> impl Iterator<Item = &PublicKey> {
        self.0.values()
    }

    /// The IDs.
    pub fn ids(&self) -> Vec<KeyId> {
        self.0.keys().cloned().collect()
    }

    /// Whether a key is one of them.
    pub fn contains(&self, key: &KeyId) -> bool {
        self.0.contains_key(key)
    }

    /// The key that `signature` is a signature of `message` by.
    pub fn signer_of(&self, message: &[u8], signature: &[u8]) -> Option<&PublicKey> {
        self.keys().find(|key| key.verifies(message, signature))
    }
}

impl FromIterator<PublicKey> for Keyring {
    fn from_iter<I: IntoIterator<Item = PublicKey>>(keys: I) -> Self {
        Keyring(keys.into_iter().map(|key| (key.id.clone(), key)).collect())
    }
}

/// Signs messages with a private key, which may be outside of this process.
pub trait Signer: Send + Sync {
    /// The public key.
    fn public_key(&self) -> &PublicKey;

    /// Signs a message with ECDSA, P-256 and SHA-256; the signature is ASN.1 in DER.
    fn sign<'a>(&'a self, message: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, KeyError>>;
}

/// Signs with a private key in this process.
pub struct LocalSigner {
    public: PublicKey,
    pair: EcdsaKeyPair,
    origin: String,
}

impl LocalSigner {
    /// Reads a private key in PEM, PKCS #8 (`BEGIN PRIVATE KEY`) or SEC 1 (`BEGIN EC PRIVATE KEY`); `origin` is its name
    /// in messages.
    ///
    /// # Errors
    /// When the text is not a private key on the curve P-256 without password.
    pub fn from_pem(pem: &[u8], origin: &str) -> Result<Self, KeyError> {
        let wrong = |reason| KeyError::Unsupported { origin: origin.to_owned(), reason };
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let curve = || wrong("expected a key on the curve P-256 (ECDSA)");
        let pair = if let Ok(der) = PrivatePkcs8KeyDer::from_pem_slice(pem) {
            EcdsaKeyPair::from_pkcs8(algorithm, der.secret_pkcs8_der()).map_err(|_| curve())?
        } else if let Ok(der) = PrivateSec1KeyDer::from_pem_slice(pem) {
            EcdsaKeyPair::from_private_key_der(algorithm, der.secret_sec1_der()).map_err(|_| curve())?
        } else if pem.windows(9).any(|bytes| bytes == b"ENCRYPTED") {
            return Err(wrong("it is encrypted: expected a private key without password"));
        } else {
            return Err(wrong("expected a private key in PEM, which begins with BEGIN PRIVATE KEY"));
        };
        Self::of(pair, origin)
    }

    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read, or is not a private key on the curve P-256 without password.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        Self::from_pem(&read(path)?, &path.display().to_string())
    }

    /// A new random key, which is lost with this value: for tests and examples.
    ///
    /// # Errors
    /// When no random numbers are available.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(|_| KeyError::Failed {
            origin: "a new key".into(),
            reason: "no random numbers".into(),
        })?;
        Self::of(pair, "a new key")
    }

    fn of(pair: EcdsaKeyPair, origin: &str) -> Result<Self, KeyError> {
        let wrong =
            || KeyError::Unsupported { origin: origin.to_owned(), reason: "its public key is invalid" };
        let public = PublicKey::from_der(pair.public_key().as_ref()).ok_or_else(wrong)?;
        Ok(LocalSigner { public, pair, origin: origin.to_owned() })
    }

    /// The public key.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }
}

impl Signer for LocalSigner {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign<'a>(&'a self, message: &'a [u8]) -> BoxFuture<'a, Result<Vec<u8>, KeyError>> {
        Box::pin(async move {
            let signature = self.pair.sign(&SystemRandom::new(), message).map_err(|_| KeyError::Failed {
                origin: self.origin.clone(),
                reason: "the signature failed".into(),
            })?;
            Ok(signature.as_ref().to_vec())
        })
    }
}

impl fmt::Debug for LocalSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalSigner({})", self.public.id)
    }
}

/// Reads a key file, of bounded size.
fn read(path: &Path) -> Result<Vec<u8>, KeyError> {
    use std::io::Read as _;

    let unreadable = |source| KeyError::Unreadable { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(LARGEST).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_own_public_key_verifies_a_signature() {
        let (one, two) = (LocalSigner::generate().unwrap(), LocalSigner::generate().unwrap());
        let signature = one.sign(b"message").await.unwrap();
        assert!(one.public_key().verifies(b"message", &signature));
        assert!(!one.public_key().verifies(b"messagE", &signature));
        assert!(!two.public_key().verifies(b"message", &signature));
        let ring: Keyring = [two.public_key().clone(), one.public_key().clone()].into_iter().collect();
        assert_eq!(ring.signer_of(b"message", &signature).unwrap().id(), one.public_key().id());
    }

    #[test]
    fn refuses_other_keys_with_the_reason() {
        for (pem, reason) in [
            ("", "BEGIN PRIVATE KEY"),
            (
                "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n",
                "encrypted",
            ),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "P-256"),
        ] {
            let error = LocalSigner::from_pem(pem.as_bytes(), "ci.key").unwrap_err().to_string();
            assert!(error.contains("ci.key") && error.contains(reason), "{error}");
        }
        let error =
            PublicKey::from_pem(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "ci.pub");
        assert!(error.unwrap_err().to_string().contains("P-256"));
    }
}
