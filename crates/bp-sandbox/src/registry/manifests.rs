//! Manifests and indexes: get, push, delete.

use http::{HeaderName, Method, header, request};

use super::{
    Registry,
    document::Document,
    error::{Answer, CONTENT_DIGEST, RegistryError, empty, set},
    route::{is_tag, query_all},
    store::{Manifest, Repository},
};
use crate::{
    body::Body,
    digest::{digest_like, digest_of, is_digest},
};

/// The specification allows a registry to reject larger manifests.
const MAX: usize = 4 << 20;

/// The tags that a push by digest has set, as the specification after 1.1 describes it.
const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");

const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

impl Registry {
    pub(super) fn get_manifest(&self, parts: &request::Parts, name: &str, reference: &str) -> Answer {
        let store = self.store();
        let repository = store.repositories.get(name).ok_or_else(|| RegistryError::no_repository(name))?;
        let manifest = repository.manifest(reference).ok_or_else(|| RegistryError::no_manifest(reference))?;
        let etag = format!("\"{}\"", manifest.digest);
        let known = parts.headers.get(header::IF_NONE_MATCH);
        let mut response = if known.is_some_and(|known| known.as_bytes() == etag.as_bytes()) {
            empty(304)
        } else {
            empty(200)
        };
        set(&mut response, header::ETAG, &etag);
        set(&mut response, CONTENT_DIGEST, &manifest.digest);
        if response.status() == 200 {
            set(&mut response, header::CONTENT_TYPE, &manifest.media_type);
            set(&mut response, header::CONTENT_LENGTH, &manifest.bytes.len().to_string());
            if parts.method == Method::GET {
                *response.body_mut() = manifest.bytes.clone().into();
            }
        }
        Ok(response)
    }

    pub(super) async fn put(
        &self,
        parts: &request::Parts,
        name: &str,
        reference: &str,
        body: Body,
    ) -> Answer {
        let invalid = |message: &str| RegistryError::new(400, "MANIFEST_INVALID", message);
        let bytes =
            body.bytes().await.map_err(|_| invalid("the request body ended before it was complete"))?;
        let media_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        // A push by digest may set tags at the same time.
        let tags: Vec<String> = if reference.contains(':') && !self.options.ecr {
            query_all(parts, "tag").collect()
        } else {
            Vec::new()
        };
        if let Some(tag) = tags.iter().find(|tag| !is_tag(tag)) {
            return Err(RegistryError::new(400, "TAG_INVALID", format!("invalid tag: {tag}")));
        }
        let stored = self.push_manifest(name, reference, media_type.unwrap_or_default(), bytes)?;
        self.set_tags(name, &tags, &stored.digest)?;
        let mut response = empty(201);
        for tag in &tags {
            if let Ok(tag) = tag.parse() {
                response.headers_mut().append(OCI_TAG, tag);
            }
        }
        set(&mut response, header::CONTENT_LENGTH, "0");
        set(&mut response, CONTENT_DIGEST, &stored.digest);
        if !self.options.ecr {
            set(&mut response, header::LOCATION, &format!("/v2/{name}/manifests/{}", stored.digest));
        }
        let subject = Document::read(&stored.bytes).and_then(|document| document.subject);
        if let Some(subject) = subject.filter(|_| self.options.referrers) {
            set(&mut response, OCI_SUBJECT, &subject.digest);
        }
        Ok(response)
    }

    /// Stores a manifest under a tag or its digest, like a push: everything that it refers to must exist.
    pub(crate) fn push_manifest(
        &self,
        name: &str,
        reference: &str,
        media_type: &str,
        bytes: bytes::Bytes,
    ) -> Result<Manifest, RegistryError> {
        let invalid = |message: String| RegistryError::new(400, "MANIFEST_INVALID", message);
        if bytes.len() > MAX {
            return Err(RegistryError::new(413, "SIZE_INVALID", "the manifest is larger than 4 MiB"));
        }
        let document =
            Document::read(&bytes).ok_or_else(|| invalid("the body is not a valid manifest".to_owned()))?;
        let declared = document.media_type.as_deref();
        let media_type = match (media_type.split(';').next().unwrap_or_default().trim(), declared) {
            ("", None) => return Err(invalid("it has no media type".to_owned())),
            ("", Some(declared)) => declared,
            (sent, Some(declared)) if sent != declared => {
                return Err(invalid(format!("sent as {sent}, but its mediaType is {declared}")));
            }
            (sent, _) => sent,
        };
        if document.subject.is_some() && self.options.refuses_subjects {
            return Err(RegistryError::new(405, "UNSUPPORTED", "The operation is unsupported."));
        }
        let by_tag = !reference.contains(':');
        if !by_tag && !is_digest(reference) {
            return Err(RegistryError::bad_digest(format!("invalid digest: {reference}")));
        }
        let digest = if by_tag { digest_of(&bytes) } else { digest_like(reference, &bytes) };
        let tag = by_tag.then_some(reference);
        match tag {
            None if digest != reference => {
                return Err(RegistryError::bad_digest("the digest does not match the manifest"));
            }
            Some(tag) if !is_tag(tag) => {
                return Err(RegistryError::new(400, "TAG_INVALID", format!("invalid tag: {tag}")));
            }
            _ => {}
        }
        let now = self.clock.now();
        let creates = self.options.create_on_push || self.creation_template(name).is_some();
        if creates && !self.store().repositories.contains_key(name) {
            // A rejected push does not create the repository.
            self.check_references(&Repository::new(now), &document)?;
        }
        self.repository_for_push(name)?;
        let mut store = self.store();
        let repository =
            store.repositories.get_mut(name).ok_or_else(|| RegistryError::no_repository(name))?;
        self.check_references(repository, &document)?;
        if let Some(tag) = tag {
            self.check_tag(name, repository, tag, &digest)?;
            repository.tags.insert(tag.to_owned(), digest.clone());
        }
        let manifest =
            Manifest { digest: digest.clone(), media_type: media_type.to_owned(), bytes, pushed_at: now };
        // A manifest that is pushed again keeps the time of its first push, and is restored if it was archived.
        repository.archived.remove(&digest);
        let stored = repository.manifests.entry(digest).or_insert(manifest).clone();
        #[cfg(feature = "aws")]
        self.replicate(name, repository, tag, &stored);
        Ok(stored)
    }

    /// Sets the tags of a manifest that was pushed by digest; none if one of them cannot be moved.
    fn set_tags(&self, name: &str, tags: &[String], digest: &str) -> Result<(), RegistryError> {
        let mut store = self.store();
        let repository =
            store.repositories.get_mut(name).ok_or_else(|| RegistryError::no_repository(name))?;
        for tag in tags {
            self.check_tag(name, repository, tag, digest)?;
        }
        repository.tags.extend(tags.iter().map(|tag| (tag.clone(), digest.to_owned())));
        Ok(())
    }

    /// Checks that everything that the manifest refers to exists, except its subject.
    fn check_references(&self, repository: &Repository, document: &Document) -> Result<(), RegistryError> {
        let unknown = |digest: &str| {
            if self.options.ecr {
                RegistryError::new(404, "BLOB_UNKNOWN", format!("blob unknown to registry: {digest}"))
            } else {
                RegistryError::new(
                    400,
                    "MANIFEST_BLOB_UNKNOWN",
                    format!("blob unknown to registry: {digest}"),
                )
            }
        };
        if !self.options.reference_validation {
            return Ok(());
        }
        let visible_before = self.clock.now() - self.options.validator_lag;
        for blob in document.blobs() {
            match repository.blobs.get(&blob.digest) {
                Some(link) if link.since <= visible_before => {}
                _ => return Err(unknown(&blob.digest)),
            }
        }
        // The entries of a build cache's index are blobs. An archived child does not count: the index could not be pulled.
        // Whether ECR rejects it too is not documented.
        let exists = |digest| repository.manifest(digest).is_some() || repository.blobs.contains_key(digest);
        match document.manifests.iter().find(|child| !exists(&child.digest)) {
            Some(missing) => Err(unknown(&missing.digest)),
            None => Ok(()),
        }
    }

    fn check_tag(
        &self,
        name: &str,
        repository: &Repository,
        tag: &str,
        digest: &str,
    ) -> Result<(), RegistryError> {
        let Some(current) = repository.tags.get(tag) else { return Ok(()) };
        if !repository.mutability.as_ref().unwrap_or(&self.options.mutability).is_immutable(tag) {
            return Ok(());
        }
        // ECR also rejects a push that would not change the tag.
        if self.options.ecr {
            Err(RegistryError::new(
                400,
                "TAG_INVALID",
                format!(
                    "The image tag '{tag}' already exists in the '{name}' repository and cannot be overwritten \
                     because the tag is immutable."
                ),
            ))
        } else if current == digest {
            Ok(())
        } else {
            Err(RegistryError::new(
                412,
                "PRECONDITION",
                format!("Failed to process request due to '{tag}' configured as immutable."),
            ))
        }
    }

    pub(super) fn delete_manifest(&self, name: &str, reference: &str) -> Answer {
        match self.remove(name, reference) {
            Some(true) => Ok(empty(202)),
            Some(false) => Err(RegistryError::no_manifest(reference)),
            None => Err(RegistryError::no_repository(name)),
        }
    }

    /// Removes a tag, or a manifest with all its tags. `None` when the repository does not exist, `false` when the tag
    /// or manifest does not.
    pub(crate) fn remove(&self, name: &str, reference: &str) -> Option<bool> {
        let mut store = self.store();
        let repository = store.repositories.get_mut(name)?;
        if !reference.contains(':') {
            return Some(repository.tags.remove(reference).is_some());
        }
        repository.tags.retain(|_, digest| digest != reference);
        Some(repository.manifests.remove(reference).is_some())
    }
}
