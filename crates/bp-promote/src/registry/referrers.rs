//! Referrers of a manifest, through the referrers API or the fallback tag, and cosign's tags.

use std::collections::HashSet;

use ::http::{HeaderName, Method};
use bp_artifact::{Digest, Tag, media_type::OCI_INDEX};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{RegistryError, RepositoryClient, lists::Pages};
use crate::content::{Descriptor, Manifest, Reference, null_as_default, object};

const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

#[derive(Deserialize)]
struct List {
    #[serde(default, deserialize_with = "null_as_default")]
    manifests: Vec<Descriptor>,
}

impl RepositoryClient {
    /// The manifests whose subject is `subject`, from the referrers API or, if the registry does not have it, from the
    /// fallback tag.
    ///
    /// # Errors
    /// When the registry is unavailable, denies access, or returns something other than an index.
    ///
    /// # Permissions
    /// Pull. On Amazon ECR: `ecr:BatchGetImage`, `ecr:ListImages`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, RegistryError> {
        match self.host.has_referrers() {
            Some(false) => self.fallback(subject).await,
            _ => match self.listed(subject).await {
                Err(RegistryError::NotFound { errors, .. }) if errors.has("NAME_UNKNOWN") => Ok(Vec::new()),
                Err(RegistryError::NotFound { .. }) => {
                    // A registry with the API never responds with 404: do not ask again.
                    self.host.note_referrers(false);
                    self.fallback(subject).await
                }
                other => other,
            },
        }
    }

    async fn listed(&self, subject: &Digest) -> Result<Vec<Descriptor>, RegistryError> {
        let mut pages =
            Pages::from(self.host.call(Method::GET, self.path(format_args!("referrers/{subject}"))));
        let mut found = Vec::new();
        while let Some(at) = pages.next() {
            let page = self.read_page::<List>(&self.pull, &at, "it is not an index").await?;
            self.host.note_referrers(true);
            let entries = page.list.manifests.len();
            found.extend(pages.read(&at, page, entries)?.manifests);
        }
        Ok(found)
    }

    async fn fallback(&self, subject: &Digest) -> Result<Vec<Descriptor>, RegistryError> {
        let tag = fallback_tag(subject);
        if self.known_tags().await?.as_ref().is_some_and(|known| !known.contains(&tag)) {
            return Ok(Vec::new());
        }
        match self.manifest(&Reference::Tag(tag)).await {
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
        if let Some(known) = self.known_tags().await? {
            return Ok(tags.filter(|tag| known.contains(tag)).collect());
        }
        let mut found = Vec::new();
        for tag in tags {
            if self.head(&Reference::Tag(tag.clone())).await?.is_some() {
                found.push(tag);
            }
        }
        Ok(found)
    }

    /// All tags, listed once for this client and its clones. `None` if they cannot be listed.
    async fn known_tags(&self) -> Result<&Option<HashSet<Tag>>, RegistryError> {
        let list = || async {
            match self.tags().await {
                Ok(tags) => Ok(Some(tags.into_iter().collect())),
                // Request each tag separately instead.
                Err(
                    RegistryError::Denied { .. }
                    | RegistryError::Unauthorized { .. }
                    | RegistryError::Refused { .. }
                    | RegistryError::Protocol { .. }
                    | RegistryError::Limit { .. },
                ) => Ok(None),
                Err(error) => Err(error),
            }
        };
        self.known_tags.get_or_try_init(list).await
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
            self.host.note_referrers(true);
            return Ok(());
        }
        // Serialises read-modify-write of the list within this process.
        let mut written = self.lists.lock().await;
        let name = fallback_tag(subject);
        let tag = Reference::Tag(name.clone());
        let mut found = None;
        let mut index: Map<String, Value> = match self.manifest(&tag).await {
            Ok(list) => object(&found.insert(list).bytes).unwrap_or_default(),
            Err(RegistryError::NotFound { .. }) => Map::from_iter([
                ("schemaVersion".to_owned(), json!(2)),
                ("mediaType".to_owned(), json!(OCI_INDEX)),
                ("manifests".to_owned(), json!([])),
            ]),
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

/// `sha256-<hex>`, the fallback tag that lists the referrers of a digest.
fn fallback_tag(subject: &Digest) -> Tag {
    // A longer digest is truncated to the maximum length of a tag.
    let name = format!("{}-{}", subject.algorithm().name(), subject.hex());
    name[..name.len().min(128)].parse().expect("a name of letters, digits and a dash")
}

/// The entry of a referrer in the list: its descriptor with artifact type and annotations.
fn entry(manifest: &Manifest) -> Value {
    let document: Value = serde_json::from_slice(&manifest.bytes).unwrap_or_default();
    let mut entry = json!({
        "mediaType": manifest.media_type,
        "digest": manifest.digest,
        "size": manifest.bytes.len(),
    });
    let kind = [&document["artifactType"], &document["config"]["mediaType"]];
    if let Some(kind) = kind.into_iter().find(|kind| kind.as_str().is_some_and(|kind| !kind.is_empty())) {
        entry["artifactType"] = kind.clone();
    }
    if document["annotations"].is_object() {
        entry["annotations"] = document["annotations"].clone();
    }
    entry
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
