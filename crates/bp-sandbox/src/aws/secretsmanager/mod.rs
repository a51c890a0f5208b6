//! Model of the Secrets Manager API: secrets with versions and staging labels, replicas, resource policies and denials.

mod agent;
mod error;
mod filter;
mod handle;
mod read;
mod secret;
mod write;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard},
};

use serde_json::Value;

pub use self::handle::Secrets;
use self::{
    error::{invalid_parameter, marked_for_deletion, not_found},
    secret::{AccountRegion, Secret},
};

use super::{
    context::Context,
    wire::{Answer, ApiError, Call, request_id},
};
use crate::sync::lock;

/// The maximum number of secrets in one `BatchGetSecretValue` call.
const BATCH: usize = 20;

/// The state of the service, by account and region.
#[derive(Debug, Default)]
pub(super) struct SecretsManager(Mutex<BTreeMap<AccountRegion, BTreeMap<String, Secret>>>);

impl SecretsManager {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<AccountRegion, BTreeMap<String, Secret>>> {
        lock(&self.0)
    }

    pub(super) fn call(&self, context: &Context, call: &Call) -> Answer {
        let now = context.clock.now();
        let caller = Caller { arn: context.identities.of(&call.access_key_id).arn, call };
        match call.operation.as_str() {
            "CreateSecret" => self.create(call, now),
            "PutSecretValue" => self.put(&caller, now),
            "UpdateSecretVersionStage" => self.update_stage(&caller),
            "DeleteSecret" => self.delete(&caller, now),
            "DescribeSecret" => self.with(&caller, "DescribeSecret", |secret| Ok(secret.describe())),
            "GetSecretValue" => self.get(&caller, call.text("SecretId"), &call.input),
            "BatchGetSecretValue" => self.batch(&caller),
            "ListSecrets" => self.list(call),
            _ => Err(call.unknown()),
        }
    }

    fn with(
        &self,
        caller: &Caller<'_>,
        action: &str,
        act: impl FnOnce(&mut Secret) -> Result<Value, ApiError>,
    ) -> Answer {
        self.on(caller, caller.call.text("SecretId"), action, |secret| {
            if secret.deleted.is_some() && !matches!(action, "DescribeSecret" | "DeleteSecret") {
                return Err(marked_for_deletion());
            }
            act(secret)
        })
    }

    /// Calls `act` with the secret of `id` (a name, an ARN, or an ARN without its suffix), and updates its replicas.
    fn on(
        &self,
        caller: &Caller<'_>,
        id: &str,
        action: &str,
        act: impl FnOnce(&mut Secret) -> Result<Value, ApiError>,
    ) -> Answer {
        let call = caller.call;
        let mut state = self.lock();
        let account = owner(id).unwrap_or(&call.account).to_owned();
        let home = (account, call.region.clone());
        let foreign = home.0 != call.account;
        let secret = state.get_mut(&home).and_then(|secrets| find(secrets, id));
        let secret = match secret {
            Some(secret) => secret,
            None if foreign => return Err(caller.denied(action, id, "resource")),
            None => return Err(not_found("Secrets Manager can't find the specified secret.")),
        };
        if foreign && !secret.shared_with.contains(&call.account) {
            return Err(caller.denied(action, id, "resource"));
        }
        if secret.denied.contains(&format!("secretsmanager:{action}")) {
            return Err(caller.denied(action, id, "identity"));
        }
        let answer = act(secret)?;
        let secret = secret.clone();
        replicate(&mut state, &home, &secret);
        Ok(answer)
    }
}

/// The caller, for the messages of denials.
struct Caller<'a> {
    arn: String,
    call: &'a Call,
}

impl Caller<'_> {
    fn denied(&self, action: &str, resource: &str, policy: &str) -> ApiError {
        ApiError::new(
            400,
            "AccessDeniedException",
            format!(
                "User: {} is not authorized to perform: secretsmanager:{action} on resource: {resource} because no \
                 {policy}-based policy allows the secretsmanager:{action} action",
                self.arn
            ),
        )
    }
}

/// The account in an ARN.
fn owner(id: &str) -> Option<&str> {
    id.starts_with("arn:").then(|| id.split(':').nth(4)).flatten()
}

fn find<'a>(secrets: &'a mut BTreeMap<String, Secret>, id: &str) -> Option<&'a mut Secret> {
    if !id.starts_with("arn:") {
        return secrets.get_mut(id);
    }
    // The full ARN, or the ARN without the hyphen and the suffix of six characters.
    secrets.values_mut().find(|s| s.arn == id || s.arn[..s.arn.len() - 7] == *id)
}

/// Copies a secret to its replicas.
fn replicate(
    state: &mut BTreeMap<AccountRegion, BTreeMap<String, Secret>>,
    home: &AccountRegion,
    secret: &Secret,
) {
    for region in &secret.replicas {
        let mut replica = secret.clone();
        replica.arn = secret.arn.replacen(&format!(":{}:", home.1), &format!(":{region}:"), 1);
        replica.replicas = BTreeSet::new();
        replica.primary_region = Some(home.1.clone());
        state.entry((home.0.clone(), region.clone())).or_default().insert(secret.name.clone(), replica);
    }
}

fn account_region(call: &Call) -> AccountRegion {
    (call.account.clone(), call.region.clone())
}

/// The id of a new version: the request's token, so that a repeated request does not create a second version.
fn token(call: &Call) -> Result<String, ApiError> {
    match call.text("ClientRequestToken") {
        "" => Ok(request_id()),
        token if (32..=64).contains(&token.len()) => Ok(token.to_owned()),
        _ => Err(invalid_parameter("ClientRequestToken must be 32-64 characters long.")),
    }
}
