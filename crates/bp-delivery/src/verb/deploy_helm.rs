//! Upgrade a Helm release on an environment's EKS cluster to the artifact's image, by digest.

use std::path::PathBuf;

use bp_artifact::{ExitCode, ResolvedImage};
use bp_eks::{
    HelmRelease,
    helm::{HelmRun, ImageKeys},
};

use crate::{
    Failure, Ui,
    cli::{DeliveryArgs, End, GivenFlags, ReceiptArgs, RollbackOnCancelArgs, conclude},
    program::Verb,
};

/// Upgrade a Helm release on an environment's EKS cluster to the artifact's image, by digest
#[derive(Debug, clap::Args)]
pub struct DeployHelm {
    #[command(flatten)]
    given: GivenFlags,
    #[command(flatten)]
    delivery: DeliveryArgs,
    /// Name of the Helm release
    #[arg(long)]
    release: String,
    /// Path of the helm program
    #[arg(long, default_value = "helm", env = "BP_HELM")]
    helm: PathBuf,
    #[command(flatten)]
    upgrade: Upgrade,
    #[command(flatten)]
    receipt: ReceiptArgs,
    #[command(flatten)]
    on_cancel: RollbackOnCancelArgs,
    #[command(subcommand)]
    command: Option<HelmCommand>,
}

/// The options of an upgrade.
#[derive(Debug, clap::Args)]
struct Upgrade {
    /// Chart: a directory, an archive, or oci://...; required for an upgrade
    #[arg(long)]
    chart: Option<String>,
    /// File of chart values; repeatable, later files win
    #[arg(short = 'f', long, value_name = "FILE")]
    values: Vec<PathBuf>,
    /// Value of the chart's image.tag, for charts that show a tag beside the digest
    #[arg(long)]
    tag: Option<String>,
    /// Value of the chart's buildVersion
    #[arg(long)]
    build_version: Option<String>,
    /// Key of the chart values that receives the image digest
    #[arg(long, value_name = "KEY", default_value = "image.digest")]
    digest_key: String,
}

/// The flags that apply only to an upgrade.
const UPGRADE: &[&str] = &[
    "image",
    "artifact",
    "image-timeout",
    "chart",
    "values",
    "tag",
    "build-version",
    "digest-key",
    "receipt",
    "rollback-on-cancel",
];

#[derive(Debug, clap::Subcommand)]
enum HelmCommand {
    /// Show the release's revisions
    History,
    /// Roll the release back to a revision; defaults to the previously deployed one
    Rollback {
        /// Revision to roll back to
        revision: Option<u32>,
    },
}

impl Verb for DeployHelm {
    const NAME: &'static str = "deploy-helm";

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        match &self.command {
            Some(HelmCommand::History) => {
                self.given.refuse(&[UPGRADE, &["timeout"]].concat(), "with history")?
            }
            Some(HelmCommand::Rollback { .. }) => self.given.refuse(UPGRADE, "with rollback")?,
            None if self.upgrade.chart.is_none() => {
                return Err(Failure::bad_input("an upgrade requires --chart"));
            }
            None => {}
        }
        let delivery = self.delivery.open().await?;
        let release = delivery.namespace().await?.helm(self.release, delivery.eks_options()?);
        let release = self.upgrade.chart.iter().fold(release.program(self.helm), HelmRelease::chart);
        match self.command {
            Some(HelmCommand::History) => {
                let history = release.history().await?;
                let line =
                    |r: &bp_eks::helm::HelmRevision| format!("{}\t{}\t{}", r.revision, r.status, r.chart);
                ui.results(history.iter().map(line), &history);
                Ok(ExitCode::Done)
            }
            Some(HelmCommand::Rollback { revision }) => {
                Ok(ui.ended(ui.follow(release.rollback(revision)).await?))
            }
            None => {
                let image = self.delivery.image(&delivery, &ui).await?;
                if !release.history().await?.iter().any(|revision| revision.status == "deployed") {
                    ui.say(format!(
                        "{}: no receipt is written: no revision is deployed to which the release could be rolled back",
                        release.id()
                    ));
                    return Ok(ui.ended(ui.follow(self.upgrade.start(release, &image)).await?));
                }
                let receipt = self.receipt.start(&ui, &release, &image).await?;
                let end = ui.follow(self.upgrade.start(release.clone(), &image)).await.map(End::Ended);
                let end = self.on_cancel.end(&ui, &release, &receipt, end).await;
                conclude(&ui, Some(receipt), end)
            }
        }
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
