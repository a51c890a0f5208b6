//! Attach statements to an image, and read them.

use bp_artifact::Digest;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use serde_json::json;

use super::{AttestationError, Bundle, Envelope, Keyring, PublicKey, Signer, Statement};
use crate::{
    attach,
    content::{Descriptor, Reference},
    store::{Destination, Source, StoreError},
};

/// The annotations of cosign's attestations.
const CONTENT: &str = "dev.sigstore.bundle.content";
const PREDICATE: &str = "dev.sigstore.bundle.predicateType";

/// The most referrers of an image that are considered.
const REFERRERS: usize = 2000;
/// How many are read concurrently.
const READS: usize = 8;

/// A statement that is attached to an image, with a valid signature.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Attached {
    /// The digest of the manifest that holds it.
    pub record: Digest,
    /// The statement.
    pub statement: Statement,
    /// The key that signed it.
    pub key: PublicKey,
}

/// The statements that are attached to an image.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Attestations {
    /// Those about the image, with a valid signature, in the order of their digests.
    pub valid: Vec<Attached>,
    /// The others, each with the reason: anyone who may push can attach anything.
    pub ignored: Vec<(Digest, AttestationError)>,
}

/// Signs a statement about an image and attaches it to the image, which must exist. Returns the digest of the manifest.
///
/// # Errors
/// When the signer fails, or the destination rejects the artifact, is unavailable or denies access.
///
/// # Permissions
/// Pull and push; of the signer, those to sign.
///
/// # Cancel safety
/// After cancellation it may be attached or not. Signatures differ each time, so that attaching it again adds a second
/// one.
pub async fn attach<S: Destination + ?Sized>(
    destination: &S,
    image: &Digest,
    statement: &Statement,
    signer: &dyn Signer,
    at: Timestamp,
) -> Result<Digest, AttestationError> {
    let envelope = Envelope::sign(statement, signer).await?;
    let bundle = Bundle::new(envelope, signer.public_key().id());
    let bundle = Bytes::from(json!(bundle).to_string());
    let subject = destination.head(&Reference::Digest(image.clone())).await?;
    let subject = subject.ok_or_else(|| AttestationError::Unexpected {
        reason: format!("{} has no image {image}", destination.name()),
    })?;
    let subject = Descriptor::of(subject.media_type, image.clone(), subject.size);
    let annotations = json!({
        "org.opencontainers.image.created": at,
        CONTENT: "dsse-envelope",
        PREDICATE: statement.predicate_type,
    });
    Ok(attach::attach(destination, &subject, Bundle::MEDIA_TYPE, bundle, annotations).await?)
}

/// The statements of these types that are attached to an image and signed with one of the keys.
///
/// # Errors
/// When the referrers cannot be listed, are too many, or one of them cannot be read now. One that can be read and is
/// malformed, unsigned or about another image is ignored.
///
/// # Permissions
/// Pull.
///
/// # Cancel safety
/// Cancel safe: reads only.
pub async fn attestations<S: Source + ?Sized>(
    source: &S,
    image: &Digest,
    types: &[&str],
    known: &Keyring,
) -> Result<Attestations, AttestationError> {
    among(source, image, source.referrers(image).await?, types, known).await
}

/// As [`attestations`], among the referrers of the image, which are `listed`.
pub(crate) async fn among<S: Source + ?Sized>(
    source: &S,
    image: &Digest,
    listed: Vec<Descriptor>,
    types: &[&str],
    known: &Keyring,
) -> Result<Attestations, AttestationError> {
    if listed.len() > REFERRERS {
        return Err(AttestationError::TooMany { image: image.clone(), most: REFERRERS });
    }
    // A registry may omit type and annotations from the list.
    let is_candidate = |listed: &Descriptor| {
        let kind = listed.artifact_type.as_deref();
        kind.is_none_or(|kind| kind == Bundle::MEDIA_TYPE)
            && listed.annotation(PREDICATE).is_none_or(|found| types.contains(&found))
    };
    let mut candidates: Vec<Digest> =
        listed.into_iter().filter(is_candidate).map(|listed| listed.digest).collect();
    candidates.sort();
    candidates.dedup();
    let read = candidates.into_iter().map(|record| async move {
        let bundle = bundle(source, image, &record).await;
        Ok::<_, AttestationError>(match bundle {
            Err(error @ AttestationError::Store(_)) if !is_dangling(&error) => return Err(error),
            bundle => (record, bundle),
        })
    });
    let read: Vec<_> = stream::iter(read).buffered(READS).try_collect().await?;
    let mut found = Attestations::default();
    for (record, bundle) in read {
        let verified = bundle.and_then(|bundle| {
            let (statement, key) = bundle.dsse_envelope.verify(known)?;
            if !statement.is_about(image) {
                let reason = format!("its subject is not {image}");
                return Err(AttestationError::Unexpected { reason });
            }
            Ok((statement, key.clone()))
        });
        match verified {
            Ok((statement, _)) if !types.contains(&statement.predicate_type.as_str()) => {}
            Ok((statement, key)) => found.valid.push(Attached { record, statement, key }),
            Err(error) => found.ignored.push((record, error)),
        }
    }
    Ok(found)
}

/// Whether a listed referrer does not exist, or its bytes are not those of its digest: it counts as absent.
fn is_dangling(error: &AttestationError) -> bool {
    matches!(error, AttestationError::Store(error) if error.is_not_found() || error.is_corrupt())
}

/// The bundle in an artifact that is attached to the image.
async fn bundle<S: Source + ?Sized>(
    source: &S,
    image: &Digest,
    record: &Digest,
) -> Result<Bundle, AttestationError> {
    let malformed = |reason: String| AttestationError::Malformed { record: record.clone(), reason };
    let manifest = source.manifest(&Reference::Digest(record.clone())).await?;
    if manifest.subject().as_ref() != Some(image) {
        return Err(malformed("its subject is another image".into()));
    }
    let links = manifest.links().map_err(|error| malformed(error.to_string()))?;
    let layer = links.blobs.iter().find(|blob| blob.media_type == Bundle::MEDIA_TYPE);
    let layer = layer.ok_or_else(|| malformed("it has no Sigstore bundle of version 0.3".into()))?;
    if layer.size > Bundle::LARGEST {
        return Err(malformed(format!("the bundle has {} bytes, more than {}", layer.size, Bundle::LARGEST)));
    }
    let bytes = read(source, layer).await?;
    serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))
}

/// The bytes of a blob of bounded size.
async fn read<S: Source + ?Sized>(source: &S, blob: &Descriptor) -> Result<Vec<u8>, StoreError> {
    let mut pieces = source.blob(blob).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(bytes)
}
