//! Copy one image, or all tags of a repository, for the copy benchmark:
//! `copy-benchmark [--trust-destination] [--all-tags] [--concurrency=N] SOURCE DESTINATION`

use bp_artifact::{ImageRef, Repository, Tag};
use bp_promote::{CopyOptions, RegistryClient, copy, copy_all, registry::Anonymous};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (flags, names): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let flag = |name: &str| flags.iter().any(|flag| flag == name);
    let [from, to] = names.as_slice() else {
        return Err(
            "usage: copy-benchmark [--trust-destination] [--all-tags] [--concurrency=N] SOURCE DESTINATION".into()
        );
    };
    let mut options = CopyOptions::default();
    if flag("--trust-destination") {
        options = options.trust_destination();
    }
    if let Some(blobs) = flags.iter().find_map(|flag| flag.strip_prefix("--concurrency=")) {
        options = options.concurrency(blobs.parse()?);
    }
    let client = RegistryClient::builder().credentials(Anonymous).build()?;
    if flag("--all-tags") {
        let (from, to): (Repository, Repository) = (from.parse()?, to.parse()?);
        let tags = client.repository(&from).tags().await?;
        let image = |repository: &Repository, tag: &Tag| client.image(&repository.tagged(tag.clone()));
        let images = tags.iter().map(|tag| (image(&from, tag), image(&to, tag))).collect();
        for image in copy_all(images, options).await.images {
            image.result?;
        }
    } else {
        let (from, to): (ImageRef, ImageRef) = (from.parse()?, to.parse()?);
        copy(client.image(&from), client.image(&to), options).await?;
    }
    Ok(())
}
