//! How the ECS agent resolves a secret when it starts a task.

use serde_json::Value;

use super::{SecretsManager, error::marked_for_deletion, find, secret::Content};

impl SecretsManager {
    /// Checks that a task's `valueFrom` (an ARN with JSON key, stage and version id) can be read; the error is the
    /// agent's message.
    pub(in crate::aws) fn exists(&self, account: &str, region: &str, value_from: &str) -> Result<(), String> {
        let failed = |error: &str| {
            format!(
                "unable to retrieve secret from asm: service call has been retried 1 time(s): failed to fetch secret \
                 {value_from} from secrets manager: {error}"
            )
        };
        let fields: Vec<&str> = value_from.split(':').collect();
        let (key, stage, version) = match fields.as_slice() {
            [_, _, _, _, _, _, _] => ("", "", ""),
            [_, _, _, _, _, _, _, key, stage, version] => (*key, *stage, *version),
            _ => {
                return Err(failed(
                    "unexpected ARN format with parameters when trying to retrieve ASM secret",
                ));
            }
        };
        let set = |text| Some(text).filter(|text: &&str| !text.is_empty());
        let id = fields[..7].join(":");
        let mut state = self.lock();
        let home = (fields[4].to_owned(), fields[3].to_owned());
        let secret = state.get_mut(&home).and_then(|secrets| find(secrets, &id));
        let secret = secret.ok_or_else(|| {
            failed("ResourceNotFoundException: Secrets Manager can't find the specified secret.")
        })?;
        let foreign = home.0 != account && !secret.shared_with.contains(account);
        if foreign || secret.denied.contains("secretsmanager:GetSecretValue") {
            return Err(failed(&format!(
                "AccessDeniedException: not authorized to perform: secretsmanager:GetSecretValue on resource: {id} \
                 (region {region})"
            )));
        }
        if secret.deleted.is_some() {
            return Err(failed(&marked_for_deletion().to_string()));
        }
        let version = secret.version(set(version), set(stage)).map_err(|e| failed(&e.to_string()))?;
        let Some(key) = set(key) else { return Ok(()) };
        let json = match &version.content {
            Content::Text(text) => serde_json::from_str::<Value>(text).ok(),
            Content::Binary(_) => None,
        };
        match json.as_ref().and_then(Value::as_object) {
            None => Err(format!(
                "unable to retrieve secret from asm: invalid character in secret {id}: its value is not a JSON object"
            )),
            Some(json) if json.contains_key(key) => Ok(()),
            Some(_) => Err(format!(
                "unable to retrieve secret from asm: retrieved secret from Secrets Manager did not contain json key \
                 {key}"
            )),
        }
    }
}
