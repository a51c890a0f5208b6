//! Failed image pulls.

use bp_artifact::deploy::Cause;

use super::{message::ServiceMessage, reading::Reading};

/// Classifies a failed image pull by the response of the registry, or by the runtime's error.
pub(super) fn read(message: &ServiceMessage) -> Reading {
    const PLATFORM: [&str; 3] =
        ["does not contain descriptor matching platform", "no matching manifest", "no match for platform"];
    const FORMAT: [&str; 5] = [
        "in-toto",
        "unsupported media type",
        "unsupported manifest",
        "no processor for media-type",
        "invalid reference format",
    ];
    const NODE: [&str; 4] = ["no space left on device", "devmapper", "devicemapper", "docker daemon"];
    let cause = if message.contains_any(&PLATFORM) {
        Cause::WrongArchitecture
    } else if message.contains_any(&FORMAT) {
        Cause::ConfigInvalid
    } else if message.contains_any(&NODE) {
        Cause::RuntimeFailed
    } else if message.is_overloaded()
        || message.is_connection_error()
        // A proxy or a login page responds instead of the registry.
        || message.contains("unexpected media type")
    {
        Cause::ImagePullFailed
    } else if message.status_is(|status| status == 404) {
        Cause::ImageNotFound
    } else if message.is_denied() || message.contains_any(&["no basic auth", "authorization failed"]) {
        Cause::ImagePullDenied
    } else if message.contains_any(&[
        "not found",
        "manifest unknown",
        "name unknown",
        "whether the image exists",
        "is archived",
    ]) {
        Cause::ImageNotFound
    } else {
        Cause::ImagePullFailed
    };
    Reading::new(cause).about(message.name(is_image))
}

fn is_image(name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or(name);
    !name.starts_with("arn:") && !name.contains("://") && name.contains('/') && last.contains([':', '@'])
}
