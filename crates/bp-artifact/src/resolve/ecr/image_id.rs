//! The identifier of an image in requests to Amazon ECR.

use aws_sdk_ecr::types::ImageIdentifier;

use crate::reference::ImageRef;

/// The image to request: by digest if present, else by tag.
pub(super) fn identifier(image: &ImageRef) -> ImageIdentifier {
    let identifier = ImageIdentifier::builder();
    match (image.digest(), image.tag()) {
        (Some(digest), _) => identifier.image_digest(digest.as_str()).build(),
        (None, tag) => identifier.set_image_tag(tag.map(|tag| tag.as_str().to_owned())).build(),
    }
}
