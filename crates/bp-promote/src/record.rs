//! What was promoted: a record that stays beside the image.

use bp_artifact::{Digest, Repository};
use bytes::Bytes;
use futures_util::stream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    content::{Descriptor, Manifest},
    copy::{CopyOutcome, CopyReport},
    registry::RepositoryClient,
    store::{BlobStream, PutError, StoreError},
};

/// The type of a record, in a registry and in its own first field.
pub const PROMOTION_RECORD: &str = "application/vnd.bp.promotion.v1+json";

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// Which image was carried from where to where, and what was there before: the way back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PromotionRecord {
    /// [`PROMOTION_RECORD`].
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
    /// Signatures, attestations and the like that are there with it.
    pub referrers: u64,
    /// When.
    pub at: Timestamp,
}

impl PromotionRecord {
    /// The record of a copy.
    pub fn new(
        report: &CopyReport,
        source: Repository,
        destination: Repository,
        reference: impl ToString,
        at: Timestamp,
    ) -> Self {
        let referrers = report.referrers;
        PromotionRecord {
            media_type: PROMOTION_RECORD.to_owned(),
            digest: report.digest.clone(),
            source,
            destination,
            reference: reference.to_string(),
            previous: report.previous.clone(),
            outcome: report.outcome,
            referrers: referrers.sent + referrers.mounted + referrers.present,
            at,
        }
    }

    /// Attaches the record to the image, in the repository where it went: an artifact whose subject is the image. Gives
    /// the artifact's digest.
    ///
    /// # Errors
    /// When the image is not there, or the registry refuses the record, cannot be asked or does not allow it.
    ///
    /// # Permissions
    /// Pull and push; as [`RepositoryClient::put_referrer`].
    ///
    /// # Cancel safety
    /// It may be attached or not; attaching it again changes nothing.
    pub async fn attach(&self, repository: &RepositoryClient) -> Result<Digest, StoreError> {
        let subject = self.digest.clone().into();
        let subject = repository.manifest(&subject).await?.descriptor();
        let record = Bytes::from(json!(self).to_string());
        let layer = Descriptor::of(PROMOTION_RECORD, Digest::sha256(&record), record.len() as u64);
        let config = Descriptor::of(EMPTY, Digest::sha256("{}"), 2);
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
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": PROMOTION_RECORD,
            "config": config, "layers": [layer], "subject": subject,
            "annotations": { "org.opencontainers.image.created": self.at },
        });
        let bytes = Bytes::from(manifest.to_string());
        let manifest = Manifest { media_type: MANIFEST.to_owned(), digest: Digest::sha256(&bytes), bytes };
        repository.put_referrer(&self.digest, &manifest).await?;
        Ok(manifest.digest)
    }
}
