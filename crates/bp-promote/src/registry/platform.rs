//! The platform of a single-platform image, from its configuration.

use bp_artifact::{Digest, Platform, media_type};
use futures_util::TryStreamExt;
use serde::Deserialize;

use super::RepositoryClient;
use crate::{
    content::{Descriptor, Reference},
    store::StoreError,
};

/// The maximum size of a configuration; those with a long history and many labels have some tens of kilobytes.
const LARGEST: u64 = 4 << 20;

#[derive(Deserialize)]
struct Configuration {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl RepositoryClient {
    /// The platform in the configuration of the manifest `digest`, with two requests. `None` for an index, for an
    /// artifact that is not an image, and if the configuration states no platform.
    ///
    /// # Errors
    /// When the manifest or the configuration cannot be read.
    ///
    /// # Permissions
    /// Pull. On Amazon ECR: `ecr:BatchGetImage`, `ecr:GetDownloadUrlForLayer`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn platform(&self, digest: &Digest) -> Result<Option<Platform>, StoreError> {
        let manifest = self.manifest(&Reference::Digest(digest.clone())).await?;
        // The configuration of an artifact has another format.
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
