//! Lists in pages.

use std::collections::HashSet;

use ::http::{Method, header};
use bp_artifact::{Tag, error::Classified as _};
use bytes::Bytes;
use serde::{Deserialize, de::DeserializeOwned};
use url::Url;

use super::{
    RegistryError, RepositoryClient,
    auth::Scope,
    http::{Call, MAX_ANSWER},
    origin::origin_of,
};
use crate::{
    content::{null_as_default, object},
    retry::telling,
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
    /// The request for the next one.
    next: Option<Call>,
}

/// The pages of one list, which must come to an end: what is read is kept until then.
pub(super) struct Pages {
    next: Option<Call>,
    seen: HashSet<Url>,
    entries: usize,
    bytes: usize,
}

impl Pages {
    const PAGES: usize = 10_000;
    const ENTRIES: usize = 1_000_000;
    const BYTES: usize = 64 << 20;

    /// The pages of the list that begins with this request.
    pub(super) fn from(first: Call) -> Self {
        Pages { seen: HashSet::from([first.url().clone()]), next: Some(first), entries: 0, bytes: 0 }
    }

    /// The next page that is to be read.
    pub(super) fn next(&mut self) -> Option<Call> {
        self.next.take()
    }

    /// Takes note of a page that was read, which has so many entries.
    pub(super) fn read<T>(&mut self, at: &Call, page: Page<T>, entries: usize) -> Result<T, RegistryError> {
        self.entries = self.entries.saturating_add(entries);
        let next = page.next.as_ref().map_or(0, |next| next.url().as_str().len());
        self.bytes = self.bytes.saturating_add(page.size).saturating_add(next);
        let comes_again = page.next.as_ref().is_some_and(|next| !self.seen.insert(next.url().clone()));
        let limit = if comes_again {
            "the Link to its next page leads to one that was read before".to_owned()
        } else if self.entries > Self::ENTRIES {
            format!("its pages have more than {} entries", Self::ENTRIES)
        } else if self.bytes > Self::BYTES {
            format!("its pages have more than {} bytes", Self::BYTES)
        } else if self.seen.len() > Self::PAGES {
            format!("it has more than {} pages", Self::PAGES)
        } else {
            self.next = page.next;
            return Ok(page.list);
        };
        Err(RegistryError::Limit { at: at.at.clone(), limit })
    }
}

impl RepositoryClient {
    /// All tags of the repository, in the registry's order. Empty when there is no such repository.
    ///
    /// # Errors
    /// When the registry cannot be asked, or does not allow it.
    ///
    /// # Permissions
    /// Pull. On Amazon ECR: `ecr:ListImages`.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn tags(&self) -> Result<Vec<Tag>, RegistryError> {
        Ok(self.listed_tags().await?.unwrap_or_default())
    }

    /// All tags, or `None` when there is no such repository.
    pub(super) async fn listed_tags(&self) -> Result<Option<Vec<Tag>>, RegistryError> {
        let mut pages = Pages::from(self.host.call(Method::GET, self.path("tags/list?n=1000")));
        let mut tags = Vec::new();
        while let Some(at) = pages.next() {
            let page = match self.read_page::<Tags>(&self.pull, &at, "it is no list of tags").await {
                Ok(page) => page,
                Err(RegistryError::NotFound { .. }) => return Ok(None),
                Err(error) => return Err(error),
            };
            let entries = page.list.tags.len();
            let list = pages.read(&at, page, entries)?;
            // A name that is no tag cannot be asked for either.
            tags.extend(list.tags.iter().filter_map(|tag| tag.parse::<Tag>().ok()));
        }
        Ok(Some(tags))
    }

    /// What the repository is known to hold, by the first of its tags.
    pub(super) async fn state(&self) -> Result<RepositoryState, RegistryError> {
        let call = self.host.call(Method::GET, self.path("tags/list?n=1"));
        match self.read_page::<Tags>(&self.push, &call, "it is no list of tags").await {
            Ok(page) if page.list.tags.is_empty() => Ok(RepositoryState::Untagged),
            Ok(_) => Ok(RepositoryState::Tagged),
            Err(RegistryError::NotFound { .. }) => Ok(self.state_without_tags()),
            // Who may push need not be allowed to list.
            Err(
                RegistryError::Denied { .. }
                | RegistryError::Unauthorized { .. }
                | RegistryError::Refused { .. }
                | RegistryError::Protocol { .. }
                | RegistryError::Limit { .. },
            ) => Ok(RepositoryState::Tagged),
            Err(error) => Err(error),
        }
    }

    /// What there is where the registry shows nothing: unless the journal says that something was begun.
    pub(super) fn state_without_tags(&self) -> RepositoryState {
        let begun = |journal: &crate::Journal| journal.has_begun(&self.repository.to_string());
        if self.client.0.journal.as_ref().is_some_and(begun) {
            RepositoryState::Untagged
        } else {
            RepositoryState::Empty
        }
    }

    /// A page of a list. What breaks off or cannot be read is asked for again: lists have
    /// no digest that would tell how they were spoilt.
    pub(super) async fn read_page<T: DeserializeOwned>(
        &self,
        scope: &Scope,
        page: &Call,
        otherwise: &str,
    ) -> Result<Page<T>, RegistryError> {
        let unreadable = |_| RegistryError::Protocol { at: page.at.clone(), reason: otherwise.to_owned() };
        let read = || async {
            let answer = self.client.attempt(self.context(scope), page, Bytes::new(), &[200]);
            let (parts, body) = answer.await?.into_parts();
            let body = self.client.0.http.collect(&page.at, body, MAX_ANSWER).await?;
            Ok((object(&body).map_err(unreadable)?, body.len(), parts.headers))
        };
        let worth =
            |error: &RegistryError| error.is_retryable() || matches!(error, RegistryError::Protocol { .. });
        let (list, size, headers) =
            self.client.0.retry.run_when(worth, telling(self.observer.as_ref()), read).await?;
        let links = headers.get_all(header::LINK).iter().filter_map(|link| link.to_str().ok());
        let next = links.filter_map(next_link).next().map(|link| self.next_page(page, link));
        Ok(Page { list, size, next: next.transpose()? })
    }

    /// The request for the next page. A list that continues at another host is refused: a private one cannot be read
    /// there without the login, which does not go there, and a part of a list must not be taken for the whole.
    fn next_page(&self, page: &Call, link: &str) -> Result<Call, RegistryError> {
        let wrong = |reason: &str| RegistryError::Protocol {
            at: page.at.clone(),
            reason: format!("the Link to the next page {reason}"),
        };
        let url = page.read_url(link, &self.client.0.http.endpoints).map_err(wrong)?;
        let elsewhere = format!("leads to another host, {}", origin_of(&url));
        let next = page.clone().moved_to(url);
        if next.is_at_home() { Ok(next) } else { Err(wrong(&elsewhere)) }
    }
}

/// The target of `<…>; rel="next"` in a Link header that may hold several.
pub(super) fn next_link(header: &str) -> Option<&str> {
    let mut rest = header;
    while let Some((_, after)) = rest.split_once('<') {
        let (target, parameters) = after.split_once('>')?;
        let end = parameters.find('<').unwrap_or(parameters.len());
        let is_next = parameters[..end].split([';', ',']).any(|parameter| {
            matches!(parameter.trim().split_once('='), Some((name, value))
                if name.trim().eq_ignore_ascii_case("rel") && value.trim().trim_matches('"') == "next")
        });
        if is_next {
            return Some(target);
        }
        rest = &parameters[end..];
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::next_link;

    #[test]
    fn links() {
        for (header, next) in [
            (r#"</v2/a/tags/list?last=x&n=2>; rel="next""#, Some("/v2/a/tags/list?last=x&n=2")),
            (r#"<https://r/a>; rel=next"#, Some("https://r/a")),
            (r#"</first>; rel="first", </b>; title="x"; REL="next""#, Some("/b")),
            (r#"</a>; rel="prev""#, None),
            ("</a", None),
            ("", None),
        ] {
            assert_eq!(next_link(header), next, "{header}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(header in "[<>;,=\"a-z é]*") {
            let _ = next_link(&header);
        }
    }
}
