//! The storage class of an image in Amazon ECR.

use aws_sdk_ecr::{
    Client,
    error::ProvideErrorMetadata,
    operation::RequestId,
    types::{DescribeImagesFilter, ImageDetail, ImageStatus, ImageStatusFilter},
};

use super::{failure::failed, image_id::identifier};
use crate::{
    reference::ImageRef,
    resolve::{ResolveError, Storage},
};

/// Describes the image, whatever its storage class.
pub(super) async fn describe(
    client: &Client,
    account: &str,
    image: &ImageRef,
) -> Result<ImageDetail, ResolveError> {
    let repository = image.repository();
    let missing = |request_id: Option<&str>| ResolveError::ImageNotFound {
        image: image.clone(),
        request_id: request_id.map(str::to_owned),
    };
    // Without the filter, ECR returns only active images.
    let any = DescribeImagesFilter::builder().image_status(ImageStatusFilter::Any).build();
    let call = client.describe_images().registry_id(account).repository_name(repository.path());
    match call.image_ids(identifier(image)).filter(any).send().await {
        Ok(answer) => {
            let request_id = answer.request_id().map(str::to_owned);
            let found = answer.image_details.unwrap_or_default().into_iter().next();
            found.ok_or_else(|| missing(request_id.as_deref()))
        }
        Err(error) if error.code() == Some("ImageNotFoundException") => Err(missing(error.request_id())),
        Err(error) => Err(failed(repository, "ecr:DescribeImages", error)),
    }
}

/// The storage class of a described image. Registries without storage classes do not return a status.
pub(super) fn storage(detail: &ImageDetail) -> Storage {
    match detail.image_status() {
        None | Some(ImageStatus::Active) => Storage::Active,
        Some(ImageStatus::Archived) => Storage::Archived,
        Some(ImageStatus::Activating) => Storage::Activating,
        Some(other) => {
            Storage::Unknown { reason: format!("its status {} is unknown to this version", other.as_str()) }
        }
    }
}
