//! Roll back every target of a receipt to its recorded revision, or the targets of services to their previous revisions.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bp_artifact::{
    ExitCode,
    deploy::{Current, Receipt, Revision, Target, TargetId},
    saga::Saga,
};
use bp_eks::manifests::ManifestSet;
use futures_util::future::join_all;
use serde::Serialize;

use crate::{
    Delivery, Failure, Ui,
    cli::{
        End, EnvironmentArgs, GivenFlags, ReceiptArgs, ServicesArgs, SlotArgs, TakeOverArgs, WaitArgs,
        conclude,
    },
    program::Verb,
};

/// The receipt to read if none is given and it exists, and to write otherwise.
const RECEIPT: &str = "receipt.json";

/// Roll back every target of a receipt to its recorded revision; without a receipt, roll the services back to their
/// previous revisions
#[derive(Debug, clap::Args)]
pub struct Rollback {
    #[command(flatten)]
    given: GivenFlags,
    #[command(flatten)]
    environment: EnvironmentArgs,
    #[command(flatten)]
    services: ServicesArgs,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    fields: TakeOverArgs,
    #[command(flatten)]
    slots: SlotArgs,
    /// Receipt of the deployment to roll back; defaults to receipt.json if that exists, otherwise to no receipt
    #[arg(long, value_name = "FILE", env = "BP_RECEIPT")]
    receipt: Option<PathBuf>,
    /// Roll back to the previous revisions that ECS and Kubernetes report, even if there is a receipt, which is
    /// overwritten
    #[arg(long, visible_alias = "undo")]
    no_receipt: bool,
    /// Roll the only EKS workload of the service back to the revision with this number, as kubectl rollout history shows
    /// it; for ECS, see deploy-ecs --revision
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["no_receipt", "all"])]
    revision: Option<u64>,
    /// Check only: show the planned changes and run preflight checks; changes nothing
    #[arg(long)]
    check: bool,
}

/// The planned rollback of one target.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PlannedRollback {
    target: TargetId,
    current: Current,
    previous: Revision,
}

impl Verb for Rollback {
    const NAME: &'static str = "rollback";

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        if let Some(number) = self.revision {
            return self.to_revision(&ui, number).await;
        }
        match self.receipt()? {
            Some(path) => self.to_recorded(&ui, &path).await,
            None => self.to_previous(&ui).await,
        }
    }
}

impl Rollback {
    /// The receipt to roll back, if any.
    fn receipt(&self) -> Result<Option<PathBuf>, Failure> {
        if self.no_receipt {
            self.given.refuse(&["receipt"], "with --no-receipt")?;
            return Ok(None);
        }
        let default = || Some(PathBuf::from(RECEIPT)).filter(|path| path.exists());
        Ok(self.receipt.clone().or_else(default))
    }

    async fn to_recorded(&self, ui: &Ui, path: &Path) -> Result<ExitCode, Failure> {
        self.given
            .refuse(&["service", "all"], "with a receipt, which lists the targets (see --no-receipt)")?;
        let receipt = Receipt::read(path)?;
        let targets = self.recorded(&receipt).await?;
        if self.check {
            let find = |id: &TargetId| targets.iter().find(|target| target.id() == *id);
            let known = receipt.targets.iter().filter_map(|entry| Some((find(&entry.target)?, entry)));
            let plans =
                known.map(async |(target, entry)| plan(target.as_ref(), entry.previous.clone()).await);
            return show(ui, plans).await;
        }
        let receipt = ui.follow(Saga::rollback(targets, path)).await?;
        ui.rollback(&receipt);
        Ok(receipt.rollback_verdict().into())
    }

    /// The targets of a receipt.
    async fn recorded(&self, receipt: &Receipt) -> Result<Vec<Arc<dyn Target>>, Failure> {
        let has = |platform: &str| receipt.targets.iter().any(|e| e.target.as_str().starts_with(platform));
        let mut targets: Vec<Arc<dyn Target>> = Vec::new();
        let mut deliveries = Vec::new();
        for delivery in self.environment.open_all(&[]).await? {
            let delivery = delivery.deadline(self.wait.timeout).take_over(self.fields.take_over);
            let delivery = delivery.without_pins();
            if has("ecs/") && delivery.service.has_ecs() {
                targets.push(Arc::new(delivery.ecs().await?));
            }
            if has("eks/") && delivery.service.has_eks() {
                targets.push(delivery.eks().await?);
                deliveries.push(delivery);
            }
        }
        for entry in &receipt.targets {
            let id = &entry.target;
            if targets.iter().any(|target| target.id() == *id) {
                continue;
            }
            for delivery in &deliveries {
                if let Some(target) = self.target_of(delivery, id, &entry.previous).await? {
                    targets.push(target);
                    break;
                }
            }
        }
        Ok(targets)
    }

    /// A target that no service of bp.toml is: the traffic of `switch-traffic`, the release of `deploy-helm`, or the
    /// manifests of `deploy-manifests`.
    async fn target_of(
        &self,
        delivery: &Delivery,
        id: &TargetId,
        previous: &Revision,
    ) -> Result<Option<Arc<dyn Target>>, Failure> {
        let parts: Vec<&str> = id.as_str().split('/').collect();
        let target: Arc<dyn Target> = match parts[..] {
            [.., "manifests", _] => {
                Arc::new(delivery.manifests_of(ManifestSet::default()).await?.recorded(previous))
            }
            [.., "service", name] => Arc::new(delivery.blue_green(name, self.slots.slots(name)?).await?),
            [.., "ingress" | "httproute", _] => match &delivery.service.eks()?.traffic {
                Some(traffic) => Arc::new(delivery.weights(traffic, None).await?),
                None => return Ok(None),
            },
            #[cfg(feature = "helm")]
            [.., "helm", release] => Arc::new(delivery.helm(release).await?),
            #[cfg(not(feature = "helm"))]
            [.., "helm", release] => return Err(crate::delivery::requires_helm(release)),
            _ => return Ok(None),
        };
        Ok(Some(target).filter(|target| target.id() == *id))
    }

    /// Restores a revision of a workload on EKS by its number.
    async fn to_revision(&self, ui: &Ui, number: u64) -> Result<ExitCode, Failure> {
        self.given.refuse(&["slots", "label"], "with --revision")?;
        let deliveries = self.environment.open_services(&self.services).await?;
        let [delivery] = deliveries.as_slice() else {
            return Err(Failure::bad_input("--revision requires one service: select it with --service"));
        };
        let delivery = delivery.clone().deadline(self.wait.timeout).take_over(self.fields.take_over);
        let workload = delivery.eks_with(|options| options).await?;
        let to = workload.revision(&number.to_string()).await?;
        if self.check {
            return show(ui, std::iter::once(plan(&workload, to))).await;
        }
        let path = self.receipt.clone().unwrap_or_else(|| RECEIPT.into());
        let receipt = match to.image.resolved() {
            Some(image) => Some(ReceiptArgs { receipt: path }.start_restore(ui, &workload, &image).await?),
            None => {
                ui.say(format!(
                    "{}: no receipt is written: the revision's image has no digest",
                    workload.id()
                ));
                None
            }
        };
        conclude(ui, receipt, ui.follow(workload.restore(&to)).await.map(End::Ended))
    }

    async fn to_previous(&self, ui: &Ui) -> Result<ExitCode, Failure> {
        self.given.refuse(&["slots", "label"], "without a receipt of switch-traffic")?;
        let mut targets = Vec::new();
        for delivery in self.environment.open_services(&self.services).await? {
            let delivery = delivery.deadline(self.wait.timeout).take_over(self.fields.take_over);
            targets.extend(delivery.without_pins().targets().await?);
        }
        if !self.no_receipt {
            ui.say(format!("no {RECEIPT}: using the previous revisions that ECS and Kubernetes report"));
        }
        if self.check {
            let plans = targets.iter().map(async |target| {
                let previous = target.previous().await;
                let previous = previous.map_err(|error| Failure::from(error).context(target.id()))?;
                plan(target.as_ref(), previous).await
            });
            return show(ui, plans).await;
        }
        let path = self.receipt.clone().unwrap_or_else(|| RECEIPT.into());
        let receipt = ui.follow(Saga::rollback_to_previous(targets, path)).await?;
        ui.rollback(&receipt);
        Ok(receipt.rollback_verdict().into())
    }
}

async fn plan(target: &dyn Target, previous: Revision) -> Result<PlannedRollback, Failure> {
    Ok(PlannedRollback { target: target.id(), current: target.current().await?, previous })
}

/// Shows the plans in the order of the targets. Of several errors, that of the first target is returned.
async fn show(
    ui: &Ui,
    plans: impl Iterator<Item = impl Future<Output = Result<PlannedRollback, Failure>>>,
) -> Result<ExitCode, Failure> {
    let plans = join_all(plans).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    let line = |plan: &PlannedRollback| {
        let PlannedRollback { target, current, previous } = plan;
        let now = current.rolling_out.as_ref().unwrap_or(&current.stable);
        let state = if current.rolling_out.is_some() { "in progress or failed" } else { "stable" };
        if current.rolling_out.is_none() && now.id == previous.id {
            return format!("{target}: {} is already in place ({})", previous.short_id(), previous.image);
        }
        let mut text = format!(
            "{target}: {} ({state}) -> {}\n  - {}\n  + {}",
            now.short_id(),
            previous.short_id(),
            now.image,
            previous.image
        );
        for task in &previous.schedules {
            text = format!("{text}\n  scheduled task {} -> {}", task.schedule, task.short_definition());
        }
        text
    };
    ui.results(plans.iter().map(line), &plans);
    Ok(ExitCode::Done)
}
