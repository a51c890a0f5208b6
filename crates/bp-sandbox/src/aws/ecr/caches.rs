//! Pull-through cache rules of ECR: create and describe.

use std::{collections::BTreeMap, sync::Mutex};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::request::{page, registry_id, seconds, strings, with_next};
use crate::aws::wire::{Answer, ApiError, Call};
use crate::sync::lock;

/// Registry id and region.
type RegistryKey = (String, String);

/// The rules of each registry, by prefix.
#[derive(Debug, Default)]
pub(super) struct Rules(Mutex<BTreeMap<RegistryKey, BTreeMap<String, Value>>>);

impl Rules {
    pub(super) fn create(&self, call: &Call, now: Timestamp) -> Answer {
        let (prefix, id) = (call.text("ecrRepositoryPrefix"), registry_id(call));
        let mut all = lock(&self.0);
        let rules = all.entry((id.to_owned(), call.region.clone())).or_default();
        if rules.contains_key(prefix) {
            let message = format!(
                "A pull through cache rule already exists with the prefix '{prefix}' in the registry with id '{id}'"
            );
            return Err(ApiError::new(400, "PullThroughCacheRuleAlreadyExistsException", message));
        }
        let rule = json!({
            "ecrRepositoryPrefix": prefix,
            "upstreamRegistryUrl": call.text("upstreamRegistryUrl"),
            "createdAt": seconds(now),
            "registryId": id,
        });
        rules.insert(prefix.to_owned(), rule.clone());
        Ok(rule)
    }

    pub(super) fn describe(&self, call: &Call) -> Answer {
        let all = lock(&self.0);
        let none = BTreeMap::new();
        let rules = all.get(&(registry_id(call).to_owned(), call.region.clone())).unwrap_or(&none);
        let requested: Vec<&str> = strings(&call.input["ecrRepositoryPrefixes"]).collect();
        if requested.iter().any(|prefix| !rules.contains_key(*prefix)) {
            let message = "The pull through cache rule was not found. Specify a valid pull through cache rule and try \
                           again.";
            return Err(ApiError::new(400, "PullThroughCacheRuleNotFoundException", message));
        }
        let wanted =
            rules.iter().filter(|(prefix, _)| requested.is_empty() || requested.contains(&prefix.as_str()));
        let (rules, next) = page(wanted.map(|(_, rule)| rule.clone()).collect(), call, 100)?;
        Ok(with_next(json!({ "pullThroughCacheRules": rules }), next))
    }
}
