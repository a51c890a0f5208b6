//! ECR layer uploads in parts.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::request::{Target, invalid, strings};
use crate::aws::{
    context::Context,
    wire::{Answer, ApiError, Call},
};

/// Smaller parts are rejected, except the last one.
const MIN_PART_SIZE: u64 = 5 << 20;
/// The part size that ECR proposes.
const PART_SIZE: u64 = 10 << 20;

/// `InitiateLayerUpload`.
pub(super) fn initiate(context: &Context, call: &Call) -> Answer {
    let target = Target::of(context, call)?;
    Ok(json!({ "uploadId": target.registry.initiate_upload(target.name), "partSize": PART_SIZE }))
}

/// `UploadLayerPart`.
pub(super) fn upload_part(context: &Context, call: &Call) -> Answer {
    let target = Target::of(context, call)?;
    let id = call.text("uploadId");
    let (has, last_part) =
        target.registry.upload_has(target.name, id).ok_or_else(|| no_upload(&target, id))?;
    let part = BASE64_STANDARD.decode(call.text("layerPartBlob")).unwrap_or_default();
    let (first, last) = (call.input["partFirstByte"].as_u64(), call.input["partLastByte"].as_u64());
    let right = first == Some(has) && !part.is_empty() && last == Some(has + part.len() as u64 - 1);
    if !right {
        let message = "The layer part size is not valid, or the first byte specified is not consecutive to the last \
                       byte of a previous layer part upload.";
        let extra = json!({
            "registryId": target.id, "repositoryName": target.name, "uploadId": id,
            "lastValidByteReceived": has as i64 - 1,
        });
        return Err(ApiError::new(400, "InvalidLayerPartException", message).with(extra));
    }
    if last_part.is_some_and(|size| size < MIN_PART_SIZE) {
        return Err(invalid("Layer parts must be at least 5 MiB, the last one excepted"));
    }
    target.registry.append_part(id, part.into());
    Ok(with_repository(&target, json!({ "uploadId": id, "lastByteReceived": last })))
}

/// `CompleteLayerUpload`.
pub(super) fn complete(context: &Context, call: &Call) -> Answer {
    let target = Target::of(context, call)?;
    let id = call.text("uploadId");
    let (has, _) = target.registry.upload_has(target.name, id).ok_or_else(|| no_upload(&target, id))?;
    let digests: Vec<&str> = strings(&call.input["layerDigests"]).collect();
    let [digest] = digests[..] else {
        return Err(invalid("Invalid parameter at 'layerDigests': expected one digest"));
    };
    if has == 0 {
        let message = "The specified layer upload does not contain any layer parts.";
        return Err(ApiError::new(400, "EmptyUploadException", message));
    }
    if target.registry.blob_size(target.name, digest).is_some() {
        let message = format!("The layer '{digest}' already exists in the repository '{}'", target.name);
        return Err(ApiError::new(400, "LayerAlreadyExistsException", message));
    }
    if target.registry.complete_upload(target.name, id, digest) {
        Ok(with_repository(&target, json!({ "uploadId": id, "layerDigest": digest })))
    } else {
        let message = "The layer digest calculation performed by Amazon ECR upon receipt of the image layer does \
                           not match the digest specified.";
        Err(ApiError::new(400, "InvalidLayerException", message))
    }
}

fn with_repository(target: &Target<'_>, mut answer: Value) -> Value {
    answer["registryId"] = json!(target.id);
    answer["repositoryName"] = json!(target.name);
    answer
}

fn no_upload(target: &Target<'_>, id: &str) -> ApiError {
    let message = format!("The upload '{id}' does not exist in the repository '{}'", target.name);
    ApiError::new(400, "UploadNotFoundException", message)
}
