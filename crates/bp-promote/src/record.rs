//! Promotion records: source, destination and previous digest of a promoted image, attached to it as an artifact.

use bp_artifact::{Digest, Repository};
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    attach::attach,
    content::Descriptor,
    copy::{CopyOutcome, ImageReport, TagChange},
    registry::RepositoryClient,
    store::StoreError,
};

/// The annotations that distinguish the records of one image in a list of referrers.
const SOURCE: &str = "dev.bp-promote.source";
const DESTINATION: &str = "dev.bp-promote.destination";
const REFERENCE: &str = "dev.bp-promote.reference";

/// Which image was promoted from where to where, and what the reference pointed to before, for a rollback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PromotionRecord {
    /// [`PromotionRecord::MEDIA_TYPE`].
    pub media_type: String,
    /// The digest of the image.
    pub digest: Digest,
    /// The source repository.
    pub source: Repository,
    /// The destination repository.
    pub destination: Repository,
    /// The destination's reference: a tag, or the digest.
    pub reference: String,
    /// What that reference pointed to before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// What is known about the promotion.
    pub outcome: PromotionOutcome,
    /// The time of the promotion.
    pub at: Timestamp,
}

/// What is known about a promotion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PromotionOutcome {
    /// The destination's reference already pointed to the image: nothing was changed.
    Unchanged,
    /// The destination had all content: only the reference was published.
    Tagged,
    /// Content was copied.
    Copied,
    /// An earlier run was killed after it had announced the change, and the reference now points to the image.
    Resumed,
    /// The reference was about to be published. Whether it was is unknown until the promotion is rerun.
    Pending,
}

impl From<CopyOutcome> for PromotionOutcome {
    fn from(outcome: CopyOutcome) -> Self {
        match outcome {
            CopyOutcome::Unchanged => PromotionOutcome::Unchanged,
            CopyOutcome::Tagged => PromotionOutcome::Tagged,
            CopyOutcome::Copied => PromotionOutcome::Copied,
        }
    }
}

impl PromotionRecord {
    /// The media type of a record, in a registry and in its own `mediaType` field.
    pub const MEDIA_TYPE: &str = "application/vnd.bp.promotion.v1+json";

    /// The record for an image of a run; `None` if it was not copied.
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
            previous: image.previous.clone().filter(|previous| previous != digest),
            outcome: (*outcome).into(),
            at,
        })
    }

    /// The record of a change that is about to be made; `None` unless it is between registries.
    pub fn pending(change: &TagChange, at: Timestamp) -> Option<Self> {
        Some(PromotionRecord {
            media_type: Self::MEDIA_TYPE.to_owned(),
            digest: change.digest.clone(),
            source: change.source.clone()?,
            destination: change.destination.clone()?,
            reference: change.tag.to_string(),
            previous: change.previous.clone(),
            outcome: PromotionOutcome::Pending,
            at,
        })
    }

    /// This record, or the newest of the `earlier` ones if this promotion has changed nothing since: only that one has
    /// the [previous](Self#structfield.previous) digest. An earlier pending promotion is resumed.
    pub fn or_earlier(self, earlier: &[Self]) -> Self {
        let is_same = |earlier: &&Self| {
            self.has_same_reference(earlier)
                && (&self.digest, &self.source) == (&earlier.digest, &earlier.source)
        };
        match earlier.iter().rev().find(is_same) {
            Some(earlier) if self.outcome == PromotionOutcome::Unchanged => {
                let outcome = match earlier.outcome {
                    PromotionOutcome::Pending => PromotionOutcome::Resumed,
                    known => known,
                };
                PromotionRecord { outcome, ..earlier.clone() }
            }
            Some(_) | None => self,
        }
    }

    /// Whether both are about the same reference of the same destination.
    pub fn has_same_reference(&self, other: &Self) -> bool {
        (&self.destination, &self.reference) == (&other.destination, &other.reference)
    }

    /// Attaches the record to the image in the destination repository, as an artifact whose subject is the image.
    /// Returns the artifact's digest.
    ///
    /// If the copy changed nothing and a record of the same image, reference and source exists, that record is kept: a
    /// promotion that is rerun adds no second record.
    ///
    /// # Errors
    /// When the image does not exist, or the registry rejects the record, is unavailable or denies access.
    ///
    /// # Permissions
    /// Pull and push; see [`RepositoryClient::put_referrer`] and [`RepositoryClient::put_blob`].
    ///
    /// # Cancel safety
    /// After cancellation it may be attached or not; attaching it again changes nothing.
    pub async fn attach(&self, repository: &RepositoryClient) -> Result<Digest, StoreError> {
        if self.outcome == PromotionOutcome::Unchanged {
            let attached = repository.referrers(&self.digest).await?;
            if let Some(earlier) = attached.into_iter().find(|attached| self.is_same_promotion(attached)) {
                return Ok(earlier.digest);
            }
        }
        let subject = self.digest.clone().into();
        let subject = repository.manifest(&subject).await?.descriptor();
        let record = Bytes::from(json!(self).to_string());
        let annotations = json!({
            "org.opencontainers.image.created": self.at,
            SOURCE: self.source,
            DESTINATION: self.destination,
            REFERENCE: self.reference,
        });
        attach(repository, &subject, Self::MEDIA_TYPE, record, annotations).await
    }

    /// Whether `listed` is a record of the same promotion of the same image.
    fn is_same_promotion(&self, listed: &Descriptor) -> bool {
        listed.artifact_type.as_deref() == Some(Self::MEDIA_TYPE)
            && listed.annotation(SOURCE) == Some(&self.source.to_string())
            && listed.annotation(DESTINATION) == Some(&self.destination.to_string())
            && listed.annotation(REFERENCE) == Some(&self.reference)
    }
}
