//! Paginated lists: tags, and limits for lists of any kind.

use std::collections::HashSet;

use ::http::{Method, header};
use bp_artifact::{Tag, text::SingleLine};
use bytes::Bytes;
use serde::{Deserialize, de::DeserializeOwned};
use url::Url;

use super::{
    RegistryError, RepositoryClient,
    auth::Scope,
    http::{Call, MAX_ANSWER, answered_by},
    origin::origin_of,
};
use crate::{
    content::{null_as_default, object},
    retry::{Retries, Transient as _, notify_observer},
    store::RepositoryState,
};

#[derive(Deserialize)]
struct Tags {
    #[serde(default, deserialize_with = "null_as_default")]
    tags: Vec<String>,
}

/// A page of a list.
pub(super) struct Page<T> {
    pub(super) list: T,
    /// Its size in bytes.
    size: usize,
    /// The request for the next page.
    next: Result<Option<Call>, RegistryError>,
}

/// Iterates over the pages of a list, within limits, since all entries are held in memory.
pub(super) struct Pages {
    next: Option<Call>,
    seen: HashSet<Url>,
    entries: usize,
    bytes: usize,
    most: usize,
}

impl Pages {
    pub(super) const PAGES: usize = 10_000;
    const ENTRIES: usize = 1_000_000;
    const BYTES: usize = 64 << 20;

    /// The pages of the list that starts with this request.
    pub(super) fn from(first: Call) -> Self {
        let seen = HashSet::from([first.url().clone()]);
        Pages { seen, next: Some(first), entries: 0, bytes: 0, most: Self::PAGES }
    }

    /// Reads at most this number of pages.
    pub(super) fn at_most(self, most: usize) -> Self {
        Pages { most, ..self }
    }

    /// The request for the next page.
    pub(super) fn next(&mut self) -> Option<Call> {
        self.next.take()
    }

    /// Counts a page with this number of entries, and returns its content.
    pub(super) fn read<T>(&mut self, at: &Call, page: Page<T>, entries: usize) -> Result<T, RegistryError> {
        self.entries = self.entries.saturating_add(entries);
        let next = page.next?;
        let link = next.as_ref().map_or(0, |next| next.url().as_str().len());
        self.bytes = self.bytes.saturating_add(page.size).saturating_add(link);
        let is_repeated = next.as_ref().is_some_and(|next| !self.seen.insert(next.url().clone()));
        let limit = if is_repeated {
            "the Link to the next page repeats an earlier page".to_owned()
        } else if self.entries > Self::ENTRIES {
            format!("the list has more than {} entries", Self::ENTRIES)
        } else if self.bytes > Self::BYTES {
            format!("the list has more than {} bytes", Self::BYTES)
        } else if self.seen.len() > self.most {
            format!("the list has more than {} pages", self.most)
        } else {
            self.next = next;
            return Ok(page.list);
        };
        Err(RegistryError::Limit { at: at.at.clone(), limit })
    }
}

impl RepositoryClient {
    /// All tags of the repository, in the registry's order.
    ///
    /// # Errors
    /// When the repository does not exist, the registry is unavailable, or denies access.
    ///
    /// # Permissions
    /// Pull. On Amazon ECR: `ecr:ListImages`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn tags(&self) -> Result<Vec<Tag>, RegistryError> {
        self.all_tags(Pages::PAGES, list_retries).await
    }

    /// All tags, or `None` if the repository does not exist. A 404 response that does not say so is an error: the
    /// registry may have no such list.
    pub(super) async fn listed_tags(
        &self,
        most_pages: usize,
        retries: impl Fn(&RegistryError) -> Retries,
    ) -> Result<Option<Vec<Tag>>, RegistryError> {
        match self.all_tags(most_pages, retries).await {
            Err(RegistryError::NotFound { errors, .. }) if errors.has("NAME_UNKNOWN") => Ok(None),
            listed => listed.map(Some),
        }
    }

    async fn all_tags(
        &self,
        most_pages: usize,
        retries: impl Fn(&RegistryError) -> Retries,
    ) -> Result<Vec<Tag>, RegistryError> {
        let list = |query: &str| {
            let first = self.host.call(Method::GET, self.path(format_args!("tags/list{query}")));
            Pages::from(first).at_most(most_pages)
        };
        let mut pages = list("?n=1000");
        let mut is_sized = true;
        let mut tags = Vec::new();
        while let Some(at) = pages.next() {
            let page = self.read_page::<Tags>(&self.pull, &at, "it is not a list of tags", &retries).await;
            let is_first = std::mem::take(&mut is_sized);
            let page = match page {
                // Some registries reject pages of that size.
                Err(RegistryError::Refused { status: 400 | 416 | 422, .. }) if is_first => {
                    pages = list("");
                    continue;
                }
                page => page?,
            };
            let entries = page.list.tags.len();
            let list = pages.read(&at, page, entries)?;
            // Ignore invalid tags: they could not be requested either.
            tags.extend(list.tags.iter().filter_map(|tag| tag.parse::<Tag>().ok()));
        }
        Ok(tags)
    }

    /// The state of the repository, from the first page of its tags. If they cannot be listed, everything is checked.
    pub(super) async fn state(&self) -> RepositoryState {
        let call = self.host.call(Method::GET, self.path("tags/list?n=1"));
        match self
            .read_page::<Tags>(&self.push, &call, "it is not a list of tags", optional_list_retries)
            .await
        {
            Ok(page) if page.list.tags.is_empty() => RepositoryState::Untagged,
            Ok(_) => RepositoryState::Tagged,
            Err(RegistryError::NotFound { errors, .. }) if errors.has("NAME_UNKNOWN") => {
                self.state_without_tags()
            }
            Err(error) => {
                let error = SingleLine(&error);
                tracing::debug!(%error, "failed to list a tag: checking all content");
                RepositoryState::Tagged
            }
        }
    }

    /// The state of a repository without tags: untagged if the journal has an entry for it, otherwise empty.
    pub(super) fn state_without_tags(&self) -> RepositoryState {
        let begun = |journal: &crate::Journal| journal.has_begun(&self.repository.to_string());
        if self.client.0.journal.as_ref().is_some_and(begun) {
            RepositoryState::Untagged
        } else {
            RepositoryState::Empty
        }
    }

    /// Reads a page of a list. A truncated or invalid page is requested again, since lists have no digest to detect
    /// corruption.
    pub(super) async fn read_page<T: DeserializeOwned>(
        &self,
        scope: &Scope,
        page: &Call,
        malformed: &str,
        retries: impl FnMut(&RegistryError) -> Retries,
    ) -> Result<Page<T>, RegistryError> {
        let unreadable = |_| RegistryError::Protocol { at: page.at.clone(), reason: malformed.to_owned() };
        let read = || async {
            let answer = self.client.attempt(self.context(scope), page, Bytes::new(), &[200]);
            let (parts, body) = answer.await?.into_parts();
            let body = self.client.0.http.collect(&page.at, body, MAX_ANSWER).await?;
            Ok((object(&body).map_err(unreadable)?, body.len(), parts))
        };
        let (list, size, parts) =
            self.client.0.retry.run_when(retries, notify_observer(self.observer.as_ref()), read).await?;
        let links = parts.headers.get_all(header::LINK).iter().filter_map(|link| link.to_str().ok());
        let from = answered_by(&parts.extensions).unwrap_or(page.url());
        let next = links.filter_map(next_link).next().map(|link| self.next_page(page, from, link));
        Ok(Page { list, size, next: next.transpose() })
    }

    /// The request for the next page. A list that continues at another host is rejected: the login is not sent there,
    /// and an incomplete list must not be treated as the whole. If the registry has redirected to another host, `from`,
    /// the list continues there, without the login.
    fn next_page(&self, page: &Call, from: &Url, link: &str) -> Result<Call, RegistryError> {
        let invalid = |reason: &str| RegistryError::Protocol {
            at: page.at.clone(),
            reason: format!("the Link to the next page {reason}"),
        };
        let url = page.read_url(link, from, &self.client.0.http.endpoints).map_err(invalid)?;
        let elsewhere = format!("points to another host, {}", origin_of(&url));
        let continues = url.origin() == from.origin();
        let next = page.clone().moved_to(url);
        if continues || next.is_same_origin() { Ok(next) } else { Err(invalid(&elsewhere)) }
    }
}

/// How often a list is requested again. It may have been corrupted in transfer.
pub(super) fn list_retries(error: &RegistryError) -> Retries {
    match error {
        RegistryError::Protocol { .. } => Retries::AtMost(2),
        error => error.retries(),
    }
}

/// The same for a list that the copy does not require.
pub(super) fn optional_list_retries(error: &RegistryError) -> Retries {
    match list_retries(error) {
        Retries::ByPolicy => Retries::AtMost(3),
        limited => limited,
    }
}

/// The target of `<…>; rel="next"` in a Link header, which may have several links. A link without a relation is that to
/// the next page too: a list has no other, and must not end early.
pub(super) fn next_link(header: &str) -> Option<&str> {
    let mut rest = header;
    while let Some((_, after)) = rest.split_once('<') {
        let (target, parameters) = after.split_once('>')?;
        let (parameters, others) = parameters.split_at(parameters.find('<').unwrap_or(parameters.len()));
        if is_next(parameters) {
            return Some(target);
        }
        rest = others;
    }
    // Some registries omit the angle brackets.
    let (target, parameters) = header.split_once(';').unwrap_or((header, ""));
    let target = target.trim();
    let is_url = !target.is_empty() && !header.contains(['<', '>']) && !target.contains([' ', ',']);
    (is_url && is_next(parameters)).then_some(target)
}

/// Whether the parameters of a link say that it leads to the next page, or have no relation.
fn is_next(parameters: &str) -> bool {
    let mut relations = parameters.split([';', ',']).filter_map(|parameter| {
        let (name, value) = parameter.trim().split_once('=')?;
        name.trim().eq_ignore_ascii_case("rel").then(|| value.trim().trim_matches('"'))
    });
    match relations.next() {
        // There may be several relations, in any case.
        Some(relation) => {
            let mut all = relation.split_ascii_whitespace().chain(relations);
            all.any(|relation| relation.eq_ignore_ascii_case("next"))
        }
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::next_link;

    #[test]
    fn parses_link_headers() {
        for (header, next) in [
            (r#"</v2/a/tags/list?last=x&n=2>; rel="next""#, Some("/v2/a/tags/list?last=x&n=2")),
            (r#"<https://r/a>; rel=next"#, Some("https://r/a")),
            (r#"</first>; rel="first", </b>; title="x"; REL="next""#, Some("/b")),
            (r#"</a>; rel="prev""#, None),
            (r#"</b>; rel="next last""#, Some("/b")),
            (r#"</b>; rel="Next""#, Some("/b")),
            (r#"</b>;rel=next;title="a;b""#, Some("/b")),
            ("</b?a,b;c=d>; rel=next", Some("/b?a,b;c=d")),
            // Without a relation, or without brackets.
            ("</b>", Some("/b")),
            (r#"</b>; title="x""#, Some("/b")),
            (r#"/b?last=x; rel="next""#, Some("/b?last=x")),
            ("https://r/b", Some("https://r/b")),
            (r#"/b; rel="prev""#, None),
            (r#"</a>; rel="alternate", </b>"#, Some("/b")),
            ("</a", None),
            (";", None),
            ("", None),
        ] {
            assert_eq!(next_link(header), next, "{header}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(header in "[<>;,=\"a-z é]*") {
            let _ = next_link(&header);
        }
    }
}
