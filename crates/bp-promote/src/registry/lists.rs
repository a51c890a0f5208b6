//! Lists in pages.

use ::http::{Method, header};
use bp_artifact::{Classified as _, Tag};
use bytes::Bytes;
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    RegistryError, RepositoryClient,
    auth::Scope,
    http::{Call, collect},
    origin::origin_of,
    repository::text,
};
use crate::{retry::telling, store::Holding};

#[derive(Deserialize)]
struct Tags {
    /// Some registries write `null` for none.
    tags: Option<Vec<String>>,
}

impl RepositoryClient {
    /// A bound for lists whose pages never end.
    const PAGES: usize = 10_000;

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
    pub(crate) async fn listed_tags(&self) -> Result<Option<Vec<Tag>>, RegistryError> {
        let mut call = Some(self.host.call(Method::GET, self.path("tags/list?n=1000")));
        let mut tags = Vec::new();
        for _ in 0..Self::PAGES {
            let Some(page) = call.take() else { break };
            let (list, next) = match self.read_page::<Tags>(&self.pull, &page, "it is no list of tags").await
            {
                Ok(read) => read,
                Err(RegistryError::NotFound { .. }) => return Ok(None),
                Err(error) => return Err(error),
            };
            call = next;
            // A name that is no tag cannot be asked for either.
            tags.extend(list.tags.unwrap_or_default().iter().filter_map(|tag| tag.parse::<Tag>().ok()));
        }
        Ok(Some(tags))
    }

    /// What the repository is known to hold, by the first of its tags.
    pub(crate) async fn holding(&self) -> Result<Holding, RegistryError> {
        let call = self.host.call(Method::GET, self.path("tags/list?n=1"));
        match self.read_page::<Tags>(&self.push, &call, "it is no list of tags").await {
            Ok((list, _)) => {
                let empty = list.tags.is_none_or(|tags| tags.is_empty());
                Ok(if empty { Holding::NoTags } else { Holding::Something })
            }
            Err(RegistryError::NotFound { .. }) => Ok(self.nothing()),
            // Who may push need not be allowed to list.
            Err(
                RegistryError::Denied { .. }
                | RegistryError::Unauthorized { .. }
                | RegistryError::Refused { .. }
                | RegistryError::Protocol { .. },
            ) => Ok(Holding::Something),
            Err(error) => Err(error),
        }
    }

    /// What there is where the registry shows nothing: unless the journal says that something was begun.
    pub(crate) fn nothing(&self) -> Holding {
        let begun = |journal: &crate::Journal| journal.has_begun(&self.repository.to_string());
        match self.client.0.journal.as_ref().is_some_and(begun) {
            true => Holding::NoTags,
            false => Holding::Nothing,
        }
    }

    /// A page of a list, and the call for the next one. What breaks off or cannot be read is asked for again: lists have
    /// no digest that would tell how they were spoilt.
    pub(super) async fn read_page<T: DeserializeOwned>(
        &self,
        scope: &Scope,
        page: &Call,
        otherwise: &str,
    ) -> Result<(T, Option<Call>), RegistryError> {
        let unreadable = |_| RegistryError::Protocol { at: page.at.clone(), reason: otherwise.to_owned() };
        let read = || async {
            let answer = self.client.attempt(self.errand(scope), page, Bytes::new(), &[200]);
            let (parts, body) = answer.await?.into_parts();
            let body = collect(&page.at, body).await?;
            let list = serde_json::from_slice(&body).map_err(unreadable)?;
            Ok((list, text(&parts.headers, header::LINK)))
        };
        let worth =
            |error: &RegistryError| error.is_retryable() || matches!(error, RegistryError::Protocol { .. });
        let (list, link) = self.client.0.retry.run_when(worth, telling(self.observer.as_ref()), read).await?;
        let next = link.as_deref().and_then(next_link).map(|link| self.next_page(page, link));
        Ok((list, next.transpose()?))
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
