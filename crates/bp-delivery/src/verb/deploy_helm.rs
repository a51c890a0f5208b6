//! Upgrades a Helm release on an environment's EKS cluster to the artifact's image, by digest.

use std::path::PathBuf;

use bp_artifact::{ExitCode, ResolvedImage};
use bp_eks::{
    HelmRelease,
    helm::{HelmRun, ImageKeys},
};

use crate::{
    Failure, Ui,
    cli::{DeliveryArgs, Given},
    program::Verb,
};

/// Upgrades a Helm release on an environment's EKS cluster to the artifact's image, by digest
#[derive(Debug, clap::Args)]
pub struct DeployHelm {
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    delivery: DeliveryArgs,
    /// The release
    #[arg(long)]
    release: String,
    /// The helm program
    #[arg(long, default_value = "helm", env = "BP_HELM")]
    helm: PathBuf,
    #[command(flatten)]
    upgrade: Upgrade,
    #[command(subcommand)]
    instead: Option<Instead>,
}

/// What an upgrade takes.
#[derive(Debug, clap::Args)]
struct Upgrade {
    /// The chart: a directory, an archive, or oci://...; an upgrade needs it
    #[arg(long)]
    chart: Option<String>,
    /// A file of values, over those given before it
    #[arg(short = 'f', long, value_name = "FILE")]
    values: Vec<PathBuf>,
    /// The chart's image.tag, for charts that show one beside the digest
    #[arg(long)]
    tag: Option<String>,
    /// The chart's buildVersion
    #[arg(long)]
    build_version: Option<String>,
    /// Where the chart's values take the digest
    #[arg(long, value_name = "KEY", default_value = "image.digest")]
    digest_key: String,
}

/// The flags that only an upgrade has a use for.
const UPGRADE: &[&str] =
    &["image", "artifact", "image-timeout", "chart", "values", "tag", "build-version", "digest-key"];

#[derive(Debug, clap::Subcommand)]
enum Instead {
    /// Show the release's revisions
    History,
    /// Roll the release back, to the last revision that was deployed before if none is named
    Rollback {
        /// The revision
        revision: Option<u32>,
    },
}

impl Verb for DeployHelm {
    const NAME: &'static str = "deploy-helm";

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        match &self.instead {
            Some(Instead::History) => self.given.refuse(&[UPGRADE, &["timeout"]].concat(), "with history")?,
            Some(Instead::Rollback { .. }) => self.given.refuse(UPGRADE, "with rollback")?,
            None if self.upgrade.chart.is_none() => {
                return Err(Failure::bad_input("an upgrade needs --chart"));
            }
            None => {}
        }
        let delivery = self.delivery.open().await?;
        let release = delivery.namespace().await?.helm(self.release, delivery.eks_options()?);
        let release = self.upgrade.chart.iter().fold(release.program(self.helm), HelmRelease::chart);
        let outcome = match self.instead {
            Some(Instead::History) => {
                let history = release.history().await?;
                let line =
                    |r: &bp_eks::helm::HelmRevision| format!("{}\t{}\t{}", r.revision, r.status, r.chart);
                ui.results(history.iter().map(line), &history);
                return Ok(ExitCode::Done);
            }
            Some(Instead::Rollback { revision }) => ui.follow(release.rollback(revision)).await?,
            None => {
                ui.follow(self.upgrade.start(release, &self.delivery.image(&delivery, &ui).await?)).await?
            }
        };
        Ok(ui.ended(outcome))
    }
}

impl Upgrade {
    fn start(self, release: HelmRelease, image: &ResolvedImage) -> HelmRun {
        let keys = ImageKeys::default().digest(self.digest_key);
        let mut release = self.values.into_iter().fold(release.image_keys(keys), HelmRelease::values_file);
        if let Some(tag) = self.tag {
            release = release.tag(tag);
        }
        if let Some(version) = self.build_version {
            release = release.build_version(version);
        }
        release.upgrade(image)
    }
}
