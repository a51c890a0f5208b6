//! Apply Kubernetes manifests to an environment's EKS cluster with the artifact's image, by digest.

use std::{io, path::PathBuf};

use bp_artifact::{ExitCode, config::DeployPlatform};
use bp_eks::manifests::ManifestSet;

use crate::{
    Failure, Ui,
    cli::{ChangedArgs, DeliveryArgs, End, GivenFlags, ReceiptArgs, TakeOverArgs, conclude},
    program::Verb,
};

/// Apply Kubernetes manifests to an environment's EKS cluster with the artifact's image, by digest, and watch all their
/// workloads to one verdict
#[derive(Debug, clap::Args)]
pub struct DeployManifests {
    #[command(flatten)]
    given: GivenFlags,
    #[command(flatten)]
    delivery: DeliveryArgs,
    #[command(flatten)]
    fields: TakeOverArgs,
    #[command(flatten)]
    receipt: ReceiptArgs,
    #[command(flatten)]
    changed: ChangedArgs,
    /// File or directory of manifests, or - for standard input, such as the output of kubectl kustomize; repeatable;
    /// defaults to eks.manifests of bp.toml
    #[arg(short = 'f', long, value_name = "PATH")]
    manifests: Vec<PathBuf>,
    /// Allow images of other repositories by tag; defaults to eks.allow-tags of bp.toml
    #[arg(long)]
    allow_tags: bool,
    /// Allow cluster-scoped objects, and objects in other namespaces; defaults to eks.outside-namespace of bp.toml
    #[arg(long)]
    outside_namespace: bool,
    /// Check only: show the planned changes and run preflight checks; changes nothing
    #[arg(long)]
    check: bool,
}

impl Verb for DeployManifests {
    const NAME: &'static str = "deploy-manifests";

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        if self.check {
            self.given.refuse(&["image-timeout", "receipt"], "with --check")?;
        }
        let set = self.read()?;
        let delivery = self.delivery.open().await?.take_over(self.fields.take_over);
        if !self.changed.concern(&delivery, DeployPlatform::Eks, &ui).await? {
            return Ok(ExitCode::Done);
        }
        let delivery = self.delivery.image.describe(delivery)?;
        let mut manifests = delivery.manifests(set).await?;
        if self.allow_tags {
            manifests = manifests.allow_tags(true);
        }
        if self.outside_namespace {
            manifests = manifests.outside_namespace(true);
        }
        if self.check {
            let image = self.delivery.image.find(&delivery).await?;
            let image = delivery.clients.with_platform(image).await;
            let plan = manifests.plan(&image).await?;
            let tags = plan.tags.iter().map(|tag| format!("image without a digest, which is allowed: {tag}"));
            ui.results(plan.objects.iter().map(ToString::to_string).chain(tags), &plan);
            return Ok(ExitCode::Done);
        }
        let image = self.delivery.image(&delivery, &ui).await?;
        let receipt = if manifests.current().await?.is_some() {
            Some(self.receipt.start(&ui, &manifests, &image).await?)
        } else {
            ui.say(format!(
                "{}: no receipt is written: no workload exists that could be rolled back",
                manifests.id()
            ));
            None
        };
        conclude(&ui, receipt, ui.follow(manifests.deploy(&image)).await.map(End::Ended))
    }
}

impl DeployManifests {
    /// The manifests of the flags, if any.
    fn read(&self) -> Result<Option<ManifestSet>, Failure> {
        let is_stream = |path: &PathBuf| path.as_os_str() == "-";
        match self.manifests.as_slice() {
            [] => Ok(None),
            [path] if is_stream(path) => {
                Ok(Some(ManifestSet::from_reader(io::stdin().lock(), "standard input")?))
            }
            paths if paths.iter().any(is_stream) => {
                Err(Failure::bad_input("--manifests: standard input (-) cannot be combined with other paths"))
            }
            paths => Ok(Some(ManifestSet::read(paths)?)),
        }
    }
}
