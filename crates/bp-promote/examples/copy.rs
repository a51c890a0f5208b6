//! Copies an image between two registries of the sandbox, twice: `cargo run -p bp-promote --example copy`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use bp_artifact::ImageRef;
use bp_promote::{
    CopyOptions, RegistryClient, copy,
    registry::{Anonymous, transport},
};
use bp_sandbox::{ImageBuilder, Sandbox, registry::RegistryOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Two registries in memory and an image of two platforms in one of them. Leave this out for real registries.
    let sandbox = Sandbox::builder()
        .registry("dev.example.com", RegistryOptions::default())
        .registry("prod.example.com", RegistryOptions::default())
        .build();
    let image =
        ImageBuilder::new().platform("linux/amd64").platform("linux/arm64").layer([("app", "hello")]).build();
    sandbox.registry("dev.example.com").push(&image, "shop/web", "1.4.2");
    let client =
        RegistryClient::builder().transport(transport(sandbox.transport())).credentials(Anonymous).build()?;

    // What a promoting program does.
    let from: ImageRef = "dev.example.com/shop/web:1.4.2".parse()?;
    let to: ImageRef = "prod.example.com/shop/web:1.4.2".parse()?;
    for _ in 0..2 {
        let mut copying = copy(client.image(&from), client.image(&to), CopyOptions::default());
        while let Some(event) = copying.next_event().await {
            println!("{event}");
        }
        let report = copying.await?;
        println!("{:?}: {}", report.outcome, report.image_in(to.repository())?.reference);
    }
    Ok(())
}
