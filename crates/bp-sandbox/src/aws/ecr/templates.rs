//! Repository creation templates of ECR: create, describe, delete. A template for pushes lets a push create its
//! repository.

use std::{collections::BTreeMap, sync::Mutex};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    repositories,
    request::{host, invalid, page, registry_id, seconds, strings, with_next},
};
use crate::{
    aws::{
        context::Context,
        wire::{Answer, ApiError, Call},
    },
    sync::lock,
};

/// Registry id and region.
type RegistryKey = (String, String);

const SCENARIOS: [&str; 3] = ["REPLICATION", "PULL_THROUGH_CACHE", "CREATE_ON_PUSH"];

/// The templates of each registry, by prefix.
#[derive(Debug, Default)]
pub(super) struct Templates(Mutex<BTreeMap<RegistryKey, BTreeMap<String, Value>>>);

impl Templates {
    pub(super) fn create(&self, context: &Context, call: &Call, now: Timestamp) -> Answer {
        let (prefix, id) = (call.text("prefix"), registry_id(call));
        let applied: Vec<&str> = strings(&call.input["appliedFor"]).collect();
        if prefix.is_empty() || applied.is_empty() || applied.iter().any(|name| !SCENARIOS.contains(name)) {
            return Err(invalid(
                "Invalid parameter at 'appliedFor' failed to satisfy constraint: 'Member must satisfy enum value set: \
                 [REPLICATION, PULL_THROUGH_CACHE, CREATE_ON_PUSH]'",
            ));
        }
        let mutability = repositories::mutability(call)?;
        let mut all = lock(&self.0);
        let templates = all.entry(key(call)).or_default();
        if templates.contains_key(prefix) {
            let message =
                format!("A template with the prefix '{prefix}' already exists in the registry '{id}'");
            return Err(ApiError::new(400, "TemplateAlreadyExistsException", message));
        }
        let mut template = json!({
            "prefix": prefix,
            "encryptionConfiguration": { "encryptionType": "AES256" },
            "resourceTags": [],
            "appliedFor": applied,
            "createdAt": seconds(now),
            "updatedAt": seconds(now),
        });
        if !call.text("description").is_empty() {
            template["description"] = json!(call.text("description"));
        }
        repositories::write_mutability(&mut template, &mutability);
        templates.insert(prefix.to_owned(), template.clone());
        if applied.contains(&"CREATE_ON_PUSH")
            && let Some(registry) = context.runtime.registry(&host(id, &call.region))
        {
            registry.create_on_push_below(prefix, Some(mutability));
        }
        Ok(json!({ "registryId": id, "repositoryCreationTemplate": template }))
    }

    pub(super) fn describe(&self, call: &Call) -> Answer {
        let all = lock(&self.0);
        let none = BTreeMap::new();
        let templates = all.get(&key(call)).unwrap_or(&none);
        let requested: Vec<&str> = strings(&call.input["prefixes"]).collect();
        if let Some(missing) = requested.iter().find(|prefix| !templates.contains_key(**prefix)) {
            return Err(not_found(missing));
        }
        let wanted = templates
            .iter()
            .filter(|(prefix, _)| requested.is_empty() || requested.contains(&prefix.as_str()));
        let (found, next) = page(wanted.map(|(_, template)| template.clone()).collect(), call, 100)?;
        let answer = json!({ "registryId": registry_id(call), "repositoryCreationTemplates": found });
        Ok(with_next(answer, next))
    }

    pub(super) fn delete(&self, context: &Context, call: &Call) -> Answer {
        let (prefix, id) = (call.text("prefix"), registry_id(call));
        let mut all = lock(&self.0);
        let removed = all.get_mut(&key(call)).and_then(|templates| templates.remove(prefix));
        let template = removed.ok_or_else(|| not_found(prefix))?;
        if let Some(registry) = context.runtime.registry(&host(id, &call.region)) {
            registry.create_on_push_below(prefix, None);
        }
        Ok(json!({ "registryId": id, "repositoryCreationTemplate": template }))
    }
}

fn key(call: &Call) -> RegistryKey {
    (registry_id(call).to_owned(), call.region.clone())
}

fn not_found(prefix: &str) -> ApiError {
    ApiError::new(
        400,
        "TemplateNotFoundException",
        format!("No template with the prefix '{prefix}' was found"),
    )
}
