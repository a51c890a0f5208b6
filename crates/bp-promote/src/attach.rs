//! Attach a document to an image: an artifact with one layer, whose subject is the image.

use bp_artifact::{
    Digest,
    media_type::{OCI_EMPTY, OCI_MANIFEST},
};
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};

use crate::{
    content::{Descriptor, Manifest},
    store::{BlobStream, Destination, PutError, StoreError},
};

/// Stores `document` as the only layer of an artifact of the type `kind`, attached to `subject`. Returns the artifact's
/// digest.
pub(crate) async fn attach<D: Destination + ?Sized>(
    destination: &D,
    subject: &Descriptor,
    kind: &str,
    document: Bytes,
    annotations: Value,
) -> Result<Digest, StoreError> {
    let layer = Descriptor::of(kind, Digest::sha256(&document), document.len() as u64);
    let config = Descriptor::of(OCI_EMPTY, Digest::sha256("{}"), 2);
    for (blob, bytes) in [(&layer, document), (&config, Bytes::from_static(b"{}"))] {
        if destination.has_blob(blob).await? {
            continue;
        }
        let bytes: BlobStream = Box::pin(stream::once(async { Ok(bytes) }));
        let put = destination.put_blob(blob, None, Box::pin(async { Ok(bytes) })).await;
        put.map_err(|error| match error {
            PutError::Source(error) | PutError::Destination(error) => error,
        })?;
    }
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": kind,
        "config": config, "layers": [layer], "subject": subject, "annotations": annotations,
    });
    let bytes = Bytes::from(manifest.to_string());
    let manifest = Manifest { media_type: OCI_MANIFEST.to_owned(), digest: Digest::sha256(&bytes), bytes };
    destination.put_referrer(&subject.digest, &manifest).await?;
    Ok(manifest.digest)
}
