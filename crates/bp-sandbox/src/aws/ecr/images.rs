//! Images: get, describe, list, put, delete; and which layers are there.

use serde_json::{Value, json};

use super::{Place, invalid, page, seconds, strings, with_next};
use crate::{
    aws::{
        Aws,
        wire::{Answer, ApiError, Call},
    },
    registry::{ImageRecord, Manifest},
};

/// Why one of several images was not found.
struct Failure {
    code: &'static str,
    reason: &'static str,
}

const NOT_FOUND: Failure = Failure { code: "ImageNotFound", reason: "Requested image not found" };

/// `{imageTag, imageDigest}` of a request.
struct ImageId<'a> {
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
        let id = |id: &'a Value| ImageId { tag: id["imageTag"].as_str(), digest: id["imageDigest"].as_str() };
        Ok(ids.iter().map(id).collect())
    }

    /// As `all`, for the calls that need one at least.
    fn some(call: &'a Call) -> Result<Vec<Self>, ApiError> {
        match Self::all(call)? {
            ids if ids.is_empty() => Err(invalid(
                "Invalid parameter at 'imageIds' failed to satisfy constraint: 'Member must have length greater than or \
                 equal to 1'",
            )),
            ids => Ok(ids),
        }
    }

    fn find(&self, place: &Place<'_>) -> Result<Manifest, Failure> {
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
                let named = place.registry.manifest(place.name, tag).ok_or(NOT_FOUND)?;
                match named.digest == digest {
                    true => Ok(named),
                    false => Err(Failure {
                        code: "ImageTagDoesNotMatchDigest",
                        reason: "Requested image tag does not match the requested image digest",
                    }),
                }
            }
            (Some(reference), None) | (None, Some(reference)) => {
                place.registry.manifest(place.name, reference).ok_or(NOT_FOUND)
            }
        }
    }

    fn json(&self, digest: Option<&str>) -> Value {
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

fn image(place: &Place<'_>, id: Value, manifest: &Manifest) -> Value {
    json!({
        "registryId": place.id,
        "repositoryName": place.name,
        "imageId": id,
        "imageManifest": String::from_utf8_lossy(&manifest.bytes),
        "imageManifestMediaType": manifest.media_type,
    })
}

pub(super) fn batch_get(aws: &Aws, call: &Call) -> Answer {
    let place = Place::of(aws, call)?;
    let (mut images, mut failures) = (Vec::new(), Vec::new());
    for id in ImageId::some(call)? {
        match id.find(&place) {
            Ok(manifest) => images.push(image(&place, id.json(Some(&manifest.digest)), &manifest)),
            Err(failure) => failures.push(id.failure(&failure)),
        }
    }
    Ok(json!({ "images": images, "failures": failures }))
}

/// Removes tags, or images with all their tags.
pub(super) fn batch_delete(aws: &Aws, call: &Call) -> Answer {
    let place = Place::of(aws, call)?;
    let (mut deleted, mut failures) = (Vec::new(), Vec::new());
    for id in ImageId::some(call)? {
        match id.find(&place) {
            Ok(manifest) => {
                let reference = id.tag.unwrap_or(&manifest.digest);
                place.registry.remove(place.name, reference);
                deleted.push(id.json(Some(&manifest.digest)));
            }
            Err(failure) => failures.push(id.failure(&failure)),
        }
    }
    Ok(json!({ "imageIds": deleted, "failures": failures }))
}

pub(super) fn describe(aws: &Aws, call: &Call) -> Answer {
    let place = Place::of(aws, call)?;
    let asked = ImageId::all(call)?;
    let paged = !call.input["maxResults"].is_null() || !call.input["nextToken"].is_null();
    if !asked.is_empty() && paged {
        return Err(invalid(
            "Invalid parameter at 'imageIds' failed to satisfy constraint: 'cannot be used with maxResults or nextToken'",
        ));
    }
    let records = records(&place, call);
    let (records, next) = match asked.as_slice() {
        [] => page(records, call, 100)?,
        asked => {
            let mut found: Vec<ImageRecord> = Vec::new();
            for id in asked {
                let manifest = id.find(&place).map_err(|_| no_image(&place, id))?;
                found
                    .extend(records.iter().find(|record| record.manifest.digest == manifest.digest).cloned());
            }
            (found, None)
        }
    };
    let details: Vec<Value> = records.iter().map(|record| detail(&place, record)).collect();
    Ok(with_next(json!({ "imageDetails": details }), next))
}

fn detail(place: &Place<'_>, record: &ImageRecord) -> Value {
    let mut detail = json!({
        "registryId": place.id,
        "repositoryName": place.name,
        "imageDigest": record.manifest.digest,
        "imageSizeInBytes": record.size,
        "imagePushedAt": seconds(record.manifest.pushed_at),
        "imageManifestMediaType": record.manifest.media_type,
    });
    if !record.tags.is_empty() {
        detail["imageTags"] = json!(record.tags);
    }
    let manifest: Value = serde_json::from_slice(&record.manifest.bytes).unwrap_or_default();
    if let Some(artifact) = manifest["artifactType"].as_str().or(manifest["config"]["mediaType"].as_str()) {
        detail["artifactMediaType"] = json!(artifact);
    }
    detail
}

fn no_image(place: &Place<'_>, id: &ImageId<'_>) -> ApiError {
    let shown = |part: Option<&str>| part.map_or("null".to_owned(), |part| format!("'{part}'"));
    ApiError::new(
        400,
        "ImageNotFoundException",
        format!(
            "The image with imageId {{imageDigest:{}, imageTag:{}}} does not exist within the repository with name '{}' \
             in the registry with id '{}'",
            shown(id.digest),
            shown(id.tag),
            place.name,
            place.id
        ),
    )
}

/// The images of the repository that pass the call's filter.
fn records(place: &Place<'_>, call: &Call) -> Vec<ImageRecord> {
    let mut records = place.registry.images(place.name).unwrap_or_default();
    match call.input["filter"]["tagStatus"].as_str() {
        Some("TAGGED") => records.retain(|record| !record.tags.is_empty()),
        Some("UNTAGGED") => records.retain(|record| record.tags.is_empty()),
        _ => {}
    }
    records
}

pub(super) fn list(aws: &Aws, call: &Call) -> Answer {
    let place = Place::of(aws, call)?;
    let mut ids = Vec::new();
    for record in records(&place, call) {
        let digest = &record.manifest.digest;
        match record.tags.is_empty() {
            true => ids.push(json!({ "imageDigest": digest })),
            false => {
                ids.extend(record.tags.iter().map(|tag| json!({ "imageDigest": digest, "imageTag": tag })))
            }
        }
    }
    let (ids, next) = page(ids, call, 100)?;
    Ok(with_next(json!({ "imageIds": ids }), next))
}

pub(super) fn put(aws: &Aws, call: &Call) -> Answer {
    let place = Place::of(aws, call)?;
    let bytes = bytes::Bytes::from(call.text("imageManifest").to_owned());
    let digest = crate::registry::digest_of(&bytes);
    if let Some(told) = call.input["imageDigest"].as_str().filter(|told| *told != digest) {
        return Err(ApiError::new(
            400,
            "ImageDigestDoesNotMatchException",
            format!(
                "The calculated digest '{digest}' does not match the digest '{told}' supplied by the client"
            ),
        ));
    }
    let id = ImageId { tag: call.input["imageTag"].as_str(), digest: Some(&digest) };
    let known = place.registry.manifest(place.name, id.tag.unwrap_or(&digest));
    if known.is_some_and(|known| known.digest == digest) {
        let tag = id.tag.map_or("null".to_owned(), |tag| format!("'{tag}'"));
        return Err(ApiError::new(
            400,
            "ImageAlreadyExistsException",
            format!(
                "Image with digest '{digest}' and tag {tag} already exists in the repository with name '{}' in registry \
                 with id '{}'",
                place.name, place.id
            ),
        ));
    }
    let media_type = call.text("imageManifestMediaType");
    let stored = place
        .registry
        .push_manifest(place.name, id.tag.unwrap_or(&digest), media_type, bytes)
        .map_err(|error| refused(&place, &id, error.code, error.message))?;
    Ok(json!({ "image": image(&place, id.json(Some(&stored.digest)), &stored) }))
}

/// What the registry refused, in the words of the API.
fn refused(place: &Place<'_>, id: &ImageId<'_>, code: &str, message: String) -> ApiError {
    match (code, id.tag) {
        ("TAG_INVALID", Some(tag)) if message.contains("immutable") => ApiError::new(
            400,
            "ImageTagAlreadyExistsException",
            format!(
                "The image tag '{tag}' already exists in the '{}' repository and cannot be overwritten because the \
                 repository is immutable.",
                place.name
            ),
        ),
        ("BLOB_UNKNOWN", _) => ApiError::new(400, "LayersNotFoundException", message),
        ("MANIFEST_BLOB_UNKNOWN", _) => ApiError::new(400, "ReferencedImagesNotFoundException", message),
        _ => invalid(&format!(
            "Invalid parameter at 'ImageManifest' failed to satisfy constraint: '{message}'"
        )),
    }
}

pub(super) fn check_layers(aws: &Aws, call: &Call) -> Answer {
    let place = Place::of(aws, call)?;
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
        layers.push(match place.registry.blob_size(place.name, digest) {
            Some(size) => {
                json!({ "layerDigest": digest, "layerAvailability": "AVAILABLE", "layerSize": size })
            }
            None => json!({ "layerDigest": digest, "layerAvailability": "UNAVAILABLE" }),
        });
    }
    Ok(json!({ "layers": layers, "failures": failures }))
}
