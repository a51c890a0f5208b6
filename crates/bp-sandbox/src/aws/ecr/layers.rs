//! Layers: which are there, and uploads in parts.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{Place, invalid, strings};
use crate::aws::{
    Aws,
    wire::{Answer, ApiError, Call},
};

/// Parts smaller than this are refused, the last one excepted.
const LEAST: u64 = 5 << 20;
/// What ECR proposes.
const PROPOSED: u64 = 10 << 20;

/// `InitiateLayerUpload`.
pub(super) fn initiate(aws: &Aws, call: &Call) -> Answer {
    let place = Place::of(aws, call)?;
    Ok(json!({ "uploadId": place.registry.initiate_upload(place.name), "partSize": PROPOSED }))
}

/// `UploadLayerPart`.
pub(super) fn upload_part(aws: &Aws, call: &Call) -> Answer {
    let place = Place::of(aws, call)?;
    let id = call.text("uploadId");
    let (has, last_part) = place.registry.upload_has(place.name, id).ok_or_else(|| no_upload(&place, id))?;
    let part = BASE64_STANDARD.decode(call.text("layerPartBlob")).unwrap_or_default();
    let (first, last) = (call.input["partFirstByte"].as_u64(), call.input["partLastByte"].as_u64());
    let right = first == Some(has) && !part.is_empty() && last == Some(has + part.len() as u64 - 1);
    if !right {
        let message = "The layer part size is not valid, or the first byte specified is not consecutive to the last \
                       byte of a previous layer part upload.";
        let extra = json!({
            "registryId": place.id, "repositoryName": place.name, "uploadId": id,
            "lastValidByteReceived": has as i64 - 1,
        });
        return Err(ApiError::new(400, "InvalidLayerPartException", message).with(extra));
    }
    if last_part.is_some_and(|size| size < LEAST) {
        return Err(invalid("Layer parts must be at least 5 MiB, the last one excepted"));
    }
    place.registry.append_part(id, part.into());
    Ok(about(&place, json!({ "uploadId": id, "lastByteReceived": last })))
}

/// `CompleteLayerUpload`.
pub(super) fn complete(aws: &Aws, call: &Call) -> Answer {
    let place = Place::of(aws, call)?;
    let id = call.text("uploadId");
    let (has, _) = place.registry.upload_has(place.name, id).ok_or_else(|| no_upload(&place, id))?;
    let digests: Vec<&str> = strings(&call.input["layerDigests"]).collect();
    let [digest] = digests[..] else {
        return Err(invalid("Invalid parameter at 'layerDigests': expected one digest"));
    };
    if has == 0 {
        let message = "The specified layer upload does not contain any layer parts.";
        return Err(ApiError::new(400, "EmptyUploadException", message));
    }
    if place.registry.blob_size(place.name, digest).is_some() {
        let message = format!("The layer '{digest}' already exists in the repository '{}'", place.name);
        return Err(ApiError::new(400, "LayerAlreadyExistsException", message));
    }
    match place.registry.complete_upload(place.name, id, digest) {
        true => Ok(about(&place, json!({ "uploadId": id, "layerDigest": digest }))),
        false => {
            let message = "The layer digest calculation performed by Amazon ECR upon receipt of the image layer does \
                           not match the digest specified.";
            Err(ApiError::new(400, "InvalidLayerException", message))
        }
    }
}

fn about(place: &Place<'_>, mut answer: Value) -> Value {
    answer["registryId"] = json!(place.id);
    answer["repositoryName"] = json!(place.name);
    answer
}

fn no_upload(place: &Place<'_>, id: &str) -> ApiError {
    let message = format!("The upload '{id}' does not exist in the repository '{}'", place.name);
    ApiError::new(400, "UploadNotFoundException", message)
}
