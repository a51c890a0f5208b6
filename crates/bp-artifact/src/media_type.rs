//! Media types of manifests, indexes and image configurations, as OCI and Docker write them.

/// An index of the OCI specification.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// An index in Docker's format.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// A manifest of the OCI specification.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// A manifest in Docker's format.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// A manifest of Docker's schema version 1, which has no digest of its own.
pub const DOCKER_MANIFEST_V1: &str = "application/vnd.docker.distribution.manifest.v1+json";
/// The configuration of an image, by the OCI specification.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The configuration of an image in Docker's format.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// The empty configuration of an artifact: `{}`.
pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// Manifests and indexes of images. If a request does not accept indexes, a registry may return the manifest of one
/// platform, which has another digest.
pub const IMAGES: [&str; 4] = [OCI_INDEX, DOCKER_INDEX, OCI_MANIFEST, DOCKER_MANIFEST];

/// Whether it is the manifest of one image.
pub fn is_manifest(media_type: &str) -> bool {
    matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST)
}

/// Whether it is the configuration of an image.
pub fn is_image_config(media_type: &str) -> bool {
    matches!(media_type, OCI_CONFIG | DOCKER_CONFIG)
}
