//! What was promoted: a record that stays beside the image.

use bp_artifact::{
    Digest, Repository,
    media_type::{OCI_EMPTY, OCI_MANIFEST},
};
use bytes::Bytes;
use futures_util::stream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    content::{Descriptor, Manifest},
    copy::{CopyOutcome, ImageReport},
    registry::RepositoryClient,
    store::{BlobStream, PutError, StoreError},
};

/// By what the records of one image are told apart in a list.
const SOURCE: &str = "dev.bp-promote.source";
const DESTINATION: &str = "dev.bp-promote.destination";
const REFERENCE: &str = "dev.bp-promote.reference";

/// Which image was carried from where to where, and what was there before: the way back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PromotionRecord {
    /// [`PromotionRecord::MEDIA_TYPE`].
    pub media_type: String,
    /// The image, the same on both sides.
    pub digest: Digest,
    /// Where it came from.
    pub source: Repository,
    /// Where it went.
    pub destination: Repository,
    /// Its name there: a tag, or the digest.
    pub reference: String,
    /// What that name named before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// What had to be done.
    pub outcome: CopyOutcome,
    /// When.
    pub at: Timestamp,
}

impl PromotionRecord {
    /// The media type of a record, in a registry and in its own first field.
    pub const MEDIA_TYPE: &str = "application/vnd.bp.promotion.v1+json";

    /// The record of an image of a run; none when it was not copied.
    pub fn of(
        image: &ImageReport,
        source: &Repository,
        destination: &Repository,
        at: Timestamp,
    ) -> Option<Self> {
        let (digest, outcome) = image.result.as_ref().ok()?;
        Some(PromotionRecord {
            media_type: Self::MEDIA_TYPE.to_owned(),
            digest: digest.clone(),
            source: source.clone(),
            destination: destination.clone(),
            reference: image.reference.clone(),
            previous: image.previous.clone(),
            outcome: *outcome,
            at,
        })
    }

    /// Attaches the record to the image, in the repository where it went: an artifact whose subject is the image. Gives
    /// the artifact's digest.
    ///
    /// Where nothing had to be done and a record of the same image, name and source is there already, that one stays the
    /// only one: a promotion that is run again leaves no second record.
    ///
    /// # Errors
    /// When the image is not there, or the registry refuses the record, cannot be asked or does not allow it.
    ///
    /// # Permissions
    /// Pull and push; as [`RepositoryClient::put_referrer`] and [`RepositoryClient::put_blob`].
    ///
    /// # Cancel safety
    /// It may be attached or not; attaching it again changes nothing.
    pub async fn attach(&self, repository: &RepositoryClient) -> Result<Digest, StoreError> {
        if self.outcome == CopyOutcome::Unchanged {
            let attached = repository.referrers(&self.digest).await?;
            if let Some(earlier) = attached.into_iter().find(|attached| self.tells_the_same_as(attached)) {
                return Ok(earlier.digest);
            }
        }
        let subject = self.digest.clone().into();
        let subject = repository.manifest(&subject).await?.descriptor();
        let record = Bytes::from(json!(self).to_string());
        let layer = Descriptor::of(Self::MEDIA_TYPE, Digest::sha256(&record), record.len() as u64);
        let config = Descriptor::of(OCI_EMPTY, Digest::sha256("{}"), 2);
        for (blob, bytes) in [(&layer, record), (&config, Bytes::from_static(b"{}"))] {
            if repository.has_blob(&blob.digest).await? {
                continue;
            }
            let bytes: BlobStream = Box::pin(stream::once(async { Ok(bytes) }));
            let put = repository.put_blob(blob, None, Box::pin(async { Ok(bytes) })).await;
            put.map_err(|error| match error {
                PutError::Source(error) | PutError::Destination(error) => error,
            })?;
        }
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": Self::MEDIA_TYPE,
            "config": config, "layers": [layer], "subject": subject,
            "annotations": {
                "org.opencontainers.image.created": self.at,
                SOURCE: self.source,
                DESTINATION: self.destination,
                REFERENCE: self.reference,
            },
        });
        let bytes = Bytes::from(manifest.to_string());
        let manifest =
            Manifest { media_type: OCI_MANIFEST.to_owned(), digest: Digest::sha256(&bytes), bytes };
        repository.put_referrer(&self.digest, &manifest).await?;
        Ok(manifest.digest)
    }

    /// Whether what is listed is a record of the same way of the same image.
    fn tells_the_same_as(&self, listed: &Descriptor) -> bool {
        listed.artifact_type.as_deref() == Some(Self::MEDIA_TYPE)
            && listed.annotation(SOURCE) == Some(&self.source.to_string())
            && listed.annotation(DESTINATION) == Some(&self.destination.to_string())
            && listed.annotation(REFERENCE) == Some(&self.reference)
    }
}
