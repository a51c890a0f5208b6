//! Operations that read secrets: get, batch get, list.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    BATCH, Caller, SecretsManager, account_region,
    error::{invalid_parameter, marked_for_deletion},
};
use crate::aws::wire::{Answer, ApiError, Call};

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

    /// The current versions of up to 20 secrets; failures are listed in `Errors`.
    pub(super) fn batch(&self, caller: &Caller<'_>) -> Answer {
        let ids: Vec<&str> = match caller.call.input["SecretIdList"].as_array() {
            Some(ids) => ids.iter().filter_map(Value::as_str).collect(),
            None => return Err(invalid_parameter("Either 'SecretIdList' or 'Filters' must be provided.")),
        };
        if ids.is_empty() || ids.len() > BATCH {
            return Err(ApiError::new(
                400,
                "ValidationException",
                format!(
                    "1 validation error detected: Value at 'secretIdList' failed to satisfy constraint: Member must \
                     have length less than or equal to {BATCH} and greater than or equal to 1",
                ),
            ));
        }
        if self.denies_batches(caller) {
            return Err(caller.denied("BatchGetSecretValue", "*", "identity"));
        }
        let (mut values, mut errors) = (Vec::new(), Vec::new());
        for id in ids {
            match self.get(caller, id, &Value::Null) {
                Ok(value) => values.push(value),
                Err(error) => errors.push(json!({
                    "SecretId": id,
                    "ErrorCode": error.code(),
                    "Message": error.message(),
                })),
            }
        }
        Ok(json!({ "SecretValues": values, "Errors": errors }))
    }

    fn denies_batches(&self, caller: &Caller<'_>) -> bool {
        let state = self.lock();
        let own = state.get(&account_region(caller.call));
        own.is_some_and(|secrets| {
            secrets.values().any(|s| s.denied.contains("secretsmanager:BatchGetSecretValue"))
        })
    }

    pub(super) fn list(&self, call: &Call) -> Answer {
        let limit = call.input["MaxResults"].as_u64().unwrap_or(100).clamp(1, 100) as usize;
        let state = self.lock();
        let after = call.text("NextToken");
        let mut rest = state.get(&account_region(call)).into_iter().flat_map(BTreeMap::values);
        let mut page = Vec::new();
        let mut last = None;
        for secret in rest.by_ref().filter(|s| s.deleted.is_none() && s.name.as_str() > after).take(limit) {
            last = Some(secret.name.clone());
            let mut entry = secret.describe();
            entry["SecretVersionsToStages"] = entry["VersionIdsToStages"].take();
            page.push(entry);
        }
        let more = rest.any(|s| s.deleted.is_none());
        let mut answer = json!({ "SecretList": page });
        if let (true, Some(last)) = (more, last) {
            answer["NextToken"] = json!(last);
        }
        Ok(answer)
    }
}
