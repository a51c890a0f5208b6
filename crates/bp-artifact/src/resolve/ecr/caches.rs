//! Pull-through cache rules of an Amazon ECR registry.

use std::{collections::BTreeMap, sync::Arc};

use aws_sdk_ecr::{Client, types::PullThroughCacheRule};
use tokio::sync::Mutex;

use super::failure::failed;
use crate::{reference::ImageRef, resolve::ResolveError};

/// The prefix of the rule that applies to all repositories without a more specific rule.
const ROOT: &str = "ROOT";

/// The rules of each registry by account, read once: the lock is held during the call.
#[derive(Debug, Default)]
pub(super) struct Caches(Mutex<BTreeMap<String, Arc<[Rule]>>>);

#[derive(Debug)]
struct Rule {
    prefix: String,
    upstream: String,
}

impl Caches {
    /// Rejects an image whose repository is a pull-through cache.
    pub(super) async fn check(
        &self,
        client: &Client,
        account: &str,
        image: &ImageRef,
    ) -> Result<(), ResolveError> {
        let rules = self.rules(client, account, image).await?;
        match rule(&rules, image.repository().path()) {
            None => Ok(()),
            Some(rule) => Err(ResolveError::Cached { image: image.clone(), upstream: rule.upstream.clone() }),
        }
    }

    async fn rules(
        &self,
        client: &Client,
        account: &str,
        image: &ImageRef,
    ) -> Result<Arc<[Rule]>, ResolveError> {
        let mut known = self.0.lock().await;
        if let Some(rules) = known.get(account) {
            return Ok(Arc::clone(rules));
        }
        let mut rules = Vec::new();
        let call = client.describe_pull_through_cache_rules().registry_id(account);
        let mut pages = call.into_paginator().send();
        while let Some(page) = pages.next().await {
            let action = "ecr:DescribePullThroughCacheRules";
            let page = page.map_err(|error| failed(image.repository(), action, error))?;
            rules.extend(page.pull_through_cache_rules.unwrap_or_default().into_iter().map(Rule::from));
        }
        let rules: Arc<[Rule]> = rules.into();
        known.insert(account.to_owned(), Arc::clone(&rules));
        Ok(rules)
    }
}

impl From<PullThroughCacheRule> for Rule {
    fn from(rule: PullThroughCacheRule) -> Self {
        let upstream = rule.upstream_registry_url.unwrap_or_else(|| "another registry".into());
        Rule { prefix: rule.ecr_repository_prefix.unwrap_or_default(), upstream }
    }
}

/// The rule that applies to a repository.
fn rule<'a>(rules: &'a [Rule], path: &str) -> Option<&'a Rule> {
    let is_below = |rule: &&Rule| path.strip_prefix(&rule.prefix).is_some_and(|rest| rest.starts_with('/'));
    rules.iter().find(is_below).or_else(|| rules.iter().find(|rule| rule.prefix == ROOT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_matches_whole_path_components() {
        let rules = |prefixes: &[&str]| -> Vec<Rule> {
            let rule =
                |prefix: &&str| Rule { prefix: (*prefix).to_owned(), upstream: format!("of {prefix}") };
            prefixes.iter().map(rule).collect()
        };
        let found = |prefixes: &[&str], path: &str| rule(&rules(prefixes), path).map(|r| r.upstream.clone());
        assert_eq!(found(&["hub"], "hub/library/nginx").as_deref(), Some("of hub"));
        assert_eq!(found(&["hub"], "hubble/web"), None);
        assert_eq!(found(&["hub"], "hub"), None);
        assert_eq!(found(&["a/b"], "a/b/c").as_deref(), Some("of a/b"));
        assert_eq!(found(&["ROOT", "hub"], "hub/x").as_deref(), Some("of hub"));
        assert_eq!(found(&["ROOT", "hub"], "shop/web").as_deref(), Some("of ROOT"));
    }
}
