//! Referrers of a manifest, through the referrers API or the fallback tag, and cosign's tags.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicU32, Ordering},
};

use ::http::{HeaderName, Method};
use bp_artifact::{Digest, Tag, media_type::OCI_INDEX, sync::lock};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    RegistryError, RepositoryClient,
    lists::{Pages, list_retries, optional_list_retries},
};
use crate::{
    content::{Descriptor, Manifest, Reference, null_as_default, object},
    retry::{Retries, Transient as _},
};

const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

#[derive(Deserialize)]
struct List {
    /// An index has this member. A registry without the API may respond with another object.
    #[serde(deserialize_with = "null_as_default")]
    manifests: Vec<Descriptor>,
}

/// Why there is no list of the referrers API.
enum Unlisted {
    /// The API responded with something else than an index: its lists are not available.
    NoIndex(RegistryError),
    /// The list exists, but could not be read.
    Failed(RegistryError),
}

impl RepositoryClient {
    /// The manifests whose subject is `subject`, from the referrers API. If its response is not an index, for whatever
    /// reason, they are read from the fallback tag: the API is optional.
    ///
    /// # Errors
    /// When the registry is unavailable, or the list is truncated, corrupted or too large.
    ///
    /// # Permissions
    /// Pull. On Amazon ECR: `ecr:BatchGetImage`, `ecr:ListImages`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, RegistryError> {
        if self.host.has_referrers(&self.repository) == Some(false) {
            return self.fallback(subject).await;
        }
        let error = match self.listed(subject).await {
            Ok(listed) => return Ok(listed),
            Err(Unlisted::Failed(error)) => return Err(error),
            Err(Unlisted::NoIndex(error)) => error,
        };
        match &error {
            // Not an answer about the API, but about this manifest or a repository that does not exist.
            RegistryError::NotFound { errors, .. }
                if errors.has("MANIFEST_UNKNOWN") || errors.has("NAME_UNKNOWN") => {}
            RegistryError::NotFound { .. } => self.host.note_referrers(&self.repository, false),
            error => {
                // Concurrent requests may have failed too.
                if self.host.has_referrers(&self.repository) != Some(false) {
                    let repository = &self.repository;
                    self.warn(format!(
                        "the referrers API of {repository} is not available, reading fallback tags: {error}"
                    ));
                }
                self.host.note_referrers(&self.repository, false);
            }
        }
        self.fallback(subject).await
    }

    async fn listed(&self, subject: &Digest) -> Result<Vec<Descriptor>, Unlisted> {
        let first = self.host.call(Method::GET, self.path(format_args!("referrers/{subject}")));
        let mut pages = Pages::from(first);
        let (mut found, mut is_index) = (Vec::new(), false);
        while let Some(at) = pages.next() {
            let failures = Failures::default();
            let retries = failures.retries();
            let page = self.read_page::<List>(&self.pull, &at, "it is not an index", retries).await;
            let page = page.map_err(|error| match &error {
                _ if is_index => Unlisted::Failed(error),
                // Any other server error is transient.
                RegistryError::Unavailable { status, .. }
                    if *status != 501
                        && (self.host.has_referrers(&self.repository) == Some(true)
                            || !failures.are_permanent()) =>
                {
                    Unlisted::Failed(error)
                }
                RegistryError::NotFound { .. } => Unlisted::NoIndex(error),
                _ if error.is_refusal() => Unlisted::NoIndex(error),
                _ => Unlisted::Failed(error),
            })?;
            is_index = true;
            self.host.note_referrers(&self.repository, true);
            let entries = page.list.manifests.len();
            found.extend(pages.read(&at, page, entries).map_err(Unlisted::Failed)?.manifests);
        }
        Ok(found)
    }

    async fn fallback(&self, subject: &Digest) -> Result<Vec<Descriptor>, RegistryError> {
        let tag = fallback_tag(subject);
        if self.known_tags().await.is_some_and(|known| !known.contains(&tag)) {
            return Ok(Vec::new());
        }
        match self.manifest(&Reference::Tag(tag)).await {
            // Some registries resolve such a tag to the subject itself.
            Ok(index) if index.digest == *subject => Ok(Vec::new()),
            // The tag may point to an image that has nothing to do with referrers.
            Ok(index) => Ok(index.links().map(|links| links.manifests).unwrap_or_default()),
            Err(RegistryError::NotFound { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// The cosign tags of `subject` that exist.
    ///
    /// # Errors
    /// When the tags cannot be listed.
    ///
    /// # Permissions
    /// Pull. On Amazon ECR: `ecr:ListImages`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn attached_tags(&self, subject: &Digest) -> Result<Vec<Tag>, RegistryError> {
        let base = fallback_tag(subject);
        let names = ["sig", "att", "sbom"].map(|kind| format!("{base}.{kind}"));
        let tags = names.iter().filter_map(|name| name.parse::<Tag>().ok());
        if let Some(known) = self.known_tags().await {
            return Ok(tags.filter(|tag| known.contains(tag)).collect());
        }
        // Some registries answer HEAD with 404 although the tag exists: the subject shows whether this one does.
        let by_digest = Reference::Digest(subject.clone());
        if self.host.is_head_unproven() && self.head(&by_digest).await?.is_none() {
            self.confirm_head(&by_digest).await?;
        }
        let mut found = Vec::new();
        for tag in tags {
            if self.head(&Reference::Tag(tag.clone())).await?.is_some() {
                found.push(tag);
            }
        }
        Ok(found)
    }

    /// All tags, listed once for this client and its clones. `None` if they cannot be listed, or are too many: then each
    /// tag is requested separately.
    async fn known_tags(&self) -> Option<&HashSet<Tag>> {
        /// Listing more takes more requests than it saves.
        const PAGES: usize = 10;
        let list = || async {
            match self.listed_tags(PAGES, optional_list_retries).await {
                Ok(tags) => self.if_complete(tags.unwrap_or_default().into_iter().collect()),
                // Permission to pull does not imply permission to list.
                Err(
                    RegistryError::Denied { .. }
                    | RegistryError::Unauthorized { .. }
                    | RegistryError::NotFound { .. }
                    | RegistryError::Limit { .. },
                ) => None,
                Err(error) => {
                    let repository = &self.repository;
                    self.warn(format!(
                        "the tags of {repository} cannot be listed, requesting each tag separately: {error}"
                    ));
                    None
                }
            }
        };
        self.known_tags.get_or_init(list).await.as_ref()
    }

    /// The listed tags, unless a tag that was read is missing: a pull-through cache lists only the tags that it has cached.
    fn if_complete(&self, tags: HashSet<Tag>) -> Option<HashSet<Tag>> {
        let missing = lock(&self.read_tags).iter().find(|tag| !tags.contains(*tag)).cloned();
        match missing {
            Some(tag) => {
                let repository = &self.repository;
                self.warn(format!(
                    "the list of tags of {repository} is incomplete, requesting each tag separately: \
                     it does not contain {tag}"
                ));
                None
            }
            None => Some(tags),
        }
    }

    /// Stores a manifest. If it refers to a subject, it is also listed as its referrer.
    pub(super) async fn put_listed(
        &self,
        reference: &Reference,
        manifest: &Manifest,
    ) -> Result<(), RegistryError> {
        if let Some(subject) = manifest.subject() {
            // Before a tag makes it visible.
            self.put_referrer(&subject, manifest).await?;
            if matches!(reference, Reference::Digest(_)) {
                return Ok(());
            }
        }
        self.put_manifest(reference, manifest).await
    }

    /// Stores a manifest that refers to `subject`. If the registry does not maintain lists of referrers itself, the
    /// manifest is added to the list under the fallback tag.
    ///
    /// # Errors
    /// When the registry rejects the manifest, is unavailable or denies access, or the fallback tag does not point to
    /// an index.
    ///
    /// # Permissions
    /// Pull and push. On Amazon ECR: `ecr:BatchGetImage`, `ecr:PutImage`.
    ///
    /// # Cancel safety
    /// After cancellation it may be stored but not listed; calling it again lists it.
    pub async fn put_referrer(&self, subject: &Digest, manifest: &Manifest) -> Result<(), RegistryError> {
        let headers = self.put(&Reference::Digest(manifest.digest.clone()), manifest).await?;
        if headers.contains_key(OCI_SUBJECT) {
            self.host.note_referrers(&self.repository, true);
            return Ok(());
        }
        // Serialises read-modify-write of the list within this process.
        let mut written = self.lists.lock().await;
        let name = fallback_tag(subject);
        let tag = Reference::Tag(name.clone());
        let mut found = None;
        let empty = || {
            Map::from_iter([
                ("schemaVersion".to_owned(), json!(2)),
                ("mediaType".to_owned(), json!(OCI_INDEX)),
                ("manifests".to_owned(), json!([])),
            ])
        };
        let mut index: Map<String, Value> = match self.manifest(&tag).await {
            // Some registries resolve such a tag to the subject itself.
            Ok(list) if list.digest == *subject => empty(),
            Ok(list) => object(&found.insert(list).bytes).unwrap_or_default(),
            Err(RegistryError::NotFound { .. }) => empty(),
            Err(error) => return Err(error),
        };
        if let Some(list @ Value::Null) = index.get_mut("manifests") {
            *list = json!([]);
        }
        let at = || self.host.call(Method::PUT, self.path(format_args!("manifests/{tag}"))).at;
        let Some(Value::Array(entries)) = index.get_mut("manifests") else {
            let reason = format!("{tag} is not an index, so the referrer cannot be added to it");
            return Err(RegistryError::Protocol { at: at(), reason });
        };
        if entries.iter().any(|entry| entry["digest"] == manifest.digest.as_str()) {
            return Ok(());
        }
        if let Some(found) = found.filter(|found| self.keeps_lists && !written.contains(&found.digest)) {
            return Err(RegistryError::ListTaken { at: at(), tag: name, found: found.digest });
        }
        entries.push(entry(manifest));
        let bytes = Bytes::from(Value::Object(index).to_string());
        let list = Manifest { media_type: OCI_INDEX.to_owned(), digest: Digest::sha256(&bytes), bytes };
        self.put_manifest(&tag, &list).await?;
        written.insert(list.digest);
        Ok(())
    }
}

/// The failed attempts to read a list, to distinguish an API that is not available from transient server errors.
#[derive(Default)]
struct Failures {
    attempts: AtomicU32,
    /// How many of the last attempts failed with the same server error.
    same: AtomicU32,
}

impl Failures {
    /// The number of successive attempts with the same server error after which it is not retried.
    const MOST: u32 = 4;

    fn retries(&self) -> impl FnMut(&RegistryError) -> Retries {
        let mut last = None;
        move |error| {
            self.attempts.fetch_add(1, Ordering::Relaxed);
            let RegistryError::Unavailable { status, .. } = error else {
                last = None;
                return list_retries(error);
            };
            let same =
                if last == Some(*status) { self.same.load(Ordering::Relaxed).saturating_add(1) } else { 1 };
            last = Some(*status);
            self.same.store(same, Ordering::Relaxed);
            if same < Self::MOST { error.retries() } else { Retries::Never }
        }
    }

    /// Whether the last attempts, or all of a few, failed with the same server error.
    fn are_permanent(&self) -> bool {
        let (same, attempts) = (self.same.load(Ordering::Relaxed), self.attempts.load(Ordering::Relaxed));
        same >= Self::MOST || same >= Self::MOST - 1 && same == attempts
    }
}

/// `sha256-<hex>`, the fallback tag that lists the referrers of a digest.
fn fallback_tag(subject: &Digest) -> Tag {
    // A longer digest is truncated to the maximum length of a tag.
    let name = format!("{}-{}", subject.algorithm().name(), subject.hex());
    let name = name.get(..128).unwrap_or(&name);
    name.parse().expect("a name of letters, digits and a dash")
}

/// The entry of a referrer in the list: its descriptor with artifact type and annotations.
fn entry(manifest: &Manifest) -> Value {
    let document: Value = serde_json::from_slice(&manifest.bytes).unwrap_or_default();
    let kinds = ["/artifactType", "/config/mediaType"].into_iter().filter_map(|at| document.pointer(at));
    let kind = kinds.into_iter().find(|kind| kind.as_str().is_some_and(|kind| !kind.is_empty()));
    let annotations = document.get("annotations").filter(|annotations| annotations.is_object());
    let fields = [
        ("mediaType", Some(json!(manifest.media_type))),
        ("digest", Some(json!(manifest.digest))),
        ("size", Some(json!(manifest.bytes.len()))),
        ("artifactType", kind.cloned()),
        ("annotations", annotations.cloned()),
    ];
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_have_artifact_type_and_annotations() {
        let bytes: Bytes =
            r#"{"artifactType":"","config":{"mediaType":"a/sbom"},"annotations":{"k":"v"}}"#.into();
        let manifest = Manifest::read(Some("m/t"), None, bytes).unwrap();
        let entry = entry(&manifest);
        assert_eq!(entry["artifactType"], "a/sbom");
        assert_eq!(entry["annotations"]["k"], "v");
        assert_eq!(entry["digest"], manifest.digest.as_str());
    }

    #[test]
    fn fallback_tags_are_valid_tags() {
        assert!(fallback_tag(&Digest::sha256("x")).as_str().starts_with("sha256-2d7116"));
        let long = Digest::of(bp_artifact::digest::Algorithm::Sha512, "x");
        assert_eq!(fallback_tag(&long).as_str().len(), 128);
    }
}
