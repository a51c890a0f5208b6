//! Archived images of Amazon ECR, which the registry API answers with 404.

use aws_sdk_ecr::types::{DescribeImagesFilter, ImageIdentifier, ImageStatus, ImageStatusFilter};
use bp_artifact::text::SingleLine;

use crate::{
    content::Reference,
    registry::{error::RegistryError, repository::RepositoryClient},
};

impl RepositoryClient {
    /// The error for an image that was not found because it is archived. `None` if it is not, or this cannot be found
    /// out.
    pub(in crate::registry) async fn archived(&self, reference: &Reference) -> Option<RegistryError> {
        let client = self.client.0.ecr.of(self.repository.registry())?;
        let (account, _) = self.repository.registry().ecr()?;
        let id = ImageIdentifier::builder();
        let id = match reference {
            Reference::Tag(tag) => id.image_tag(tag.as_str()),
            Reference::Digest(digest) => id.image_digest(digest.as_str()),
        };
        // Without the filter, only active images are described.
        let any = DescribeImagesFilter::builder().image_status(ImageStatusFilter::Any).build();
        let call = client.describe_images().registry_id(account).repository_name(self.repository.path());
        self.context(&self.pull).count();
        let answer = match call.image_ids(id.build()).filter(any).send().await {
            Ok(answer) => answer,
            Err(error) => {
                let (error, repository) = (SingleLine(&error), &self.repository);
                tracing::debug!(%error, %repository, "failed to look up a missing image in the archive");
                return None;
            }
        };
        let restoring = match answer.image_details().first()?.image_status()? {
            ImageStatus::Archived => false,
            ImageStatus::Activating => true,
            _ => return None,
        };
        let repository = self.repository.clone();
        Some(RegistryError::Archived { repository, reference: reference.to_string(), restoring })
    }
}
