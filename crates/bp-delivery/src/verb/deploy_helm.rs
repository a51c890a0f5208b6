//! Upgrade a Helm release on an environment's EKS cluster to the artifact's image, by digest.

use std::path::PathBuf;

use bp_artifact::{
    ExitCode,
    config::{DeployPlatform, EksObject},
};
use bp_eks::{
    HelmRelease,
    helm::{HelmFlags, HelmRevision, ImageKeys},
};

use crate::{
    Delivery, Failure, Ui,
    cli::{
        ChangedArgs, DeliveryArgs, End, GivenFlags, ReceiptArgs, RollbackOnCancelArgs, TakeOverArgs, conclude,
    },
    program::Verb,
};

/// Upgrade a Helm release on an environment's EKS cluster to the artifact's image, by digest
#[derive(Debug, clap::Args)]
pub struct DeployHelm {
    #[command(flatten)]
    given: GivenFlags,
    #[command(flatten)]
    delivery: DeliveryArgs,
    /// Name of the Helm release; defaults to eks.release of bp.toml, with its chart and values
    #[arg(long)]
    release: Option<String>,
    /// Path of the helm program
    #[arg(long, default_value = "helm", env = "BP_HELM")]
    helm: PathBuf,
    #[command(flatten)]
    upgrade: Upgrade,
    #[command(flatten)]
    fields: TakeOverArgs,
    #[command(flatten)]
    receipt: ReceiptArgs,
    #[command(flatten)]
    changed: ChangedArgs,
    #[command(flatten)]
    on_cancel: RollbackOnCancelArgs,
    /// Further flags of helm upgrade, each with its value in the same argument, such as --labels=team=shop
    #[arg(last = true, value_name = "HELM_FLAG")]
    helm_flags: Vec<String>,
    #[command(subcommand)]
    command: Option<HelmCommand>,
}

/// The options of an upgrade.
#[derive(Debug, clap::Args)]
struct Upgrade {
    /// Chart: a directory, an archive, oci://..., or a name in --chart-repo
    #[arg(long)]
    chart: Option<String>,
    /// Version of the chart; defaults to the latest one
    #[arg(long, value_name = "VERSION")]
    chart_version: Option<String>,
    /// URL of the chart's repository
    #[arg(long, value_name = "URL")]
    chart_repo: Option<String>,
    /// Create the namespace if it does not exist
    #[arg(long)]
    create_namespace: bool,
    /// File of chart values; repeatable, later files win
    #[arg(short = 'f', long, value_name = "FILE")]
    values: Vec<PathBuf>,
    /// Value of the chart, as helm --set: helm infers its type; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    set_value: Vec<String>,
    /// Value of the chart that is a string; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    set_string: Vec<String>,
    /// Value of the chart that is the content of a file; repeatable
    #[arg(long, value_name = "KEY=FILE")]
    set_file: Vec<String>,
    /// Value of the chart as JSON; repeatable
    #[arg(long, value_name = "KEY=JSON")]
    set_json: Vec<String>,
    /// Value of the chart's image.tag, for charts that show a tag beside the digest
    #[arg(long)]
    tag: Option<String>,
    /// Value of the chart's buildVersion
    #[arg(long)]
    build_version: Option<String>,
    /// Key of the chart values that receives the image digest; defaults to image.digest
    #[arg(long, value_name = "KEY")]
    digest_key: Option<String>,
}

/// The flags that apply only to an upgrade.
const UPGRADE: &[&str] = &[
    "image",
    "artifact",
    "image-timeout",
    "chart",
    "chart-version",
    "chart-repo",
    "create-namespace",
    "values",
    "set-value",
    "set-string",
    "set-file",
    "set-json",
    "tag",
    "build-version",
    "digest-key",
    "receipt",
    "rollback-on-cancel",
    "changed-since",
    "changed-paths",
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
        let case = match &self.command {
            Some(HelmCommand::History) => Some("with history"),
            Some(HelmCommand::Rollback { .. }) => Some("with rollback"),
            None => None,
        };
        if let Some(case) = case {
            self.given.refuse(UPGRADE, case)?;
            if !self.helm_flags.is_empty() {
                return Err(Failure::bad_input(format!("flags after -- have no effect {case}: remove them")));
            }
        }
        if let Some(HelmCommand::History) = self.command {
            self.given.refuse(&["timeout", "take-over"], "with history")?;
        }
        let flags = HelmFlags::parse(self.helm_flags.iter().cloned())?;
        let delivery = self.delivery.open().await?.take_over(self.fields.take_over);
        if !self.changed.concern(&delivery, DeployPlatform::Eks, &ui).await? {
            return Ok(ExitCode::Done);
        }
        let delivery = if case.is_none() { self.delivery.image.describe(delivery)? } else { delivery };
        let release = self.target(&delivery).await?;
        match self.command {
            Some(HelmCommand::History) => {
                let history = release.history().await?;
                let line = |r: &HelmRevision| format!("{}\t{}\t{}", r.revision, r.status, r.chart);
                ui.results(history.iter().map(line), &history);
                Ok(ExitCode::Done)
            }
            Some(HelmCommand::Rollback { revision }) => {
                Ok(ui.ended(ui.follow(release.rollback(revision)).await?))
            }
            None => {
                let release = self.upgrade.apply(release, flags);
                if !release.has_chart() {
                    return Err(Failure::bad_input("an upgrade requires --chart, or eks.chart of bp.toml"));
                }
                let image = self.delivery.image(&delivery, &ui).await?;
                if !release.history().await?.iter().any(|revision| revision.status == "deployed") {
                    ui.say(format!(
                        "{}: no receipt is written: no revision is deployed to which the release could be rolled back",
                        release.id()
                    ));
                    return Ok(ui.ended(ui.follow(release.upgrade(&image)).await?));
                }
                let receipt = self.receipt.start(&ui, &release, &image).await?;
                let end = ui.follow(release.upgrade(&image)).await.map(End::Ended);
                let end = self.on_cancel.end(&ui, &release, &receipt, end).await;
                conclude(&ui, Some(receipt), end)
            }
        }
    }
}

impl DeployHelm {
    /// The release of bp.toml, or the one with the given name.
    async fn target(&self, delivery: &Delivery) -> Result<HelmRelease, Failure> {
        let configured = match &delivery.service.eks()?.object {
            EksObject::Release(release) => Some(&release.name),
            EksObject::Workload(_) | EksObject::Manifests(_) => None,
        };
        let release = match &self.release {
            Some(name) if configured != Some(name) => delivery.helm(name).await?,
            Some(_) | None => delivery.helm_release().await?,
        };
        Ok(release.program(&self.helm))
    }
}

impl Upgrade {
    /// Applies the arguments, which override bp.toml.
    fn apply(&self, mut release: HelmRelease, flags: HelmFlags) -> HelmRelease {
        if let Some(chart) = &self.chart {
            release = release.chart(chart);
        }
        if let Some(version) = &self.chart_version {
            release = release.chart_version(version);
        }
        if let Some(url) = &self.chart_repo {
            release = release.chart_repository(url);
        }
        if self.create_namespace {
            release = release.create_namespace(true);
        }
        release = self.values.iter().fold(release, HelmRelease::values_file);
        release = self.set_value.iter().fold(release, HelmRelease::set);
        release = self.set_string.iter().fold(release, HelmRelease::set_string);
        release = self.set_file.iter().fold(release, HelmRelease::set_file);
        release = self.set_json.iter().fold(release, HelmRelease::set_json);
        if let Some(key) = &self.digest_key {
            release = release.image_keys(ImageKeys::default().digest(key));
        }
        if let Some(tag) = &self.tag {
            release = release.tag(tag);
        }
        if let Some(version) = &self.build_version {
            release = release.build_version(version);
        }
        release.flags(flags)
    }
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches as _;

    use super::*;

    fn parsed(arguments: &[&str]) -> DeployHelm {
        let command = crate::program::command::<DeployHelm>();
        let all = ["deploy-helm", "--env", "prod"].iter().chain(arguments);
        DeployHelm::from_arg_matches(&command.try_get_matches_from(all).unwrap()).unwrap()
    }

    #[test]
    fn what_follows_two_dashes_is_for_helm() {
        let upgrade = parsed(&[
            "--release",
            "web",
            "--set",
            "eks.namespace=x",
            "--",
            "--skip-crds",
            "--set=a=b",
            "history",
        ]);
        assert_eq!(upgrade.helm_flags, ["--skip-crds", "--set=a=b", "history"]);
        assert!(upgrade.command.is_none() && HelmFlags::parse(upgrade.helm_flags).is_err());
        let values = parsed(&["--set-value=--x=1", "-f", "-", "--set-json", "a={\"b\":1}"]);
        assert_eq!(values.upgrade.set_value, ["--x=1"]);
        assert!(matches!(parsed(&["history"]).command, Some(HelmCommand::History)));
        let rollback = parsed(&["--release", "web", "rollback", "3"]);
        assert!(matches!(rollback.command, Some(HelmCommand::Rollback { revision: Some(3) })));
    }
}
