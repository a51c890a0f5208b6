//! The platform of an image that is not an index: its configuration says it.

use bp_artifact::{Digest, Platform, media_type};
use futures_util::TryStreamExt;
use serde::Deserialize;

use super::RepositoryClient;
use crate::{
    content::{Descriptor, Reference},
    store::StoreError,
};

/// The largest configuration that is read: with a long history and many labels they have some tens of kilobytes.
const LARGEST: u64 = 4 << 20;

#[derive(Deserialize)]
struct Configuration {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl RepositoryClient {
    /// The platform that the configuration of the manifest `digest` names, in two requests. `None` for an index, for an
    /// artifact that is not an image, and where the configuration names none.
    ///
    /// # Errors
    /// When manifest or configuration cannot be read.
    ///
    /// # Permissions
    /// Pull. On Amazon ECR: `ecr:BatchGetImage`, `ecr:GetDownloadUrlForLayer`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn platform(&self, digest: &Digest) -> Result<Option<Platform>, StoreError> {
        let manifest = self.manifest(&Reference::Digest(digest.clone())).await?;
        // An artifact's configuration is something else.
        let is_image =
            |config: &Descriptor| media_type::is_image_config(&config.media_type) && config.size <= LARGEST;
        let Some(config) = manifest.config().filter(is_image) else { return Ok(None) };
        let mut blob = self.blob(&config).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = blob.try_next().await? {
            bytes.extend_from_slice(&piece);
            if bytes.len() as u64 > LARGEST {
                return Ok(None);
            }
        }
        let configuration = serde_json::from_slice::<Configuration>(&bytes).ok();
        let platform = |c: Configuration| Platform::new(&c.os, &c.architecture, c.variant.as_deref()).ok();
        Ok(configuration.and_then(platform))
    }
}
