//! Deploys to an ECS service of the sandbox and shows what happens: `cargo run -p bp-ecs --example deploy`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_ecs::config::{BehaviorVersion, Region};
use bp_artifact::{DigestRef, ResolvedImage};
use bp_ecs::{Cluster, Options};
use bp_sandbox::{Behaviour, Clock, ImageBuilder, Sandbox, registry::RegistryOptions};
use serde_json::json;

const REGISTRY: &str = "111111111111.dkr.ecr.eu-central-1.amazonaws.com";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The sandbox: a registry, and a service that runs an earlier image. Not needed with a real AWS account.
    let sandbox =
        Sandbox::builder().clock(Clock::accelerated(20)).registry(REGISTRY, RegistryOptions::ecr()).build();
    let push = |version: &str| -> Result<ResolvedImage, bp_artifact::error::ParseError> {
        let image = ImageBuilder::new().platform("linux/amd64").layer([("app/version", version)]).build();
        sandbox.registry(REGISTRY).push(&image, "shop/web", version);
        let reference: DigestRef = format!("{REGISTRY}/shop/web@{}", image.digest()).parse()?;
        Ok(reference.into())
    };
    let (earlier, broken) = (push("1.0.0")?, push("1.1.0")?);
    let crash = Behaviour::Exits { after: Duration::from_secs(3), code: 1, log: Vec::new() };
    sandbox.script(broken.digest().as_str(), crash);
    sandbox
        .aws()
        .ecs("111111111111", "eu-central-1")
        .new_service("shop", "web")
        .task_definition(json!({
            "family": "web",
            "memory": "512",
            "containerDefinitions": [{
                "name": "web",
                "image": earlier.reference.to_string(),
                "healthCheck": { "command": ["CMD", "/app/check"] },
            }],
        }))
        .create();
    let config = aws_sdk_ecs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(Credentials::from_keys("AKIAEXAMPLE", "secret", None))
        .http_client(sandbox.http_client())
        .build();

    // The deployment, as in a program of your own.
    let options = Options::new(Duration::from_secs(60))?.poll_interval(Duration::from_millis(200))?;
    let web =
        Cluster::new(aws_sdk_ecs::Client::from_conf(config), "shop").service("web", options).container("web");
    let mut deployment = web.deploy(&broken);
    while let Some(event) = deployment.next_event().await {
        println!("{}", serde_json::to_string(&event)?);
    }
    let outcome = deployment.await?;
    println!("{}: {}", outcome.target, outcome.verdict());
    println!(
        "verdict of the running tasks against the earlier image: {}",
        web.prove().await?.judge(&earlier)
    );
    Ok(())
}
