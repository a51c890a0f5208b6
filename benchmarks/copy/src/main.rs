//! `copy-benchmark [--trust-destination] [--all-tags] SOURCE DESTINATION`

use bp_artifact::ImageRef;
use bp_promote::{Anonymous, CopyOptions, RegistryClient, copy};

type Error = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let (flags, names): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let flag = |name: &str| flags.iter().any(|flag| flag == name);
    let [from, to] = names.as_slice() else {
        return Err("usage: copy-benchmark [--trust-destination] [--all-tags] SOURCE DESTINATION".into());
    };
    let mut options = CopyOptions::default();
    if flag("--trust-destination") {
        options = options.trust_destination();
    }
    let client = RegistryClient::builder().credentials(Anonymous).build()?;
    let (from, to): (ImageRef, ImageRef) = (from.parse()?, to.parse()?);
    let report = copy(client.image(&from), client.image(&to), options).await?;
    println!("{} {:?}", report.digest, report.outcome);
    Ok(())
}
