//! ECR image operations: get, describe, list, put, delete, and layer availability.

use serde_json::{Value, json};

use super::{
    request::{Target, invalid, page, seconds, strings, with_next},
    storage_class,
};
use crate::{
    aws::{
        context::Context,
        wire::{Answer, ApiError, Call},
    },
    digest::digest_of,
    registry::{ImageRecord, Manifest},
};

/// Why one image of a batch was not found.
pub(super) struct Failure {
    code: &'static str,
    reason: &'static str,
}

const NOT_FOUND: Failure = Failure { code: "ImageNotFound", reason: "Requested image not found" };

/// `{imageTag, imageDigest}` of a request.
pub(super) struct ImageId<'a> {
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

impl<'a> ImageId<'a> {
    fn all(call: &'a Call) -> Result<Vec<Self>, ApiError> {
        let ids = call.input["imageIds"].as_array().map(Vec::as_slice).unwrap_or_default();
        if ids.len() > 100 {
            return Err(invalid(
                "Invalid parameter at 'imageIds' failed to satisfy constraint: 'Member must have length less than or \
                 equal to 100'",
            ));
        }
        Ok(ids.iter().map(ImageId::one).collect())
    }

    pub(super) fn one(id: &'a Value) -> Self {
        ImageId { tag: id["imageTag"].as_str(), digest: id["imageDigest"].as_str() }
    }

    /// Like `all`, for operations that require at least one id.
    fn some(call: &'a Call) -> Result<Vec<Self>, ApiError> {
        match Self::all(call)? {
            ids if ids.is_empty() => Err(invalid(
                "Invalid parameter at 'imageIds' failed to satisfy constraint: 'Member must have length greater than or \
                 equal to 1'",
            )),
            ids => Ok(ids),
        }
    }

    /// The image. An archived one cannot be pulled, and is not found.
    fn find(&self, target: &Target<'_>) -> Result<Manifest, Failure> {
        let found = self.stored(target)?;
        target.registry.manifest(target.name, &found.digest).ok_or(NOT_FOUND)
    }

    /// The image, also an archived one.
    pub(super) fn stored(&self, target: &Target<'_>) -> Result<Manifest, Failure> {
        match (self.digest, self.tag) {
            (None, None) => Err(Failure {
                code: "MissingDigestAndTag",
                reason: "Invalid request parameters: both tag and digest cannot be null",
            }),
            (Some(digest), _) if !is_digest(digest) => Err(Failure {
                code: "InvalidImageDigest",
                reason: "Invalid request parameters: image digest should satisfy the regex \
                         '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'",
            }),
            (Some(digest), Some(tag)) => {
                let named = target.registry.stored_manifest(target.name, tag).ok_or(NOT_FOUND)?;
                if named.digest == digest {
                    Ok(named)
                } else {
                    Err(Failure {
                        code: "ImageTagDoesNotMatchDigest",
                        reason: "Requested image tag does not match the requested image digest",
                    })
                }
            }
            (Some(reference), None) | (None, Some(reference)) => {
                target.registry.stored_manifest(target.name, reference).ok_or(NOT_FOUND)
            }
        }
    }

    pub(super) fn json(&self, digest: Option<&str>) -> Value {
        let mut id = json!({});
        if let Some(digest) = digest.or(self.digest) {
            id["imageDigest"] = json!(digest);
        }
        if let Some(tag) = self.tag {
            id["imageTag"] = json!(tag);
        }
        id
    }

    fn failure(&self, failure: &Failure) -> Value {
        json!({ "imageId": self.json(None), "failureCode": failure.code, "failureReason": failure.reason })
    }
}

fn is_digest(text: &str) -> bool {
    let name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'+' | b'.');
    text.split_once(':').is_some_and(|(algorithm, hex)| {
        !algorithm.is_empty()
            && algorithm.bytes().all(name)
            && !hex.is_empty()
            && hex.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

fn image(target: &Target<'_>, id: Value, manifest: &Manifest) -> Value {
    json!({
        "registryId": target.id,
        "repositoryName": target.name,
        "imageId": id,
        "imageManifest": String::from_utf8_lossy(&manifest.bytes),
        "imageManifestMediaType": manifest.media_type,
    })
}

/// Moves an image between the storage classes.
pub(super) fn update_storage_class(context: &Context, call: &Call) -> Answer {
    let target = Target::of(context, call)?;
    let id = ImageId::one(&call.input["imageId"]);
    let manifest = id.stored(&target).map_err(|_| no_image(&target, &id))?;
    let status = storage_class::update(&target, &manifest.digest, call.text("targetStorageClass"))?;
    Ok(json!({
        "registryId": target.id,
        "repositoryName": target.name,
        "imageId": id.json(Some(&manifest.digest)),
        "imageStatus": status,
    }))
}

pub(super) fn batch_get(context: &Context, call: &Call) -> Answer {
    let target = Target::of(context, call)?;
    let (mut images, mut failures) = (Vec::new(), Vec::new());
    for id in ImageId::some(call)? {
        match id.find(&target) {
            Ok(manifest) => images.push(image(&target, id.json(Some(&manifest.digest)), &manifest)),
            Err(failure) => failures.push(id.failure(&failure)),
        }
    }
    Ok(json!({ "images": images, "failures": failures }))
}

/// Removes tags, or images with all their tags.
pub(super) fn batch_delete(context: &Context, call: &Call) -> Answer {
    let target = Target::of(context, call)?;
    let (mut deleted, mut failures) = (Vec::new(), Vec::new());
    for id in ImageId::some(call)? {
        match id.stored(&target) {
            Ok(manifest) => {
                let reference = id.tag.unwrap_or(&manifest.digest);
                target.registry.remove(target.name, reference);
                deleted.push(id.json(Some(&manifest.digest)));
            }
            Err(failure) => failures.push(id.failure(&failure)),
        }
    }
    Ok(json!({ "imageIds": deleted, "failures": failures }))
}

pub(super) fn describe(context: &Context, call: &Call) -> Answer {
    let target = Target::of(context, call)?;
    let requested = ImageId::all(call)?;
    let paged = !call.input["maxResults"].is_null() || !call.input["nextToken"].is_null();
    if !requested.is_empty() && paged {
        return Err(invalid(
            "Invalid parameter at 'imageIds' failed to satisfy constraint: 'cannot be used with maxResults or nextToken'",
        ));
    }
    let records = records(&target, call);
    let (records, next) = match requested.as_slice() {
        [] => page(records, call, 100)?,
        requested => {
            let mut found: Vec<ImageRecord> = Vec::new();
            for id in requested {
                let manifest = id.stored(&target).map_err(|_| no_image(&target, id))?;
                let record = records.iter().find(|record| record.manifest.digest == manifest.digest);
                found.push(record.cloned().ok_or_else(|| no_image(&target, id))?);
            }
            (found, None)
        }
    };
    let details: Vec<Value> = records.iter().map(|record| detail(&target, record)).collect();
    Ok(with_next(json!({ "imageDetails": details }), next))
}

fn detail(target: &Target<'_>, record: &ImageRecord) -> Value {
    let mut detail = json!({
        "registryId": target.id,
        "repositoryName": target.name,
        "imageDigest": record.manifest.digest,
        "imageSizeInBytes": record.size,
        "imagePushedAt": seconds(record.manifest.pushed_at),
        "imageManifestMediaType": record.manifest.media_type,
    });
    if !record.tags.is_empty() {
        detail["imageTags"] = json!(record.tags);
    }
    storage_class::show(&mut detail, record);
    let manifest: Value = serde_json::from_slice(&record.manifest.bytes).unwrap_or_default();
    if let Some(artifact) = manifest["artifactType"].as_str().or(manifest["config"]["mediaType"].as_str()) {
        detail["artifactMediaType"] = json!(artifact);
    }
    detail
}

pub(super) fn no_image(target: &Target<'_>, id: &ImageId<'_>) -> ApiError {
    let shown = |part: Option<&str>| part.map_or("null".to_owned(), |part| format!("'{part}'"));
    ApiError::new(
        400,
        "ImageNotFoundException",
        format!(
            "The image with imageId {{imageDigest:{}, imageTag:{}}} does not exist within the repository with name '{}' \
             in the registry with id '{}'",
            shown(id.digest),
            shown(id.tag),
            target.name,
            target.id
        ),
    )
}

/// The images of the repository that pass the call's filter.
fn records(target: &Target<'_>, call: &Call) -> Vec<ImageRecord> {
    let mut records = target.registry.images(target.name).unwrap_or_default();
    match call.input["filter"]["tagStatus"].as_str() {
        Some("TAGGED") => records.retain(|record| !record.tags.is_empty()),
        Some("UNTAGGED") => records.retain(|record| record.tags.is_empty()),
        _ => {}
    }
    storage_class::filter(&mut records, call);
    records
}

pub(super) fn list(context: &Context, call: &Call) -> Answer {
    let target = Target::of(context, call)?;
    let mut ids = Vec::new();
    for record in records(&target, call) {
        let digest = &record.manifest.digest;
        if record.tags.is_empty() {
            ids.push(json!({ "imageDigest": digest }))
        } else {
            ids.extend(record.tags.iter().map(|tag| json!({ "imageDigest": digest, "imageTag": tag })))
        }
    }
    let (ids, next) = page(ids, call, 100)?;
    Ok(with_next(json!({ "imageIds": ids }), next))
}

pub(super) fn put(context: &Context, call: &Call) -> Answer {
    let target = Target::of(context, call)?;
    let bytes = bytes::Bytes::from(call.text("imageManifest").to_owned());
    let digest = digest_of(&bytes);
    if let Some(sent) = call.input["imageDigest"].as_str().filter(|sent| *sent != digest) {
        return Err(ApiError::new(
            400,
            "ImageDigestDoesNotMatchException",
            format!(
                "The calculated digest '{digest}' does not match the digest '{sent}' supplied by the client"
            ),
        ));
    }
    let id = ImageId { tag: call.input["imageTag"].as_str(), digest: Some(&digest) };
    let known = target.registry.manifest(target.name, id.tag.unwrap_or(&digest));
    if known.is_some_and(|known| known.digest == digest) {
        let tag = id.tag.map_or("null".to_owned(), |tag| format!("'{tag}'"));
        return Err(ApiError::new(
            400,
            "ImageAlreadyExistsException",
            format!(
                "Image with digest '{digest}' and tag {tag} already exists in the repository with name '{}' in registry \
                 with id '{}'",
                target.name, target.id
            ),
        ));
    }
    let media_type = call.text("imageManifestMediaType");
    let stored = target
        .registry
        .push_manifest(target.name, id.tag.unwrap_or(&digest), media_type, bytes)
        .map_err(|error| refused(&target, &id, error.code, error.message))?;
    Ok(json!({ "image": image(&target, id.json(Some(&stored.digest)), &stored) }))
}

/// The API error for a manifest that the registry rejects.
fn refused(target: &Target<'_>, id: &ImageId<'_>, code: &str, message: String) -> ApiError {
    match (code, id.tag) {
        ("TAG_INVALID", Some(tag)) if message.contains("immutable") => ApiError::new(
            400,
            "ImageTagAlreadyExistsException",
            format!(
                "The image tag '{tag}' already exists in the '{}' repository and cannot be overwritten because the \
                 repository is immutable.",
                target.name
            ),
        ),
        ("BLOB_UNKNOWN", _) => ApiError::new(400, "LayersNotFoundException", message),
        ("MANIFEST_BLOB_UNKNOWN", _) => ApiError::new(400, "ReferencedImagesNotFoundException", message),
        _ => invalid(&format!(
            "Invalid parameter at 'ImageManifest' failed to satisfy constraint: '{message}'"
        )),
    }
}

pub(super) fn check_layers(context: &Context, call: &Call) -> Answer {
    let target = Target::of(context, call)?;
    if !(1..=100).contains(&strings(&call.input["layerDigests"]).count()) {
        return Err(invalid(
            "Invalid parameter at 'layerDigests' failed to satisfy constraint: 'Member must have length less than or equal to \
             100, Member must have length greater than or equal to 1'",
        ));
    }
    let (mut layers, mut failures) = (Vec::new(), Vec::new());
    for digest in strings(&call.input["layerDigests"]) {
        if !is_digest(digest) {
            failures.push(json!({
                "layerDigest": digest,
                "failureCode": "InvalidLayerDigest",
                "failureReason": "Invalid request parameters: layer digest should satisfy the regex \
                                  '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'",
            }));
            continue;
        }
        layers.push(match target.registry.blob_size(target.name, digest) {
            Some(_) if target.registry.is_blob_archived(target.name, digest) => {
                json!({ "layerDigest": digest, "layerAvailability": "ARCHIVED" })
            }
            Some(size) => {
                json!({ "layerDigest": digest, "layerAvailability": "AVAILABLE", "layerSize": size })
            }
            None => json!({ "layerDigest": digest, "layerAvailability": "UNAVAILABLE" }),
        });
    }
    Ok(json!({ "layers": layers, "failures": failures }))
}
