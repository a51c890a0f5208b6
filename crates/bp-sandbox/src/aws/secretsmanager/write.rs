//! Operations that modify secrets: create, put a value, move a stage, delete.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Caller, SecretsManager, account_region,
    error::{NOT_FOUND, invalid_parameter, invalid_request, marked_for_deletion},
    secret::{CURRENT, Content, Secret, seconds},
    token,
};
use crate::aws::wire::{Answer, ApiError, Call, text};

impl SecretsManager {
    pub(super) fn create(&self, call: &Call, now: Timestamp) -> Answer {
        let (name, content) = (call.text("Name"), Content::of(&call.input)?);
        let legal = |c: char| c.is_ascii_alphanumeric() || "/_+=.@-!".contains(c);
        if name.is_empty() || name.len() > 512 || !name.chars().all(legal) {
            return Err(ApiError::new(
                400,
                "ValidationException",
                "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: \
                 -/_+=.@!",
            ));
        }
        let mut state = self.lock();
        let secrets = state.entry(account_region(call)).or_default();
        match secrets.get(name) {
            Some(secret) if secret.deleted.is_some() => {
                return Err(invalid_request(
                    "You can't create this secret because a secret with this name is already scheduled for deletion.",
                ));
            }
            Some(secret) if secret.repeats(call.text("ClientRequestToken"), content.as_ref())? => {
                let id = call.text("ClientRequestToken");
                return Ok(json!({ "ARN": secret.arn, "Name": name, "VersionId": id }));
            }
            Some(_) => {
                return Err(ApiError::new(
                    400,
                    "ResourceExistsException",
                    format!("The operation failed because the secret {name} already exists."),
                ));
            }
            None => {}
        }
        let mut secret = Secret::new(&account_region(call), name, now);
        let optional = |member: &str| call.input[member].as_str().map(str::to_owned);
        (secret.description, secret.kms_key) = (optional("Description"), optional("KmsKeyId"));
        let tags = call.input["Tags"].as_array().into_iter().flatten();
        secret.tags = tags.map(|tag| (text(tag, "Key").to_owned(), text(tag, "Value").to_owned())).collect();
        let mut answer = json!({ "ARN": secret.arn, "Name": name });
        if let Some(content) = content {
            let id = token(call)?;
            secret.put(id.clone(), content, &[CURRENT.to_owned()], now)?;
            answer["VersionId"] = json!(id);
        }
        secrets.insert(name.to_owned(), secret);
        Ok(answer)
    }

    pub(super) fn put(&self, caller: &Caller<'_>, now: Timestamp) -> Answer {
        let content = Content::of(&caller.call.input)?
            .ok_or_else(|| invalid_request("You must provide either SecretString or SecretBinary."))?;
        let id = token(caller.call)?;
        let stages: Vec<String> = match caller.call.input["VersionStages"].as_array() {
            Some(stages) => stages.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            None => vec![CURRENT.to_owned()],
        };
        self.with(caller, "PutSecretValue", |secret| {
            let mut stages = stages;
            // The first version of a secret is always the current one.
            if secret.versions.is_empty() && !stages.iter().any(|stage| stage == CURRENT) {
                stages.push(CURRENT.to_owned());
            }
            secret.put(id.clone(), content, &stages, now)?;
            Ok(json!({ "ARN": secret.arn, "Name": secret.name, "VersionId": id, "VersionStages": stages }))
        })
    }

    pub(super) fn update_stage(&self, caller: &Caller<'_>) -> Answer {
        let input = &caller.call.input;
        let stage = caller.call.text("VersionStage").to_owned();
        let (to, from) = (input["MoveToVersionId"].as_str(), input["RemoveFromVersionId"].as_str());
        self.with(caller, "UpdateSecretVersionStage", |secret| {
            let holder = secret.versions.iter().find(|v| v.stages.contains(&stage)).map(|v| v.id.clone());
            if holder.is_some() && holder.as_deref() != from && holder.as_deref() != to {
                let holder = holder.unwrap_or_default();
                return Err(invalid_parameter(format!(
                    "The parameter RemoveFromVersionId can't be empty. Staging label {stage} is currently attached to \
                     version {holder}, so you must explicitly reference that version in RemoveFromVersionId.",
                )));
            }
            match to {
                Some(to) => {
                    secret.version(Some(to), None)?;
                    secret.move_stage(&stage, to);
                }
                None => secret.unstage(&stage),
            }
            Ok(json!({ "ARN": secret.arn, "Name": secret.name }))
        })
    }

    pub(super) fn delete(&self, caller: &Caller<'_>, now: Timestamp) -> Answer {
        let input = &caller.call.input;
        let force = input["ForceDeleteWithoutRecovery"].as_bool().unwrap_or_default();
        let window = input["RecoveryWindowInDays"].as_i64();
        if window.is_some_and(|days| !(7..=30).contains(&days)) {
            return Err(invalid_parameter(
                "The RecoveryWindowInDays value must be between 7 and 30 days (inclusive).",
            ));
        }
        if force && window.is_some() {
            return Err(invalid_parameter(
                "You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays.",
            ));
        }
        let date =
            if force { now } else { now + jiff::SignedDuration::from_hours(24 * window.unwrap_or(30)) };
        let answer = self.with(caller, "DeleteSecret", |secret| {
            if secret.deleted.is_some() && !force {
                return Err(marked_for_deletion());
            }
            secret.deleted = Some(date);
            Ok(json!({ "ARN": secret.arn, "Name": secret.name, "DeletionDate": seconds(date) }))
        });
        let answer = match answer {
            // A secret that does not exist is not an error then.
            Err(error) if force && error.code() == NOT_FOUND => {
                let id = caller.call.text("SecretId");
                let name = id.rsplit(':').next().unwrap_or(id);
                let secret = Secret::new(&account_region(caller.call), name, now);
                return Ok(json!({ "ARN": secret.arn, "Name": name, "DeletionDate": seconds(date) }));
            }
            answer => answer?,
        };
        if force && let Some(name) = answer["Name"].as_str() {
            self.lock().entry(account_region(caller.call)).or_default().remove(name);
        }
        Ok(answer)
    }
}
