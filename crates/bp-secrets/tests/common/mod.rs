//! AWS SDK clients over the sandbox's in-memory transport.
#![allow(dead_code, reason = "each test file uses a part")]

use bp_sandbox::Sandbox;
use bp_secrets::{ParameterStore, Reference, SecretsManager, Stores};

pub(crate) const REGION: &str = "eu-central-1";
pub(crate) const ACCOUNT: &str = bp_sandbox::aws::DEFAULT_ACCOUNT;

pub(crate) fn config(sandbox: &Sandbox, region: &'static str) -> aws_types::SdkConfig {
    use aws_sdk_secretsmanager::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
    aws_types::SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::from_static(region))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
            "AKIATEST", "test", None, None, "test",
        )))
        .http_client(sandbox.http_client())
        .build()
}

pub(crate) fn secrets_manager(sandbox: &Sandbox, region: &'static str) -> SecretsManager {
    SecretsManager::new(aws_sdk_secretsmanager::Client::new(&config(sandbox, region)))
}

pub(crate) fn parameter_store(sandbox: &Sandbox, region: &'static str) -> ParameterStore {
    ParameterStore::new(aws_sdk_ssm::Client::new(&config(sandbox, region)))
}

pub(crate) fn stores(sandbox: &Sandbox) -> Stores {
    Stores::new()
        .secrets_manager(secrets_manager(sandbox, REGION))
        .parameter_store(parameter_store(sandbox, REGION))
}

pub(crate) fn references<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<Reference> {
    texts.into_iter().map(|text| text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))).collect()
}

/// The fetched text, or the error's code.
pub(crate) fn texts(answers: &[Result<bp_secrets::value::Fetched, bp_secrets::Error>]) -> Vec<String> {
    answers
        .iter()
        .map(|answer| match answer {
            Ok(fetched) => String::from_utf8_lossy(fetched.value().expose_bytes()).into_owned(),
            Err(error) => error.code().to_owned(),
        })
        .collect()
}
