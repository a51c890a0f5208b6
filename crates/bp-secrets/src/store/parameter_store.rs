//! Read parameters from AWS Systems Manager Parameter Store.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_sdk_ssm::{Client, types::Parameter};

use super::{
    Description, Store, run_buffered,
    sdk::{Code, Failure},
};
use crate::{
    error::{Error, ErrorKind},
    reference::{ParameterRef, ParameterVersion, Reference},
    value::{SecretValue, Stored},
};

/// The maximum number of parameters in one `GetParameters` call.
const BATCH: usize = 10;
/// Concurrent calls: the service's quota is 40 calls per second for the whole account and region.
const CALLS: usize = 4;

const ACTION: &str = "ssm:GetParameters";

/// Reads from Parameter Store with an injected client, in that client's region.
///
/// # Permissions
/// `ssm:GetParameters` on each parameter; for a `SecureString` under a customer managed KMS key also `kms:Decrypt`,
/// which [`describe`](Store::describe) does not need, because it never decrypts.
#[derive(Debug, Clone)]
pub struct ParameterStore {
    client: Client,
}

impl ParameterStore {
    /// Creates a store with this client.
    pub fn new(client: Client) -> Self {
        ParameterStore { client }
    }

    /// The client's region.
    pub fn region(&self) -> Option<&str> {
        self.client.config().region().map(|region| region.as_ref())
    }

    /// Gets the parameters in `wanted`. For a missing one with a selector, checks whether only that version is missing.
    async fn get_all<'a>(
        &self,
        wanted: &BTreeSet<&'a ParameterRef>,
        decrypt: bool,
    ) -> HashMap<&'a ParameterRef, Result<Found, Failure>> {
        let wanted: Vec<&ParameterRef> = wanted.iter().copied().collect();
        let mut answers = self.get_chunks(&wanted, decrypt).await;
        let latest: BTreeMap<ParameterRef, Vec<&'a ParameterRef>> = answers
            .iter()
            .filter(|(parameter, answer)| is_missing_version(parameter, answer))
            .fold(BTreeMap::new(), |mut all, (parameter, _)| {
                all.entry((*parameter).clone().latest()).or_default().push(parameter);
                all
            });
        let bare: Vec<&ParameterRef> = latest.keys().collect();
        for (parameter, answer) in self.get_chunks(&bare, false).await {
            if answer.is_ok() {
                let failure = Failure::reported("ParameterVersionNotFound", "another version exists", None);
                let same = latest.get(parameter).into_iter().flatten();
                answers.extend(same.map(|parameter| (*parameter, Err(failure.clone()))));
            }
        }
        answers
    }

    async fn get_chunks<'a>(
        &self,
        wanted: &[&'a ParameterRef],
        decrypt: bool,
    ) -> HashMap<&'a ParameterRef, Result<Found, Failure>> {
        let chunks = wanted.chunks(BATCH).map(|chunk| self.get_batch(chunk, decrypt));
        run_buffered(CALLS, chunks).await.into_iter().flatten().collect()
    }

    /// Gets up to ten parameters. One denied parameter fails the whole call: then each is read with a separate call.
    async fn get_batch<'a>(
        &self,
        batch: &[&'a ParameterRef],
        decrypt: bool,
    ) -> Vec<(&'a ParameterRef, Result<Found, Failure>)> {
        match self.get(batch, decrypt).await {
            Ok(answers) => answers,
            Err(Failure { code: Code::Denied(_) | Code::Refused(_), .. }) if batch.len() > 1 => {
                tracing::debug!("batch rejected, reading parameters one by one");
                let single = batch.chunks(1).map(|one| self.get(one, decrypt));
                let answers = run_buffered(CALLS, single).await.into_iter().zip(batch);
                answers.flat_map(|(answer, one)| answer.unwrap_or_else(|e| vec![(*one, Err(e))])).collect()
            }
            Err(failure) => batch.iter().map(|parameter| (*parameter, Err(failure.clone()))).collect(),
        }
    }

    async fn get<'a>(
        &self,
        batch: &[&'a ParameterRef],
        decrypt: bool,
    ) -> Result<Vec<(&'a ParameterRef, Result<Found, Failure>)>, Failure> {
        let names = batch.iter().map(|parameter| parameter.selected()).collect();
        let call = self.client.get_parameters().set_names(Some(names)).with_decryption(decrypt);
        let answer = call.send().await.map_err(Failure::of)?;
        let parameters: Vec<Found> =
            answer.parameters.unwrap_or_default().into_iter().map(Found::from).collect();
        let found = |wanted: &ParameterRef| parameters.iter().find(|found| found.matches(wanted)).cloned();
        let missing = || Failure::reported("ParameterNotFound", "listed under InvalidParameters", None);
        Ok(batch.iter().map(|parameter| (*parameter, found(parameter).ok_or_else(missing))).collect())
    }

    async fn answers<T>(
        &self,
        references: &[Reference],
        decrypt: bool,
        read: impl Fn(&Stored) -> T,
    ) -> Vec<Result<T, Error>> {
        let wanted = references.iter().filter_map(parameter);
        let answers = self.get_all(&wanted.collect(), decrypt).await;
        let answer = |reference: &Reference| {
            let Some(parameter) = parameter(reference) else {
                return Err(Error::new(reference, ErrorKind::NoStore));
            };
            match answers.get(parameter) {
                Some(Ok(found)) => Ok(read(&found.stored)),
                Some(Err(failure)) => Err(failure.to_error(reference, ACTION)),
                None => Err(Error::new(reference, ErrorKind::Unreadable)),
            }
        };
        references.iter().map(answer).collect()
    }
}

impl Store for ParameterStore {
    #[tracing::instrument(level = "debug", skip_all, fields(references = references.len()))]
    async fn read(&self, references: &[Reference]) -> Vec<Result<Stored, Error>> {
        self.answers(references, true, Stored::clone).await
    }

    #[tracing::instrument(level = "debug", skip_all, fields(references = references.len()))]
    async fn describe(&self, references: &[Reference]) -> Vec<Result<Description, Error>> {
        let read = |stored: &Stored| Description {
            arn: stored.arn().to_owned(),
            version: stored.version().to_owned(),
            kms_key: None,
        };
        self.answers(references, false, read).await
    }
}

fn parameter(reference: &Reference) -> Option<&ParameterRef> {
    match reference {
        Reference::Parameter(parameter) => Some(parameter),
        Reference::Secret(_) => None,
    }
}

/// A parameter in a response.
#[derive(Debug, Clone)]
struct Found {
    name: String,
    /// The selector of the request, such as `:3`.
    selector: String,
    stored: Stored,
}

impl From<Parameter> for Found {
    fn from(mut parameter: Parameter) -> Self {
        let value = SecretValue::take_text(parameter.value.take().unwrap_or_default());
        let version = parameter.version.to_string();
        Found {
            name: parameter.name.unwrap_or_default(),
            selector: parameter.selector.unwrap_or_default(),
            stored: Stored::new(value, parameter.arn.unwrap_or_default(), version),
        }
    }
}

impl Found {
    /// Whether it is the requested parameter, by name or ARN, with the same selector.
    fn matches(&self, wanted: &ParameterRef) -> bool {
        let id = wanted.id();
        let selector = wanted.selector().map(|selector| format!(":{selector}")).unwrap_or_default();
        (self.name == id || self.stored.arn() == id) && self.selector == selector
    }
}

fn is_missing_version(parameter: &ParameterRef, answer: &Result<Found, Failure>) -> bool {
    let missing = matches!(answer, Err(Failure { code: Code::Missing, .. }));
    missing && *parameter.version() != ParameterVersion::Latest
}
