//! Read secrets from AWS Secrets Manager.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_sdk_secretsmanager::{Client, operation::RequestId as _, primitives::Blob};

use super::{
    Description, Store, run_buffered,
    sdk::{Code, Failure},
};
use crate::{
    error::{Error, ErrorKind},
    reference::{Reference, SecretRef, SecretVersion},
    value::{SecretValue, Stored},
};

/// The maximum number of secrets in one `BatchGetSecretValue` call.
const BATCH: usize = 20;
/// Concurrent calls.
const CALLS: usize = 8;

/// Reads from Secrets Manager with an injected client, in that client's region.
///
/// Current versions are read in batches of 20. Without permission for batches, and for other versions, each secret
/// costs a call.
///
/// # Permissions
/// `secretsmanager:GetSecretValue` on each secret; `secretsmanager:BatchGetSecretValue` on `*` saves calls;
/// [`describe`](Store::describe) needs `secretsmanager:DescribeSecret`. A customer managed KMS key needs `kms:Decrypt`.
#[derive(Debug, Clone)]
pub struct SecretsManager {
    client: Client,
    replica: Option<Client>,
}

type Answer = Result<Stored, Failure>;

impl SecretsManager {
    /// Creates a store with this client.
    pub fn new(client: Client) -> Self {
        SecretsManager { client, replica: None }
    }

    /// Reads replicas in this client's region while the primary region is unavailable. Secrets that are missing or
    /// denied in the primary region are not requested from the replica.
    ///
    /// ```no_run
    /// # fn example(here: aws_sdk_secretsmanager::Client, there: aws_sdk_secretsmanager::Client) {
    /// let store = bp_secrets::SecretsManager::new(here).with_replica(there);
    /// # }
    /// ```
    pub fn with_replica(mut self, client: Client) -> Self {
        self.replica = Some(client);
        self
    }

    /// The client's region.
    pub fn region(&self) -> Option<&str> {
        self.client.config().region().map(|region| region.as_ref())
    }

    /// Reads the distinct secrets in `wanted`.
    async fn read_all<'a>(&self, wanted: &BTreeSet<&'a SecretRef>) -> HashMap<&'a SecretRef, Answer> {
        let (current, other): (Vec<&SecretRef>, Vec<&SecretRef>) =
            wanted.iter().copied().partition(|secret| secret.version().is_current());
        // A single secret is read with GetSecretValue, which does not need the permission for batches.
        let (batched, mut single) =
            if current.len() > 1 { (current, other) } else { (Vec::new(), wanted.iter().copied().collect()) };
        let mut answers = HashMap::new();
        let batches = batched.chunks(BATCH).map(|batch| self.get_batch(batch));
        for (found, left) in run_buffered(CALLS, batches).await {
            answers.extend(found);
            single.extend(left);
        }
        let found = run_buffered(CALLS, single.iter().map(|secret| self.get(secret))).await;
        answers.extend(single.into_iter().zip(found));
        answers
    }

    /// Reads one secret.
    async fn get(&self, secret: &SecretRef) -> Answer {
        let call = self.client.get_secret_value().secret_id(secret.id());
        let call = match secret.version() {
            SecretVersion::Current => call,
            SecretVersion::Stage(stage) => call.version_stage(stage),
            SecretVersion::Id(id) => call.version_id(id),
        };
        let mut answer = call.send().await.map_err(Failure::of)?;
        let request_id = answer.request_id().map(str::to_owned);
        let (text, bytes) = (answer.secret_string.take(), answer.secret_binary.take());
        stored(answer.arn, answer.version_id, text, bytes).ok_or_else(|| without_value(request_id.as_deref()))
    }

    /// Reads the current versions of up to 20 secrets; returns the answers, and the secrets that need separate calls.
    async fn get_batch<'a>(
        &self,
        batch: &[&'a SecretRef],
    ) -> (Vec<(&'a SecretRef, Answer)>, Vec<&'a SecretRef>) {
        let mut by_id: BTreeMap<String, Vec<&'a SecretRef>> = BTreeMap::new();
        for secret in batch {
            by_id.entry(secret.id()).or_default().push(secret);
        }
        let mut found = Vec::new();
        let mut next = None;
        loop {
            let call = self
                .client
                .batch_get_secret_value()
                .set_secret_id_list(Some(by_id.keys().cloned().collect()));
            let answer = match call.set_next_token(next.take()).send().await {
                Ok(answer) => answer,
                Err(error) => {
                    let failure = Failure::of(error);
                    let left = by_id.into_values().flatten();
                    return match failure.code {
                        // Batches are not allowed, or one invalid id fails the batch.
                        Code::Denied(_) | Code::Refused(_) => {
                            tracing::debug!(?failure.code, "batch rejected, reading secrets one by one");
                            (found, left.collect())
                        }
                        _ => {
                            found.extend(left.map(|secret| (secret, Err(failure.clone()))));
                            (found, Vec::new())
                        }
                    };
                }
            };
            let request_id = answer.request_id().map(str::to_owned);
            next = answer.next_token;
            for error in answer.errors.unwrap_or_default() {
                let id = error.secret_id.unwrap_or_default();
                let failure = Failure::reported(
                    error.error_code.as_deref().unwrap_or_default(),
                    error.message.as_deref().unwrap_or_default(),
                    request_id.as_deref(),
                );
                let failed = by_id.remove(&id).unwrap_or_default();
                found.extend(failed.into_iter().map(|secret| (secret, Err(failure.clone()))));
            }
            for mut value in answer.secret_values.unwrap_or_default() {
                let (text, bytes) = (value.secret_string.take(), value.secret_binary.take());
                let (arn, name) = (value.arn.clone().unwrap_or_default(), value.name.unwrap_or_default());
                let answer = stored(value.arn, value.version_id, text, bytes)
                    .ok_or_else(|| without_value(request_id.as_deref()));
                let ids: Vec<String> = by_id.keys().filter(|id| is_id_of(id, &arn, &name)).cloned().collect();
                let secrets = ids.iter().filter_map(|id| by_id.remove(id)).flatten();
                found.extend(secrets.map(|secret| (secret, answer.clone())).collect::<Vec<_>>());
            }
            if next.is_none() || by_id.is_empty() {
                return (found, by_id.into_values().flatten().collect());
            }
        }
    }

    async fn read_here(&self, references: &[Reference]) -> Vec<Result<Stored, Error>> {
        let whole_refs: Vec<Reference> = references.iter().map(Reference::whole).collect();
        let wanted = whole_refs.iter().filter_map(|reference| match reference {
            Reference::Secret(secret) => Some(secret),
            Reference::Parameter(_) => None,
        });
        let answers = self.read_all(&wanted.collect()).await;
        let pairs = references.iter().zip(&whole_refs);
        pairs
            .map(|(reference, whole)| match whole {
                Reference::Secret(secret) => match answers.get(secret) {
                    Some(Ok(stored)) => Ok(stored.clone()),
                    Some(Err(failure)) => Err(failure.to_error(reference, "secretsmanager:GetSecretValue")),
                    None => Err(Error::new(reference, ErrorKind::Unreadable)),
                },
                Reference::Parameter(_) => Err(Error::new(reference, ErrorKind::NoStore)),
            })
            .collect()
    }

    /// Called on the replica's store: replaces retryable errors by the replica's values. Where the replica fails too,
    /// the first error remains.
    async fn replace_unavailable(&self, references: &[Reference], answers: &mut [Result<Stored, Error>]) {
        let region = self.region().unwrap_or_default();
        let failed = references.iter().zip(answers);
        let failed: Vec<_> =
            failed.filter(|(_, answer)| answer.as_ref().is_err_and(Error::is_retryable)).collect();
        let replicas: Vec<Reference> =
            failed.iter().map(|(reference, _)| in_region(reference, region)).collect();
        for ((reference, failed), answer) in failed.into_iter().zip(self.read_here(&replicas).await) {
            if let Ok(stored) = answer {
                tracing::warn!(%reference, region, "read from the replica");
                *failed = Ok(stored);
            }
        }
    }

    async fn describe_one(&self, reference: &Reference) -> Result<Description, Error> {
        let Reference::Secret(secret) = reference else {
            return Err(Error::new(reference, ErrorKind::NoStore));
        };
        let call = self.client.describe_secret().secret_id(secret.id());
        let failed = |failure: Failure| failure.to_error(reference, "secretsmanager:DescribeSecret");
        let answer = call.send().await.map_err(|e| failed(Failure::of(e)))?;
        let request_id = answer.request_id().map(str::to_owned);
        if answer.deleted_date.is_some() {
            return Err(Error::new(reference, ErrorKind::Deleted).in_request(request_id));
        }
        let stages = answer.version_ids_to_stages.unwrap_or_default();
        let version = match secret.version() {
            SecretVersion::Id(id) if stages.contains_key(id) => Some(id.clone()),
            // A version without a stage is not listed, but can still be read for some time.
            SecretVersion::Id(_) => Some(String::new()),
            version => {
                let stage = version.stage().unwrap_or_default();
                stages.into_iter().find(|(_, stages)| stages.iter().any(|s| s == stage)).map(|(id, _)| id)
            }
        };
        let version =
            version.ok_or_else(|| Error::new(reference, ErrorKind::NoSuchVersion).in_request(request_id))?;
        Ok(Description { arn: answer.arn.unwrap_or_default(), version, kms_key: answer.kms_key_id })
    }
}

impl Store for SecretsManager {
    #[tracing::instrument(level = "debug", skip_all, fields(references = references.len()))]
    async fn read(&self, references: &[Reference]) -> Vec<Result<Stored, Error>> {
        let mut answers = self.read_here(references).await;
        if let Some(replica) = &self.replica {
            SecretsManager::new(replica.clone()).replace_unavailable(references, &mut answers).await;
        }
        answers
    }

    #[tracing::instrument(level = "debug", skip_all, fields(references = references.len()))]
    async fn describe(&self, references: &[Reference]) -> Vec<Result<Description, Error>> {
        run_buffered(CALLS, references.iter().map(|reference| self.describe_one(reference))).await
    }
}

fn stored(
    arn: Option<String>,
    version: Option<String>,
    text: Option<String>,
    bytes: Option<Blob>,
) -> Option<Stored> {
    let value = match (text, bytes) {
        (Some(text), _) => SecretValue::take_text(text),
        (None, Some(bytes)) => SecretValue::take_bytes(bytes.into_inner()),
        (None, None) => return None,
    };
    Some(Stored::new(value, arn.unwrap_or_default(), version.unwrap_or_default()))
}

fn without_value(request_id: Option<&str>) -> Failure {
    let mut failure = Failure::reported(
        "SecretValueMissing",
        "the response has neither SecretString nor SecretBinary",
        request_id,
    );
    failure.code = Code::Unreadable;
    failure
}

/// Whether a reference's id is this secret's name, its ARN, or its ARN without the suffix.
fn is_id_of(id: &str, arn: &str, name: &str) -> bool {
    let suffix = arn.strip_prefix(id);
    id == name || id == arn || (id.starts_with("arn:") && suffix.is_some_and(|suffix| suffix.len() == 7))
}

fn in_region(reference: &Reference, region: &str) -> Reference {
    match reference {
        Reference::Secret(secret) => Reference::Secret(secret.in_region(region)),
        other => other.clone(),
    }
}
