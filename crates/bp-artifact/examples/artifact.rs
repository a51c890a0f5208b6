//! Reads an artifact file and writes it for other tools: `cargo run -p bp-artifact --example artifact [artifact.json]`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use bp_artifact::{Artifact, ImageRef};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let artifact = match std::env::args().nth(1) {
        Some(path) => Artifact::read(path)?,
        None => {
            let image: ImageRef = "registry.example.com/shop/web:1.4.2@sha256:\
                                    44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
                .parse()?;
            let mut artifact = Artifact::parse(r#"{ "commit_sha": "1a2b3c4" }"#, "artifact.json")?;
            artifact.image = Some(image.into());
            artifact
        }
    };
    println!("{}", artifact.to_json());
    // The formats of CodePipeline, Skaffold and in-toto.
    println!("{}", artifact.image_definitions(["web"])?);
    println!("{}", artifact.skaffold_builds("web")?);
    println!("{}", artifact.in_toto_subject()?);
    Ok(())
}
