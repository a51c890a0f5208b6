//! Paginated lists: tags, repositories, referrers.

use http::{HeaderName, header, request};
use serde_json::{Value, json};

use super::{
    Registry,
    document::{Descriptor, Document},
    error::{self, Answer, RegistryError, set},
    route::query,
    store::Manifest,
};
use crate::digest::is_digest;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

impl Registry {
    pub(super) fn list_tags(&self, parts: &request::Parts, name: &str) -> Answer {
        let store = self.store();
        let repository = store.repositories.get(name).ok_or_else(|| RegistryError::no_repository(name))?;
        let tags: Vec<String> = repository.tags.keys().cloned().collect();
        let (tags, next) = self.page(parts, tags, |tag| tag)?;
        Ok(linked(json!({ "name": name, "tags": tags }), parts.uri.path(), next))
    }

    pub(super) fn catalog(&self, parts: &request::Parts) -> Answer {
        let (names, next) = self.page(parts, self.repositories(), |name| name)?;
        Ok(linked(json!({ "repositories": names }), parts.uri.path(), next))
    }

    pub(super) fn list_referrers(&self, parts: &request::Parts, name: &str, digest: &str) -> Answer {
        if !self.options.referrers {
            return Err(RegistryError::new(404, "NOT_FOUND", "no such path"));
        }
        if !is_digest(digest) {
            return Err(RegistryError::bad_digest(format!("invalid digest: {digest}")));
        }
        let wanted = query(parts, "artifactType");
        let store = self.store();
        let manifests = store.repositories.get(name).map(|repository| repository.manifests.values());
        let referrers: Vec<Descriptor> = manifests
            .into_iter()
            .flatten()
            .filter_map(|manifest| describe(manifest, digest))
            .filter(|referrer| wanted.is_none() || referrer.artifact_type == wanted)
            .collect();
        let (referrers, next) = self.page(parts, referrers, |referrer| &referrer.digest)?;
        let list = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": referrers });
        let next = next.map(|next| match &wanted {
            Some(wanted) => format!("{next}&artifactType={}", encode(wanted)),
            None => next,
        });
        let mut response = linked(list, parts.uri.path(), next);
        set(&mut response, header::CONTENT_TYPE, INDEX);
        if wanted.is_some() {
            set(&mut response, HeaderName::from_static("oci-filters-applied"), "artifactType");
        }
        Ok(response)
    }

    /// The page after `last` with at most `n` items, and the query of the next page.
    fn page<T>(
        &self,
        parts: &request::Parts,
        mut items: Vec<T>,
        key: impl Fn(&T) -> &String,
    ) -> Result<(Vec<T>, Option<String>), RegistryError> {
        let requested = match query(parts, "n") {
            None => self.options.page_size,
            Some(n) => n.parse().map_err(|_| {
                RegistryError::new(400, "PAGINATION_NUMBER_INVALID", format!("invalid n: {n}"))
            })?,
        };
        let size = requested.min(self.options.page_size);
        if let Some(last) = query(parts, "last") {
            items.retain(|item| *key(item) > last);
        }
        let more = items.len() > size && size > 0;
        items.truncate(size);
        let next = items.last().filter(|_| more).map(|item| format!("last={}&n={size}", encode(key(item))));
        Ok((items, next))
    }
}

/// The descriptor of a manifest whose subject is `digest`.
fn describe(manifest: &Manifest, digest: &str) -> Option<Descriptor> {
    let document = Document::read(&manifest.bytes)?;
    document.subject.as_ref().filter(|subject| subject.digest == digest)?;
    Some(Descriptor::of(&manifest.media_type, &manifest.digest, manifest.bytes.len() as u64, &document))
}

fn linked(list: Value, path: &str, next: Option<String>) -> http::Response<crate::Body> {
    let mut response = error::json(200, &list);
    if let Some(next) = next {
        set(&mut response, header::LINK, &format!("<{path}?{next}>; rel=\"next\""));
    }
    response
}

fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
