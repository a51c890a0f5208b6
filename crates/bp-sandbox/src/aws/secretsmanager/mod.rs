//! Secrets Manager: secrets with versions and staging labels, replicas, resource policies and denials.

mod handle;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

pub use self::handle::Secrets;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Aws,
    wire::{Answer, ApiError, Call, request_id},
};

const CURRENT: &str = "AWSCURRENT";
const PREVIOUS: &str = "AWSPREVIOUS";
/// The most secrets that one `BatchGetSecretValue` takes.
const BATCH: usize = 20;

/// Account and region.
type Place = (String, String);

/// The state of the service, by account and region.
#[derive(Debug, Default)]
pub(super) struct SecretsManager(Mutex<BTreeMap<Place, BTreeMap<String, Secret>>>);

#[derive(Debug, Clone)]
struct Secret {
    arn: String,
    name: String,
    description: Option<String>,
    created: Timestamp,
    changed: Timestamp,
    deleted: Option<Timestamp>,
    versions: Vec<Version>,
    /// Regions that follow this one.
    replicas: BTreeSet<String>,
    /// Accounts that the resource policy lets read.
    shared_with: BTreeSet<String>,
    /// IAM actions that are refused.
    denied: BTreeSet<String>,
}

#[derive(Clone)]
struct Version {
    id: String,
    content: Content,
    stages: BTreeSet<String>,
    created: Timestamp,
}

#[derive(Clone, PartialEq, Eq)]
enum Content {
    Text(String),
    Binary(Vec<u8>),
}

impl std::fmt::Debug for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Version").field("id", &self.id).field("stages", &self.stages).finish_non_exhaustive()
    }
}

impl Content {
    fn of(input: &Value) -> Result<Option<Self>, ApiError> {
        match (input["SecretString"].as_str(), input["SecretBinary"].as_str()) {
            (Some(text), None) => Ok(Some(Content::Text(text.to_owned()))),
            (None, Some(text)) => match BASE64_STANDARD.decode(text) {
                Ok(bytes) => Ok(Some(Content::Binary(bytes))),
                Err(_) => Err(ApiError::new(400, "SerializationException", "SecretBinary is not base64")),
            },
            (None, None) => Ok(None),
            _ => Err(invalid_parameter("You can't specify both SecretString and SecretBinary.")),
        }
    }

    /// The member that holds it in an answer.
    fn member(&self) -> (&'static str, Value) {
        match self {
            Content::Text(text) => ("SecretString", json!(text)),
            Content::Binary(bytes) => ("SecretBinary", json!(BASE64_STANDARD.encode(bytes))),
        }
    }
}

impl Secret {
    fn new(place: &Place, name: &str, now: Timestamp) -> Self {
        let suffix: String = std::iter::repeat_with(fastrand::alphanumeric).take(6).collect();
        let (account, region) = place;
        Secret {
            arn: format!("arn:aws:secretsmanager:{region}:{account}:secret:{name}-{suffix}"),
            name: name.to_owned(),
            description: None,
            created: now,
            changed: now,
            deleted: None,
            versions: Vec::new(),
            replicas: BTreeSet::new(),
            shared_with: BTreeSet::new(),
            denied: BTreeSet::new(),
        }
    }

    /// Adds a version. One with this id and content is left alone, as a repeated request would.
    fn put(
        &mut self,
        id: String,
        content: Content,
        stages: &[String],
        now: Timestamp,
    ) -> Result<(), ApiError> {
        if let Some(version) = self.versions.iter().find(|v| v.id == id) {
            return match version.content == content {
                true => Ok(()),
                false => Err(ApiError::new(
                    400,
                    "ResourceExistsException",
                    format!(
                        "You can't use ClientRequestToken {id} because that value is already in use for a version of \
                         secret {}.",
                        self.arn
                    ),
                )),
            };
        }
        self.versions.push(Version { id: id.clone(), content, stages: BTreeSet::new(), created: now });
        self.changed = now;
        for stage in stages {
            self.move_stage(stage, &id);
        }
        Ok(())
    }

    /// Attaches `stage` to one version alone; what loses `AWSCURRENT` becomes `AWSPREVIOUS`.
    fn move_stage(&mut self, stage: &str, to: &str) {
        let loser = self.versions.iter_mut().find(|v| v.stages.contains(stage) && v.id != to);
        let loser = loser.map(|version| {
            version.stages.remove(stage);
            version.id.clone()
        });
        if let Some(version) = self.versions.iter_mut().find(|v| v.id == to) {
            version.stages.insert(stage.to_owned());
        }
        if let (CURRENT, Some(loser)) = (stage, loser) {
            self.unstage(PREVIOUS);
            self.move_stage(PREVIOUS, &loser);
        }
    }

    fn unstage(&mut self, stage: &str) {
        for version in &mut self.versions {
            version.stages.remove(stage);
        }
    }

    fn version(&self, id: Option<&str>, stage: Option<&str>) -> Result<&Version, ApiError> {
        let found = match (id, stage) {
            (Some(id), stage) => {
                let version = self.versions.iter().find(|v| v.id == id);
                if let (Some(version), Some(stage)) = (version, stage)
                    && !version.stages.contains(stage)
                {
                    return Err(invalid_request(
                        "You provided a VersionStage that is not associated to the provided VersionId.",
                    ));
                }
                version.ok_or_else(|| format!("VersionId: {id}"))
            }
            (None, stage) => {
                let stage = stage.unwrap_or(CURRENT);
                let version = self.versions.iter().find(|v| v.stages.contains(stage));
                version.ok_or_else(|| format!("staging label: {stage}"))
            }
        };
        found.map_err(|which| {
            not_found(format!("Secrets Manager can't find the specified secret value for {which}"))
        })
    }

    fn value(&self, version: &Version) -> Value {
        let mut value = json!({
            "ARN": self.arn,
            "Name": self.name,
            "VersionId": version.id,
            "VersionStages": version.stages,
            "CreatedDate": seconds(version.created),
        });
        let (member, content) = version.content.member();
        value[member] = content;
        value
    }

    fn stages(&self) -> BTreeMap<&str, &BTreeSet<String>> {
        self.versions.iter().filter(|v| !v.stages.is_empty()).map(|v| (v.id.as_str(), &v.stages)).collect()
    }

    fn describe(&self) -> Value {
        let mut value = json!({
            "ARN": self.arn,
            "Name": self.name,
            "VersionIdsToStages": self.stages(),
            "CreatedDate": seconds(self.created),
            "LastChangedDate": seconds(self.changed),
        });
        if let Some(description) = &self.description {
            value["Description"] = json!(description);
        }
        if let Some(deleted) = self.deleted {
            value["DeletedDate"] = json!(seconds(deleted));
        }
        value
    }
}

impl SecretsManager {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Place, BTreeMap<String, Secret>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn call(&self, aws: &Aws, call: &Call) -> Answer {
        let now = aws.clock.now();
        let caller = Caller { arn: aws.identity(&call.access_key_id).arn, call };
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

    fn create(&self, call: &Call, now: Timestamp) -> Answer {
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
        let secrets = state.entry(place(call)).or_default();
        match secrets.get(name) {
            Some(secret) if secret.deleted.is_some() => {
                return Err(invalid_request(
                    "You can't create this secret because a secret with this name is already scheduled for deletion.",
                ));
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
        let mut secret = Secret::new(&place(call), name, now);
        secret.description = call.input["Description"].as_str().map(str::to_owned);
        let mut answer = json!({ "ARN": secret.arn, "Name": name });
        if let Some(content) = content {
            let id = token(call);
            secret.put(id.clone(), content, &[CURRENT.to_owned()], now)?;
            answer["VersionId"] = json!(id);
        }
        secrets.insert(name.to_owned(), secret);
        Ok(answer)
    }

    fn put(&self, caller: &Caller<'_>, now: Timestamp) -> Answer {
        let content = Content::of(&caller.call.input)?
            .ok_or_else(|| invalid_parameter("You must provide either SecretString or SecretBinary."))?;
        let id = token(caller.call);
        let stages = match caller.call.input["VersionStages"].as_array() {
            Some(stages) => stages.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            None => vec![CURRENT.to_owned()],
        };
        self.with(caller, "PutSecretValue", |secret| {
            secret.put(id.clone(), content, &stages, now)?;
            Ok(json!({ "ARN": secret.arn, "Name": secret.name, "VersionId": id, "VersionStages": stages }))
        })
    }

    fn update_stage(&self, caller: &Caller<'_>) -> Answer {
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

    fn delete(&self, caller: &Caller<'_>, now: Timestamp) -> Answer {
        let input = &caller.call.input;
        let force = input["ForceDeleteWithoutRecovery"].as_bool().unwrap_or_default();
        let days = input["RecoveryWindowInDays"].as_i64().unwrap_or(30);
        let date = if force { now } else { now + jiff::SignedDuration::from_hours(24 * days) };
        let answer = self.with(caller, "DeleteSecret", |secret| {
            secret.deleted = Some(date);
            Ok(json!({ "ARN": secret.arn, "Name": secret.name, "DeletionDate": seconds(date) }))
        })?;
        if force && let Some(name) = answer["Name"].as_str() {
            self.lock().entry(place(caller.call)).or_default().remove(name);
        }
        Ok(answer)
    }

    fn get(&self, caller: &Caller<'_>, id: &str, input: &Value) -> Answer {
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

    /// The current version of up to 20 secrets; what goes wrong with one is told in `Errors`.
    fn batch(&self, caller: &Caller<'_>) -> Answer {
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
        if self.refuses_batches(caller) {
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

    fn refuses_batches(&self, caller: &Caller<'_>) -> bool {
        let state = self.lock();
        let own = state.get(&place(caller.call));
        own.is_some_and(|secrets| {
            secrets.values().any(|s| s.denied.contains("secretsmanager:BatchGetSecretValue"))
        })
    }

    fn list(&self, call: &Call) -> Answer {
        let most = call.input["MaxResults"].as_u64().unwrap_or(100).clamp(1, 100) as usize;
        let state = self.lock();
        let after = call.text("NextToken");
        let mut rest = state.get(&place(call)).into_iter().flat_map(BTreeMap::values);
        let mut page = Vec::new();
        let mut last = None;
        for secret in rest.by_ref().filter(|s| s.deleted.is_none() && s.name.as_str() > after).take(most) {
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

    /// Acts on the secret that `id` (a name, an ARN, an ARN without its suffix) names, and brings its replicas up to
    /// date.
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

    /// Whether a task's `valueFrom` (an ARN with JSON key, stage and version id) can be read, else the agent's reason.
    pub(super) fn exists(&self, account: &str, region: &str, value_from: &str) -> Result<(), String> {
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

/// Who calls, for the texts of denials.
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
    // Whole, or without the hyphen and six characters at its end.
    secrets.values_mut().find(|s| s.arn == id || s.arn[..s.arn.len() - 7] == *id)
}

/// Brings the replicas of a secret up to date.
fn replicate(state: &mut BTreeMap<Place, BTreeMap<String, Secret>>, home: &Place, secret: &Secret) {
    for region in &secret.replicas {
        let mut replica = secret.clone();
        replica.arn = secret.arn.replacen(&format!(":{}:", home.1), &format!(":{region}:"), 1);
        replica.replicas = BTreeSet::new();
        state.entry((home.0.clone(), region.clone())).or_default().insert(secret.name.clone(), replica);
    }
}

fn place(call: &Call) -> Place {
    (call.account.clone(), call.region.clone())
}

/// The id of a new version: the request's token, so that a repeated request makes no second one.
fn token(call: &Call) -> String {
    match call.text("ClientRequestToken") {
        "" => request_id(),
        token => token.to_owned(),
    }
}

fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

fn not_found(message: impl Into<String>) -> ApiError {
    ApiError::new(400, "ResourceNotFoundException", message)
}

fn invalid_request(message: impl Into<String>) -> ApiError {
    ApiError::new(400, "InvalidRequestException", message)
}

fn invalid_parameter(message: impl Into<String>) -> ApiError {
    ApiError::new(400, "InvalidParameterException", message)
}

fn marked_for_deletion() -> ApiError {
    invalid_request("You can't perform this operation on the secret because it was marked for deletion.")
}
