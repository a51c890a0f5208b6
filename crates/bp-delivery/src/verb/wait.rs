//! Follow the deployments in progress of services to their end, and prove the running digests.

use std::{collections::BTreeMap, path::PathBuf};

use bp_artifact::{
    DigestRef, ExitCode, Operation, Outcome, ResolvedImage,
    config::{EksObject, WorkloadKind},
    deploy::{Current, DeployEvent, TargetError, TargetId},
    error::Classified,
    saga::{SagaError, SingleReceipt},
    text::SingleLine,
};
use futures_util::future::join_all;

use crate::{
    Delivery, Failure, Ui,
    cli::{EnvironmentArgs, GivenFlags, ServicesArgs, WaitArgs, worst},
    program::Verb,
};

/// Follow the deployment in progress of a service to its end, and prove the running digests; changes nothing
#[derive(Debug, clap::Args)]
pub struct Wait {
    #[command(flatten)]
    given: GivenFlags,
    #[command(flatten)]
    environment: EnvironmentArgs,
    #[command(flatten)]
    services: ServicesArgs,
    #[command(flatten)]
    wait: WaitArgs,
    /// Roll back a deployment that fails, as the command that started it would have; without this flag, only ECS itself
    /// rolls back
    #[arg(long)]
    rollback_on_failure: bool,
    /// Receipt of a deployment started with --no-wait, in which the outcome is recorded
    #[arg(long, value_name = "FILE", env = "BP_RECEIPT")]
    receipt: Option<PathBuf>,
}

/// A deployment that is followed.
struct Watched {
    id: TargetId,
    work: Operation<DeployEvent, Result<Outcome, TargetError>>,
}

impl Verb for Wait {
    const NAME: &'static str = "wait";

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        let mut receipts = BTreeMap::new();
        let mut watched = Vec::new();
        for delivery in self.environment.open_services(&self.services).await? {
            let delivery = delivery.deadline(self.wait.timeout);
            watched.extend(self.watch(&delivery).await?);
        }
        if watched.is_empty() {
            return Err(Failure::bad_input(format!(
                "environment {} has no target to wait for: configure ecs or eks",
                self.environment.env
            )));
        }
        for Watched { id, .. } in &watched {
            if let Some(receipt) = self.open_receipt(&ui, id).await? {
                receipts.insert(id.clone(), receipt);
            }
        }
        if self.given.has("receipt") && receipts.is_empty() {
            ui.say(
                "the receipt is not of an unfinished deployment of one of these targets: it is not changed",
            );
        }
        let ends = watched.into_iter().map(async |Watched { id, work }| (id, ui.follow(work).await));
        let mut codes = Vec::new();
        for (id, end) in join_all(ends).await {
            codes.push(conclude(&ui, id.clone(), receipts.remove(&id), end)?);
        }
        Ok(worst(codes))
    }
}

impl Wait {
    async fn open_receipt(&self, ui: &Ui, id: &TargetId) -> Result<Option<SingleReceipt>, Failure> {
        let given = |path: &&PathBuf| self.given.has("receipt") || path.exists();
        let Some(path) = self.receipt.as_ref().filter(given) else { return Ok(None) };
        match SingleReceipt::resume(id, path).await {
            // The run that deploys records the end itself.
            Err(error @ SagaError::InUse { .. }) => {
                ui.say(format!("{id}: {}: the receipt is not changed", Failure::from(error)));
                Ok(None)
            }
            resumed => Ok(resumed?),
        }
    }

    /// Starts to follow every target of a service.
    async fn watch(&self, delivery: &Delivery) -> Result<Vec<Watched>, Failure> {
        let mut watched = Vec::new();
        if delivery.service.has_ecs() {
            let mut target = delivery.clone().without_pins().ecs().await?;
            for image in images(delivery, target.current().await?).await {
                target = target.known_image(image);
            }
            let work = if self.rollback_on_failure { target.resume() } else { target.watch() };
            watched.push(Watched { id: target.id(), work: work.map_err(TargetError::new) });
        }
        if delivery.service.has_eks() {
            watched.push(self.watch_eks(delivery).await?);
        }
        Ok(watched)
    }
}

impl Wait {
    /// Starts to follow the workload or the Helm release on EKS.
    async fn watch_eks(&self, delivery: &Delivery) -> Result<Watched, Failure> {
        match &delivery.service.eks()?.object {
            EksObject::Workload(workload) if workload.kind == WorkloadKind::Job => {
                Err(Failure::bad_input(format!(
                    "cannot wait for {workload}: deploy-eks creates a Job per image and returns when that has ended"
                )))
            }
            EksObject::Workload(_) => {
                let mut target = delivery.eks_with(|options| options).await?;
                for image in images(delivery, target.current().await?).await {
                    target = target.known_image(image);
                }
                let work = if self.rollback_on_failure { target.resume() } else { target.watch() };
                Ok(Watched { id: target.id(), work: work.map_err(TargetError::new) })
            }
            #[cfg(feature = "helm")]
            EksObject::Release(_) => {
                let mut target = delivery.helm_release().await?;
                match target.current().await {
                    Ok(current) => {
                        for image in images(delivery, current).await {
                            target = target.known_image(image);
                        }
                    }
                    // The first installation is in progress, or it has failed.
                    Err(bp_eks::HelmError::NoPrevious { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
                let work = if self.rollback_on_failure { target.resume() } else { target.watch() };
                Ok(Watched { id: target.id(), work: work.map_err(TargetError::new) })
            }
            #[cfg(not(feature = "helm"))]
            EksObject::Release(release) => Err(crate::delivery::requires_helm(&release.name)),
            EksObject::Manifests(_) => Err(Failure::bad_input(
                "cannot wait for manifests: rerun deploy-manifests, which follows rollouts in progress",
            )),
        }
    }
}

/// The images of the revisions, with their platforms, which only the registry lists. An image that cannot be read is
/// left out: a digest of one of its platforms is then unproven.
async fn images(delivery: &Delivery, current: Current) -> Vec<ResolvedImage> {
    let revisions = [Some(current.stable), current.rolling_out].into_iter().flatten();
    let pinned: Vec<DigestRef> = revisions.filter_map(|revision| revision.image.pinned().cloned()).collect();
    let mut images = Vec::new();
    for image in pinned {
        let resolve = async {
            let resolver = delivery.clients.resolver(image.repository().registry())?;
            Ok::<_, Failure>(resolver.resolve(&image.clone().into()).await?)
        };
        match resolve.await {
            Ok(image) => images.push(image),
            Err(error) => {
                let error = SingleLine(&error);
                tracing::debug!(%error, %image, "failed to read the platforms of the image");
            }
        }
    }
    images
}

/// Prints how a deployment ended, and records it in its receipt.
fn conclude(
    ui: &Ui,
    id: TargetId,
    receipt: Option<SingleReceipt>,
    end: Result<Outcome, TargetError>,
) -> Result<ExitCode, Failure> {
    let outcome = match end {
        Ok(outcome) => outcome,
        Err(error) => {
            let code = error.class().into();
            let failure = Failure::from(error).context(&id);
            ui.error(&failure.to_string());
            return Ok(code);
        }
    };
    let receipt = receipt.map(|receipt| (receipt.image().clone(), receipt));
    if let Some((expected, receipt)) = &receipt
        && let Some(found) = outcome.image.as_ref().filter(|found| found.digest() != expected.digest())
    {
        ui.say(format!(
            "{id}: the receipt {} is of {}, but {found} was deployed since: the receipt is not changed",
            receipt.path().display(),
            expected.reference
        ));
        ui.ended(outcome);
        return Ok(ExitCode::Superseded);
    }
    let written = receipt.map(|(_, receipt)| receipt.ended(&outcome));
    let code = ui.ended(outcome);
    written.transpose()?;
    Ok(code)
}
