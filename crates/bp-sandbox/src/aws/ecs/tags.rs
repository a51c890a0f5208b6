//! The tags of a request.

use serde_json::Value;

use super::text;
use crate::aws::wire::ApiError;

/// How many tags a resource may have.
const LIMIT: usize = 50;

/// The tags that a resource is created with.
pub(super) fn read(input: &Value) -> Result<Vec<Value>, ApiError> {
    let refused = |message: &str| Err(ApiError::new(400, "InvalidParameterException", message));
    let Some(tags) = input["tags"].as_array() else { return Ok(Vec::new()) };
    if tags.is_empty() {
        return refused("Tags can not be empty.");
    }
    if tags.len() > LIMIT {
        return refused("The number of tags exceeds the limit of 50.");
    }
    for (at, tag) in tags.iter().enumerate() {
        let (key, value) = (text(tag, "key"), text(tag, "value"));
        let is_allowed = |text: &str| text.chars().all(|c| c.is_alphanumeric() || " _.:/=+-@".contains(c));
        if key.is_empty() || key.chars().count() > 128 || value.chars().count() > 256 {
            return refused("A tag key has 1 to 128 characters, and a tag value at most 256.");
        }
        if key.to_ascii_lowercase().starts_with("aws:") {
            return refused("Tag keys that start with 'aws:' are reserved for system use.");
        }
        if !is_allowed(key) || !is_allowed(value) {
            return refused("A tag has characters that are not allowed.");
        }
        if tags[..at].iter().any(|other| text(other, "key") == key) {
            return refused("Duplicate tag keys are not allowed.");
        }
    }
    Ok(tags.clone())
}
