//! Roll out an image to a Deployment of the sandbox and print the events: `cargo run -p bp-eks --example roll_out`.
#![allow(clippy::print_stdout, reason = "the example prints events")]

use std::time::Duration;

use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_sdk_eks::config::{BehaviorVersion, Region};
use bp_artifact::{DigestRef, ResolvedImage};
use bp_eks::{Cluster, Connector, Options};
use bp_sandbox::{
    Behaviour, Clock, ImageBuilder, Sandbox,
    kube::{ClusterOptions, SECRET_ACCESS_KEY},
    registry::RegistryOptions,
};

const REGISTRY: &str = "registry.example.com";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The sandbox replaces AWS and the cluster: a registry, and a Deployment with an earlier image.
    let sandbox = Sandbox::builder()
        .clock(Clock::accelerated(20))
        .registry(REGISTRY, RegistryOptions::default())
        .cluster("shop", ClusterOptions::default())
        .build();
    let push = |version: &str| -> Result<ResolvedImage, bp_artifact::error::ParseError> {
        let image = ImageBuilder::new().platform("linux/amd64").layer([("app/version", version)]).build();
        sandbox.registry(REGISTRY).push(&image, "shop/web", version);
        let reference: DigestRef = format!("{REGISTRY}/shop/web@{}", image.digest()).parse()?;
        Ok(reference.into())
    };
    let (earlier, broken) = (push("1.0.0")?, push("1.1.0")?);
    let log = vec!["cannot read /app/config.toml".to_owned()];
    sandbox
        .script(broken.digest().as_str(), Behaviour::Exits { after: Duration::from_secs(3), code: 1, log });
    sandbox.cluster("shop").deployment("shop", "web", &[("web", &earlier.reference.to_string())]);
    sandbox.clock().advance(Duration::from_secs(120));
    let credentials = SharedCredentialsProvider::new(Credentials::new(
        "AKIAEXAMPLE",
        SECRET_ACCESS_KEY,
        None,
        None,
        "example",
    ));
    let config = aws_sdk_eks::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(credentials.clone())
        .http_client(sandbox.http_client())
        .build();

    // The deployment; with a real cluster, call `connect()` instead of `connect_with()`.
    let connector =
        Connector::new(aws_sdk_eks::Client::from_conf(config), credentials, "eu-central-1", "shop");
    let client = connector.connect_with(sandbox.transport()).await?;
    let options = Options::new(Duration::from_secs(60))?.take_over(true);
    let shop = Cluster::new(client, "shop").namespace("shop");
    let web = shop.workload("deployment/web".parse()?, options).container("web");
    let mut rollout = web.deploy(&broken);
    while let Some(event) = rollout.next_event().await {
        println!("{}", serde_json::to_string(&event)?);
    }
    let outcome = rollout.await?;
    println!("{}: {}", outcome.target, outcome.verdict());
    println!("verdict for the earlier image: {}", web.prove().await?.judge(&earlier));
    Ok(())
}
