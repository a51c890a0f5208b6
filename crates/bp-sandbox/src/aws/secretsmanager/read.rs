//! Operations that read secrets: get, batch get, list.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    BATCH, Caller, SecretsManager, account_region,
    error::{invalid_parameter, marked_for_deletion, validation},
    filter::Filter,
    secret::{AccountRegion, Secret},
};
use crate::aws::wire::{Answer, ApiError, Call, texts};

/// The maximum number of secrets in one page of `ListSecrets`.
const PAGE: usize = 100;

impl SecretsManager {
    pub(super) fn get(&self, caller: &Caller<'_>, id: &str, input: &Value) -> Answer {
        self.on(caller, id, "GetSecretValue", |secret| {
            if secret.deleted.is_some() {
                return Err(marked_for_deletion());
            }
            if secret.denied.contains("kms:Decrypt") {
                return Err(ApiError::new(400, "AccessDeniedException", "Access to KMS is not allowed"));
            }
            let version = secret.version(input["VersionId"].as_str(), input["VersionStage"].as_str())?;
            Ok(secret.value(version))
        })
    }

    /// The current versions of up to 20 secrets, by id or by filter; failures are listed in `Errors`.
    pub(super) fn batch(&self, caller: &Caller<'_>) -> Answer {
        let input = &caller.call.input;
        let filters = Filter::all(input)?;
        let by_id = input["SecretIdList"].as_array().is_some_and(|ids| !ids.is_empty());
        if by_id && !filters.is_empty() {
            return Err(invalid_parameter(
                "Either 'SecretIdList' or 'Filters' must be provided, but not both.",
            ));
        }
        if filters.is_empty() && !input["MaxResults"].is_null() {
            return Err(invalid_parameter(
                "'Filters' not specified. 'Filters' must also be specified when 'MaxResults' is provided.",
            ));
        }
        if filters.is_empty() && input["SecretIdList"].is_null() {
            return Err(invalid_parameter("Either 'SecretIdList' or 'Filters' must be provided."));
        }
        let (ids, next) = if filters.is_empty() {
            (texts(input, "SecretIdList").into_iter().map(str::to_owned).collect::<Vec<_>>(), None)
        } else {
            let state = self.lock();
            let (page, next) = page(listed(&state, caller.call, &filters), caller.call, BATCH)?;
            (page.iter().map(|secret| secret.arn.clone()).collect::<Vec<_>>(), next)
        };
        if filters.is_empty() && (ids.is_empty() || ids.len() > BATCH) {
            return Err(validation(format!(
                "1 validation error detected: Value at 'secretIdList' failed to satisfy constraint: Member must have \
                 length less than or equal to {BATCH} and greater than or equal to 1",
            )));
        }
        if self.denies_batches(caller) {
            return Err(caller.denied("BatchGetSecretValue", "*", "identity"));
        }
        let (mut values, mut errors) = (Vec::new(), Vec::new());
        for id in ids {
            match self.get(caller, &id, &Value::Null) {
                Ok(value) => values.push(value),
                Err(error) => errors.push(json!({
                    "SecretId": id,
                    "ErrorCode": error.code(),
                    "Message": error.message(),
                })),
            }
        }
        Ok(with_next(json!({ "SecretValues": values, "Errors": errors }), next))
    }

    fn denies_batches(&self, caller: &Caller<'_>) -> bool {
        let state = self.lock();
        let own = state.get(&account_region(caller.call));
        own.is_some_and(|secrets| {
            secrets.values().any(|s| s.denied.contains("secretsmanager:BatchGetSecretValue"))
        })
    }

    pub(super) fn list(&self, call: &Call) -> Answer {
        let filters = Filter::all(&call.input)?;
        let state = self.lock();
        let (secrets, next) = page(listed(&state, call, &filters), call, PAGE)?;
        let entry = |secret: &&Secret| {
            let mut entry = secret.describe();
            if let Some(stages) = entry.as_object_mut().and_then(|entry| entry.remove("VersionIdsToStages")) {
                entry["SecretVersionsToStages"] = stages;
            }
            entry
        };
        Ok(with_next(json!({ "SecretList": secrets.iter().map(entry).collect::<Vec<_>>() }), next))
    }
}

/// The secrets that match all filters, in the order of the request: by default that of their creation.
fn listed<'a>(
    state: &'a BTreeMap<AccountRegion, BTreeMap<String, Secret>>,
    call: &Call,
    filters: &[Filter<'_>],
) -> Vec<&'a Secret> {
    let with_deleted = call.input["IncludePlannedDeletion"].as_bool().unwrap_or_default();
    let secrets = state.get(&account_region(call)).into_iter().flat_map(BTreeMap::values);
    let mut secrets: Vec<&Secret> = secrets
        .filter(|secret| with_deleted || secret.deleted.is_none())
        .filter(|secret| filters.iter().all(|filter| filter.matches(secret)))
        .collect();
    match call.text("SortBy") {
        "name" => {}
        "last-changed-date" => secrets.sort_by_key(|secret| secret.changed),
        _ => secrets.sort_by_key(|secret| secret.number),
    }
    if call.text("SortOrder") == "desc" {
        secrets.reverse();
    }
    secrets
}

/// The page at the request's token, which is the number of the secrets before it, and the next token.
fn page<'a>(
    all: Vec<&'a Secret>,
    call: &Call,
    limit: usize,
) -> Result<(Vec<&'a Secret>, Option<usize>), ApiError> {
    let size = call.input["MaxResults"].as_u64().map_or(limit, |size| (size as usize).clamp(1, limit));
    let start = match call.text("NextToken") {
        "" => 0,
        token => token.parse().map_err(|_| {
            ApiError::new(400, "InvalidNextTokenException", "The NextToken value is invalid.")
        })?,
    };
    let next = Some(start + size).filter(|next| *next < all.len());
    Ok((all.into_iter().skip(start).take(size).collect(), next))
}

fn with_next(mut answer: Value, next: Option<usize>) -> Value {
    if let Some(next) = next {
        answer["NextToken"] = json!(next.to_string());
    }
    answer
}
