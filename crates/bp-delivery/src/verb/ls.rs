//! List the tags of a repository, or the images of an OCI layout.

use bp_artifact::ExitCode;
use serde_json::json;

use crate::{
    Failure, Location, Ui,
    cli::{ReadingTimeArgs, RegistryArgs},
    program::Verb,
    registries::open_layout,
};

/// List the tags of a repository, or the images of an OCI layout
#[derive(Debug, clap::Args)]
pub struct List {
    /// Repository or layout: REGISTRY/REPOSITORY, oci:DIR, oci-archive:FILE
    #[arg(value_name = "REPOSITORY")]
    repository: Location,
    #[command(flatten)]
    registries: RegistryArgs,
    #[command(flatten)]
    time: ReadingTimeArgs,
}

impl Verb for List {
    const NAME: &'static str = "ls";
    const HELP: crate::help::Help = crate::help::verbs::LIST;

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        if self.repository.has_image() {
            return Err(Failure::bad_input(format!(
                "{} is an image: ls lists the tags of a repository or layout; omit the tag or digest",
                self.repository
            )));
        }
        let mut tags = self.time.limit(self.tags()).await?;
        tags.sort();
        tags.dedup();
        ui.results(&tags, &json!({ "repository": self.repository.to_string(), "tags": tags }));
        Ok(ExitCode::Done)
    }
}

impl List {
    async fn tags(&self) -> Result<Vec<String>, Failure> {
        Ok(match &self.repository {
            Location::Registry { repository, .. } => {
                let client = self.registries.options()?.client(&[repository.registry()]).await?;
                let tags = client.repository(repository).tags().await?;
                tags.into_iter().map(|tag| tag.to_string()).collect()
            }
            Location::Layout { path, .. } | Location::Archive { path, .. } => {
                let images = open_layout(path).await?.images().await?;
                // An image without a name is addressed by its digest.
                let name = |(name, image): (Option<String>, bp_promote::content::Descriptor)| {
                    name.unwrap_or_else(|| image.digest.to_string())
                };
                images.into_iter().map(name).collect()
            }
        })
    }
}
