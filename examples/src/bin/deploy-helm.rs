//! Upgrades a Helm release on an environment's EKS cluster to the artifact's image, by digest.

use std::{path::PathBuf, process::ExitCode as Process};

use bp_artifact::ExitCode;
use bp_eks::{HelmRelease, ImageKeys};
use bp_examples::{Failure, Ui, delivery::DeliveryArgs};

/// Upgrades a Helm release on an environment's EKS cluster to the artifact's image, by digest
#[derive(clap::Args)]
struct Args {
    #[command(flatten)]
    delivery: DeliveryArgs,
    /// The release
    #[arg(long)]
    release: String,
    /// The chart: a directory, an archive, or oci://...
    #[arg(long)]
    chart: String,
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
    /// The helm program
    #[arg(long, default_value = "helm", env = "BP_HELM")]
    helm: PathBuf,
    #[command(subcommand)]
    instead: Option<Instead>,
}

#[derive(clap::Subcommand)]
enum Instead {
    /// Show the release's revisions
    History,
    /// Roll the release back, to the last revision that was deployed before if none is named
    Rollback {
        /// The revision
        revision: Option<u32>,
    },
}

fn main() -> Process {
    bp_examples::run(deploy)
}

async fn deploy(args: Args, ui: Ui) -> Result<ExitCode, Failure> {
    let delivery = args.delivery.open().await?;
    let eks = delivery.environment.eks()?;
    let client = delivery.clients.kube(&eks.cluster).await?;
    let options = delivery.eks_options()?;
    let keys = ImageKeys { digest: args.digest_key, ..ImageKeys::default() };
    let mut release =
        HelmRelease::new(client, &eks.cluster, &eks.namespace, args.release, args.chart, options)
            .program(args.helm)
            .image_keys(keys);
    for file in args.values {
        release = release.values_file(file);
    }
    if let Some(tag) = args.tag {
        release = release.tag(tag);
    }
    if let Some(version) = args.build_version {
        release = release.build_version(version);
    }
    let outcome = match args.instead {
        Some(Instead::History) => {
            let history = release.history().await?;
            let line = |r: &bp_eks::HelmRevision| format!("{}\t{}\t{}", r.revision, r.status, r.chart);
            ui.results(history.iter().map(line), &history);
            return Ok(ExitCode::Done);
        }
        Some(Instead::Rollback { revision }) => ui.follow(release.rollback(revision)).await?,
        None => ui.follow(release.upgrade(&args.delivery.image(&delivery).await?)).await?,
    };
    Ok(ui.ended(outcome))
}
