//! Checks references to secrets and fetches one, on stores in memory: `cargo run -p bp-secrets --example check`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use aws_sdk_secretsmanager::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
use bp_sandbox::{Sandbox, aws::DEFAULT_ACCOUNT};
use bp_secrets::{Depth, ParameterStore, Reference, SecretsManager, Store as _, Stores, check};

const REGION: &str = "eu-central-1";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A secret and a parameter in memory. Leave this out for real stores.
    let sandbox = Sandbox::builder().build();
    sandbox.aws().secretsmanager(DEFAULT_ACCOUNT, REGION).create("prod/db", r#"{"user": "app"}"#);
    sandbox.aws().ssm(DEFAULT_ACCOUNT, REGION).put_secure("/prod/host", "db.internal");
    let credentials = Credentials::new("AKIAEXAMPLE", "secret", None, None, "example");
    let config = aws_types::SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static(REGION))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .http_client(sandbox.http_client())
        .build();

    // What a program does before a deployment.
    let stores = Stores::new()
        .secrets_manager(SecretsManager::new(aws_sdk_secretsmanager::Client::new(&config)))
        .parameter_store(ParameterStore::new(aws_sdk_ssm::Client::new(&config)));
    let references: Vec<Reference> = vec![
        "secretsmanager:prod/db:user::".parse()?,
        "secretsmanager:prod/db:password::".parse()?,
        "/prod/host".parse()?,
    ];
    for checked in check(&stores, &references, Depth::Keys).await.checked {
        match &checked.error {
            None => println!("{}: ok", checked.reference),
            Some(error) => println!("{}: {error}", checked.reference),
        }
    }
    // Values are never printed: this shows the type.
    for fetched in stores.fetch(&references[..1]).await {
        println!("{:?}", fetched?.into_value());
    }
    Ok(())
}
