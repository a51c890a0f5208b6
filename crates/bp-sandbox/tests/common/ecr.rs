//! Two registries of Amazon ECR in one account, and a client.

#![allow(dead_code, reason = "each test file uses a part of it")]

use aws_sdk_ecr::{
    Client,
    config::{BehaviorVersion, Credentials, Region},
};
use bp_sandbox::{Sandbox, registry::RegistryOptions};

pub(crate) const HOST: &str = "111111111111.dkr.ecr.eu-central-1.amazonaws.com";
pub(crate) const OTHER_REGION: &str = "111111111111.dkr.ecr.eu-west-1.amazonaws.com";

pub(crate) fn sandbox() -> Sandbox {
    Sandbox::builder()
        .registry(HOST, RegistryOptions::ecr())
        .registry(OTHER_REGION, RegistryOptions::ecr())
        .build()
}

pub(crate) fn client(sandbox: &Sandbox) -> Client {
    let config = aws_sdk_ecr::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(Credentials::new("AKIDTEST", "secret", None, None, "test"))
        .http_client(sandbox.http_client())
        .build();
    Client::from_conf(config)
}
