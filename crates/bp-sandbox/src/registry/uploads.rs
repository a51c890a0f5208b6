//! Blob uploads: in one request, in parts, or by a mount.

use std::sync::Arc;

use http::{HeaderName, Response, header, request};
use http_body_util::BodyExt as _;

use super::{
    Registry,
    auth::origin,
    error::{Answer, CONTENT_DIGEST, RegistryError, empty, set},
    route::{query, query_all},
    store::{Link, Upload},
};
use crate::{body::Body, digest::is_digest};

/// ECR rejects smaller parts, except the last one.
const ECR_MIN_PART: u64 = 5 << 20;

impl Registry {
    /// `POST`: a mount, a whole blob, or the start of an upload.
    pub(super) async fn start_upload(&self, parts: &request::Parts, name: &str, body: Body) -> Answer {
        self.repository_for_push(name)?;
        if let Some(digest) = query(parts, "mount")
            && let Some(mounted) = self.mount(parts, name, &digest)?
        {
            return Ok(mounted);
        }
        let id = format!("{:032x}", fastrand::u128(..));
        self.store().uploads.insert(id.clone(), Upload::new(name));
        match query(parts, "digest") {
            Some(digest) if self.options.single_post => {
                self.receive(name, &id, body).await?;
                self.commit(parts, name, &id, &digest)
            }
            _ => Ok(self.upload_response(parts, 202, name, &id, 0)),
        }
    }

    /// `PATCH`: the next part.
    pub(super) async fn patch_upload(
        &self,
        parts: &request::Parts,
        name: &str,
        id: &str,
        body: Body,
    ) -> Answer {
        self.check_state(parts, id)?;
        self.check_size(parts, true)?;
        self.check_offset(parts, name, id)?;
        self.receive(name, id, body).await?;
        let store = self.store();
        let upload = store.uploads.get(id).ok_or_else(|| RegistryError::no_upload(id))?;
        Ok(if self.options.ecr {
            self.upload_response(parts, 201, name, id, upload.parts[0])
        } else {
            self.upload_response(parts, 202, name, id, upload.blob.size)
        })
    }

    /// `PUT ?digest=`: the last part, if any, and completion.
    pub(super) async fn finish_upload(
        &self,
        parts: &request::Parts,
        name: &str,
        id: &str,
        body: Body,
    ) -> Answer {
        self.check_state(parts, id)?;
        let digest = query(parts, "digest")
            .ok_or_else(|| RegistryError::bad_digest("the digest parameter is missing"))?;
        self.check_size(parts, false)?;
        self.check_offset(parts, name, id)?;
        self.receive(name, id, body).await?;
        self.commit(parts, name, id, &digest)
    }

    /// `GET`: the progress.
    pub(super) fn upload_status(&self, parts: &request::Parts, name: &str, id: &str) -> Answer {
        let store = self.store();
        match store.uploads.get(id).filter(|upload| upload.repository == name) {
            Some(upload) => Ok(self.upload_response(parts, 204, name, id, upload.blob.size)),
            None => Err(RegistryError::no_upload(id)),
        }
    }

    /// `DELETE`: cancels the upload.
    pub(super) fn cancel_upload(&self, name: &str, id: &str) -> Answer {
        let mut store = self.store();
        if store.uploads.get(id).is_some_and(|upload| upload.repository == name) {
            store.uploads.remove(id);
            Ok(empty(204))
        } else {
            Err(RegistryError::no_upload(id))
        }
    }

    /// Checks that the repository `name` exists; creates it if the registry creates repositories on push.
    pub(super) fn repository_for_push(&self, name: &str) -> Result<(), RegistryError> {
        if self.options.create_on_push {
            self.create_repository(name);
        } else if !self.store().repositories.contains_key(name)
            && let Some(mutability) = self.creation_template(name)
        {
            self.set_mutability(name, mutability);
        }
        if self.store().repositories.contains_key(name) {
            Ok(())
        } else {
            Err(RegistryError::no_repository(name))
        }
    }

    /// Mounts the blob from another repository. `None` when the client must upload it.
    fn mount(
        &self,
        parts: &request::Parts,
        name: &str,
        digest: &str,
    ) -> Result<Option<Response<Body>>, RegistryError> {
        if !is_digest(digest) {
            return Err(RegistryError::bad_digest(format!("invalid digest: {digest}")));
        }
        if !self.options.mounts {
            return Ok(None);
        }
        let mut store = self.store();
        let source = query(parts, "from").and_then(|from| store.repositories.get(&from));
        let link = source
            .filter(|source| !self.options.ecr || source.uses(digest))
            .and_then(|source| source.blobs.get(digest))
            .map(|link| Link { blob: link.blob.clone(), since: self.clock.now() });
        let (Some(link), Some(repository)) = (link, store.repositories.get_mut(name)) else {
            return Ok(None);
        };
        repository.blobs.insert(digest.to_owned(), link);
        Ok(Some(self.stored(parts, name, digest)))
    }

    /// Checks the state in the query: clients must use the Location as received, and not construct the URL.
    fn check_state(&self, parts: &request::Parts, id: &str) -> Result<(), RegistryError> {
        if query_all(parts, "_state").any(|state| state == state_of(id)) {
            Ok(())
        } else {
            Err(RegistryError::no_upload(id))
        }
    }

    /// Rejects a request whose body is too large, or not accepted in this kind of request.
    fn check_size(&self, parts: &request::Parts, is_part: bool) -> Result<(), RegistryError> {
        let size = length(parts).unwrap_or_default();
        if self.options.max_request.is_some_and(|most| size > most) {
            return Err(RegistryError::new(413, "SIZE_INVALID", "Request Entity Too Large"));
        }
        if !is_part && !self.options.whole_uploads && size > 0 {
            return Err(RegistryError::new(405, "UNSUPPORTED", "The operation is unsupported."));
        }
        Ok(())
    }

    /// Rejects a part that does not start where the previous one ended.
    fn check_offset(&self, parts: &request::Parts, name: &str, id: &str) -> Result<(), RegistryError> {
        let store = self.store();
        let upload = store.uploads.get(id).filter(|upload| upload.repository == name);
        let upload = upload.ok_or_else(|| RegistryError::no_upload(id))?;
        let at = upload.blob.size;
        if let Some(range) = parts.headers.get(header::CONTENT_RANGE) {
            let range = range.to_str().ok().and_then(|range| {
                let (first, last) = range.trim_start_matches("bytes ").split_once('-')?;
                Some((first.parse::<u64>().ok()?, last.split('/').next()?.parse::<u64>().ok()?))
            });
            if range.is_none_or(|(first, last)| first != at || last < first) {
                let message = format!("expected a range that starts at {at}");
                return Err(RegistryError::new(416, "RANGE_INVALID", message)
                    .with(header::RANGE, format!("0-{}", at.saturating_sub(1)))
                    .with(header::LOCATION, self.location(parts, name, id)));
            }
        }
        let least = if self.options.ecr { Some(ECR_MIN_PART) } else { self.options.min_chunk };
        let more = length(parts) != Some(0);
        if let Some(least) =
            least.filter(|least| more && upload.parts.last().is_some_and(|part| part < least))
        {
            let message =
                format!("Layer part is too small: all parts but the last need at least {least} bytes");
            return Err(RegistryError::new(400, "BLOB_UPLOAD_INVALID", message));
        }
        Ok(())
    }

    /// Receives the body of one request. Bytes received before the connection is closed are kept.
    async fn receive(&self, name: &str, id: &str, mut body: Body) -> Result<(), RegistryError> {
        let mut part = 0;
        let mut cut = false;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                cut = true;
                break;
            };
            let Ok(data) = frame.into_data() else { continue };
            let mut store = self.store();
            let upload = store.uploads.get_mut(id).filter(|upload| upload.repository == name);
            let upload = upload.ok_or_else(|| RegistryError::no_upload(id))?;
            upload.hasher.update(&data);
            part += data.len() as u64;
            upload.blob.push(data);
        }
        if let Some(upload) = self.store().uploads.get_mut(id)
            && part > 0
        {
            upload.parts.push(part);
        }
        if cut {
            Err(RegistryError::new(
                400,
                "BLOB_UPLOAD_INVALID",
                "the request body ended before it was complete",
            ))
        } else {
            Ok(())
        }
    }

    /// Completes an upload; the content must have the given digest.
    fn commit(&self, parts: &request::Parts, name: &str, id: &str, digest: &str) -> Answer {
        self.store_upload(name, id, digest)?;
        Ok(self.stored(parts, name, digest))
    }

    /// Stores an upload as a blob, if it has this digest.
    pub(super) fn store_upload(&self, name: &str, id: &str, digest: &str) -> Result<(), RegistryError> {
        let upload = self.store().uploads.remove(id).ok_or_else(|| RegistryError::no_upload(id))?;
        if !is_digest(digest) {
            return Err(RegistryError::bad_digest(format!("invalid digest: {digest}")));
        }
        let Upload { blob, hasher, .. } = upload;
        if !hasher.verifies(&blob, digest) {
            return Err(RegistryError::bad_digest(format!("the uploaded content is not {digest}")));
        }
        let link = Link { blob: Arc::new(blob), since: self.clock.now() };
        let mut store = self.store();
        let repository =
            store.repositories.get_mut(name).ok_or_else(|| RegistryError::no_repository(name))?;
        repository.blobs.insert(digest.to_owned(), link);
        Ok(())
    }

    fn stored(&self, parts: &request::Parts, name: &str, digest: &str) -> Response<Body> {
        let mut response = empty(201);
        set(&mut response, header::LOCATION, &self.absolute(parts, format!("/v2/{name}/blobs/{digest}")));
        set(&mut response, header::CONTENT_LENGTH, "0");
        set(&mut response, CONTENT_DIGEST, digest);
        response
    }

    fn upload_response(
        &self,
        parts: &request::Parts,
        status: u16,
        name: &str,
        id: &str,
        size: u64,
    ) -> Response<Body> {
        let mut response = empty(status);
        set(&mut response, header::LOCATION, &self.location(parts, name, id));
        set(&mut response, header::RANGE, &format!("0-{}", size.saturating_sub(1)));
        set(&mut response, HeaderName::from_static("docker-upload-uuid"), id);
        if let Some(least) = self.options.min_chunk {
            set(&mut response, HeaderName::from_static("oci-chunk-min-length"), &least.to_string());
        }
        if let Some(most) = self.options.max_chunk {
            set(&mut response, HeaderName::from_static("oci-chunk-max-length"), &most.to_string());
        }
        if status != 204 {
            set(&mut response, header::CONTENT_LENGTH, "0");
        }
        response
    }

    fn location(&self, parts: &request::Parts, name: &str, id: &str) -> String {
        self.absolute(parts, format!("/v2/{name}/blobs/uploads/{id}?_state={}", state_of(id)))
    }

    fn absolute(&self, parts: &request::Parts, path: String) -> String {
        if self.options.absolute_locations { format!("{}{path}", origin(parts, &self.host)) } else { path }
    }
}

/// The size of the body, if the request states it.
fn length(parts: &request::Parts) -> Option<u64> {
    parts.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn state_of(id: &str) -> String {
    id.chars().rev().collect()
}
