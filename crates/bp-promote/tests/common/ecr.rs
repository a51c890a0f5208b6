//! Two registries of Amazon ECR in different accounts and regions, and a client for both.

use aws_sdk_ecr::{
    Client,
    config::{BehaviorVersion, Credentials, Region, retry::RetryConfig},
};
use bp_artifact::time::TimeSource;
use bp_promote::{
    RegistryClient,
    registry::{Anonymous, EcrClients, RegistryClientBuilder, transport},
};
use bp_sandbox::{Sandbox, registry::RegistryOptions};

use super::{World, multi};

pub(crate) const STAGING: &str = "111111111111.dkr.ecr.eu-central-1.amazonaws.com";
pub(crate) const PROD: &str = "222222222222.dkr.ecr.us-east-1.amazonaws.com";

pub(crate) fn ecr(sandbox: &Sandbox, key: &str, region: &'static str) -> Client {
    let config = aws_sdk_ecr::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(region))
        .retry_config(RetryConfig::disabled())
        .credentials_provider(Credentials::new(key, "secret", None, None, "test"))
        .http_client(sandbox.http_client());
    Client::from_conf(config.build())
}

/// The source has an image as `shop/web:v1`, the destination has no repository.
pub(crate) fn world(describe: impl FnOnce(RegistryClientBuilder) -> RegistryClientBuilder) -> World {
    let sandbox = Sandbox::builder()
        .registry(STAGING, RegistryOptions::ecr())
        .registry(PROD, RegistryOptions::ecr())
        .build();
    sandbox.aws().access_key("AKIASTAGING", "111111111111");
    sandbox.aws().access_key("AKIAPROD", "222222222222");
    let clients = EcrClients::new()
        .with(STAGING.parse().unwrap(), ecr(&sandbox, "AKIASTAGING", "eu-central-1"))
        .with(PROD.parse().unwrap(), ecr(&sandbox, "AKIAPROD", "us-east-1"));
    let clock = sandbox.clock().clone();
    let builder = RegistryClient::builder()
        .transport(transport(sandbox.transport()))
        .ecr(clients)
        .credentials(Anonymous)
        .time_source(TimeSource::from_fn(move || clock.now()));
    let client = describe(builder).build().unwrap();
    sandbox.registry(STAGING).push(&multi(), "shop/web", "v1");
    World { sandbox, client }
}
