//! Serve a sandbox on loopback ports until the process is stopped, and print the addresses as one line of JSON.
//!
//! `cargo run -p bp-sandbox --example serve`, then for example `crane validate --remote 127.0.0.1:PORT/shop/web:1`.
//! An integer argument accelerates the model's clock by that factor: `--example serve -- 10`.
#![allow(clippy::print_stdout, reason = "an example prints its result")]

use std::{error::Error, time::Duration};

use bp_sandbox::{
    Clock, ImageBuilder, Sandbox,
    kube::ClusterOptions,
    registry::{Auth, RegistryOptions},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let rate = std::env::args().nth(1).map_or(Ok(1), |rate| rate.parse())?;
    let sandbox = Sandbox::builder()
        .clock(Clock::accelerated(rate))
        .registry("registry.example.com", RegistryOptions::default())
        .registry(
            "private.example.com",
            RegistryOptions::default().auth(Auth::token("ci", "s3cret", Duration::from_secs(300))),
        )
        .registry("111111111111.dkr.ecr.eu-central-1.amazonaws.com", RegistryOptions::ecr())
        .cluster("staging", ClusterOptions::default())
        .build();
    let image = ImageBuilder::new()
        .platform("linux/amd64")
        .platform("linux/arm64")
        .layer([("etc/motd", "hello\n")])
        .layer_for("linux/arm64", [("app/server", "an arm program")])
        .entrypoint(["/app/server"])
        .build();
    sandbox.registry("registry.example.com").push(&image, "shop/web", "1");

    let broken = ImageBuilder::new()
        .layer([("app/server", "a broken program")])
        .label("dev.bp-sandbox.behaviour", "exit:3")
        .label("dev.bp-sandbox.log", "no database")
        .build();
    sandbox.registry("registry.example.com").push(&broken, "shop/web", "broken");

    let mut served = sandbox.serve().await?;
    let world = serde_json::json!({
        "endpoints": served.addresses(),
        "ca": sandbox.ca_pem(),
        "image": { "repository": "shop/web", "tag": "1", "digest": image.digest() },
        "broken": broken.digest(),
    });
    println!("{world}");
    served.forever().await;
    Ok(())
}
