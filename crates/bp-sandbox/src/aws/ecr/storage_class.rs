//! Storage classes of ECR images: active, or archived. A restore is complete at once, so no image is `ACTIVATING`.

use serde_json::{Value, json};

use super::request::{Target, invalid, seconds};
use crate::{
    aws::wire::{ApiError, Call},
    registry::ImageRecord,
};

/// Moves an image to a storage class and returns its status.
pub(super) fn update(target: &Target<'_>, digest: &str, class: &str) -> Result<&'static str, ApiError> {
    match class {
        "ARCHIVE" => {
            target.registry.archive(target.name, digest);
            Ok("ARCHIVED")
        }
        "STANDARD" => {
            target.registry.restore(target.name, digest);
            Ok("ACTIVE")
        }
        _ => Err(invalid(
            "Invalid parameter at 'targetStorageClass' failed to satisfy constraint: 'Member must satisfy enum value set: \
             [STANDARD, ARCHIVE]'",
        )),
    }
}

/// The status of an image.
fn status(record: &ImageRecord) -> &'static str {
    if record.archived_at.is_some() { "ARCHIVED" } else { "ACTIVE" }
}

/// Adds the status to the description of an image.
pub(super) fn show(detail: &mut Value, record: &ImageRecord) {
    detail["imageStatus"] = json!(status(record));
    if let Some(at) = record.archived_at {
        detail["lastArchivedAt"] = json!(seconds(at));
    }
}

/// Keeps the images with the status of the call's filter: the active ones, if it has none.
pub(super) fn filter(records: &mut Vec<ImageRecord>, call: &Call) {
    match call.input["filter"]["imageStatus"].as_str() {
        Some("ANY") => {}
        wanted => records.retain(|record| status(record) == wanted.unwrap_or("ACTIVE")),
    }
}
