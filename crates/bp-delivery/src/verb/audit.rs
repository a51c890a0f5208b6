//! Audit the records of an image.

use std::path::Path;

use bp_artifact::ExitCode;
use bp_promote::policy::{Evidence, TrustedKeys};

use crate::{
    Failure, Location, Ui,
    cli::{FileArgs, RegistryArgs},
    program::Verb,
    registries::open,
};

/// Audit the records of an image: each signature, each link to the record before, each decision; also in an OCI layout,
/// without network
#[derive(Debug, clap::Args)]
pub struct Audit {
    /// Image: REGISTRY/REPOSITORY:TAG or @DIGEST, oci:DIR[:NAME], oci-archive:FILE[:NAME]
    #[arg(value_name = "IMAGE")]
    image: Location,
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    registries: RegistryArgs,
}

impl Verb for Audit {
    const NAME: &'static str = "audit";
    const HELP: crate::help::Help = crate::help::verbs::AUDIT;

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        let config = self.files.load()?;
        let keys = TrustedKeys::read(&config, Path::new(""))?;
        let opened = open(&self.image, &self.registries.options()?).await?;
        let image = opened.digest().await?;
        let evidence = Evidence::read(opened.store(), &image, &keys).await?;
        let audit = evidence.audit(&config);
        ui.result(&audit, &audit);
        Ok(if audit.is_valid() { ExitCode::Done } else { ExitCode::Refused })
    }
}
