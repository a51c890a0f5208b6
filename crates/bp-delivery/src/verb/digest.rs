//! Print the digest that a tag points to.

use bp_artifact::{ExitCode, Platform};
use serde_json::json;

use crate::{
    Failure, Location, Ui,
    cli::{ReadingTimeArgs, RegistryArgs},
    program::Verb,
    registries::open,
};

/// Print the digest of an image in a registry or an OCI layout
#[derive(Debug, clap::Args)]
pub struct ShowDigest {
    /// Image: REGISTRY/REPOSITORY:TAG or @DIGEST, oci:DIR[:NAME], oci-archive:FILE[:NAME]
    #[arg(value_name = "IMAGE")]
    image: Location,
    /// Print the digest of this platform of a multi-platform image, such as linux/arm64
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    #[command(flatten)]
    registries: RegistryArgs,
    #[command(flatten)]
    time: ReadingTimeArgs,
}

impl Verb for ShowDigest {
    const NAME: &'static str = "digest";
    const HELP: crate::help::Help = crate::help::verbs::DIGEST;

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        let read = async {
            let opened = open(&self.image, &self.registries.options()?).await?;
            match &self.platform {
                Some(platform) => Ok(opened.manifest_for(platform).await?.digest),
                None => opened.digest().await,
            }
        };
        let digest = self.time.limit(read).await?;
        ui.result(&digest, &json!({ "image": self.image.to_string(), "digest": digest }));
        Ok(ExitCode::Done)
    }
}
