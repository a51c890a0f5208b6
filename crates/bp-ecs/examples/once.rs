//! Runs one deployment at an API endpoint: `once <register|deploy> <cluster> <service> <container> <image>`, with
//! `AWS_ENDPOINT_URL` set. `cargo xtask bench-ecs` compares it with aws-cli.
//!
//! `register` does the same as a script of aws-cli and jq, without waiting: describe, change, register, update.
//! `deploy` also waits for the verdict. Each line is an event with the milliseconds since the start.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::{error::Error, time::Duration};

use aws_credential_types::Credentials;
use aws_sdk_ecs::{
    Client, Config,
    config::{BehaviorVersion, Region},
};
use bp_artifact::DigestRef;
use bp_ecs::{Cluster, Options};
use serde_json::json;
use tokio::time::Instant;

const LIMIT: Duration = Duration::from_secs(600);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, cluster, service, container, image] = arguments.as_slice() else {
        return Err("usage: once <register|deploy> <cluster> <service> <container> <image>".into());
    };
    let image: DigestRef = image.parse()?;
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(Credentials::from_keys("AKIASANDBOX", "sandbox-secret", None))
        .endpoint_url(std::env::var("AWS_ENDPOINT_URL")?)
        .build();
    let client = Client::from_conf(config);
    let shop = Cluster::new(client.clone(), cluster);
    let say = |event: serde_json::Value| {
        println!("{}", json!({ "ms": start.elapsed().as_millis() as u64, "event": event }))
    };
    if mode == "register" {
        let found = client.describe_services().cluster(cluster).services(service).send().await?;
        let found =
            found.services().first().and_then(|s| s.task_definition()).ok_or("the service does not exist")?;
        let wanted = shop.definition(found).await?.with_image(container, &image)?;
        let registered = shop.register(&wanted, LIMIT).await?;
        let update = client.update_service().cluster(cluster).service(service);
        update.set_task_definition(registered.arn().map(str::to_owned)).send().await?;
        say(json!({ "event": "updated", "revision": registered.arn() }));
        return Ok(());
    }
    let target = shop.service(service, Options::new(LIMIT)?).container(container);
    let mut deployment = target.deploy(&image.into());
    while let Some(event) = deployment.next_event().await {
        say(serde_json::to_value(&event)?);
    }
    deployment.await?;
    Ok(())
}
