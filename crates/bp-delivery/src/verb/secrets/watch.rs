//! `secrets watch`: find new versions of the secrets of an environment once, pin them, and roll them out.

use std::{path::PathBuf, sync::Arc};

use bp_artifact::{
    DigestRef, ExitCode, ResolvedImage,
    config::{DeployPlatform, EksObject, ServiceName, WorkloadKind},
    deploy::{Change, Current, Target, TargetId},
    saga::{Saga, Step},
};
use serde_json::json;

use crate::{
    Delivery, Failure, Ui,
    cli::{EnvironmentArgs, GivenFlags, RollbackArgs, WaitArgs, worst},
    delivery, gates,
};

/// Where the new versions are rolled out.
#[derive(Debug, clap::Args)]
pub(super) struct WatchArgs {
    #[command(flatten)]
    given: GivenFlags,
    #[command(flatten)]
    environment: EnvironmentArgs,
    /// Service of bp.toml; defaults to all services; repeatable
    #[arg(id = "service", long = "service", value_name = "NAME", env = "BP_SERVICE", value_delimiter = ',')]
    services: Vec<ServiceName>,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    rollback: RollbackArgs,
    /// Plan only: show the planned changes; changes nothing
    #[arg(long)]
    plan: bool,
    /// File that records the previous revisions and the progress, for a rerun and for rollback; not that of a deployment
    #[arg(long, value_name = "FILE", default_value = "secrets-receipt.json")]
    receipt: PathBuf,
}

/// What was found at a target.
enum Found {
    /// Nothing to watch, with the reason.
    NotWatched(String),
    /// The versions are those that run.
    Unchanged,
    /// A deployment is in progress, which may change the secrets.
    Busy,
    /// New versions.
    Changed(Box<Changed>),
}

struct Changed {
    target: Arc<dyn Target>,
    image: ResolvedImage,
    changes: Vec<Change>,
}

impl WatchArgs {
    pub(super) async fn run(self, ui: &Ui) -> Result<ExitCode, Failure> {
        if self.plan {
            self.given.refuse(&["timeout", "receipt", "accept-unproven-rollback"], "with --plan")?;
        }
        let mut code = ExitCode::Done;
        let mut changed = Vec::new();
        let mut watched = 0;
        for delivery in self.environment.open_all(&self.services).await? {
            let delivery = delivery
                .deadline(self.wait.timeout)
                .accept_unproven_rollback(self.rollback.accept_unproven_rollback);
            for (platform, target) in delivery.target_names() {
                let found = match platform {
                    DeployPlatform::Ecs => of_ecs(&delivery).await,
                    DeployPlatform::Eks => of_eks(&delivery).await,
                };
                match found.map_err(|failure| failure.context(&target))? {
                    Found::NotWatched(why) => ui.say(format!("{target}: not watched: {why}")),
                    Found::Unchanged => {
                        watched += 1;
                        ui.say(format!("{target}: no new version"));
                    }
                    Found::Busy => {
                        watched += 1;
                        code = worst([code, ExitCode::Unavailable]);
                        ui.say(format!(
                            "{target}: a deployment is in progress: its secrets are not changed; rerun when it has ended"
                        ));
                    }
                    Found::Changed(found) => {
                        watched += 1;
                        shown(ui, &found);
                        changed.push((delivery.clone(), platform, found));
                    }
                }
            }
        }
        if watched == 0 {
            return Err(Failure::bad_input(format!(
                "environment {} has no secrets to watch: set ecs.secrets with ecs.pin-secrets = \"on\", or eks.workload",
                self.environment.env
            )));
        }
        if changed.is_empty() || self.plan {
            return Ok(code);
        }
        let rolled_out = self.roll_out(ui, changed).await?;
        Ok(worst([code, rolled_out]))
    }

    /// Deploys the images that run, with the new versions, to all targets; if one fails, all are rolled back.
    async fn roll_out(
        &self,
        ui: &Ui,
        changed: Vec<(Delivery, DeployPlatform, Box<Changed>)>,
    ) -> Result<ExitCode, Failure> {
        let services: Vec<(Delivery, ResolvedImage)> =
            changed.iter().map(|(delivery, _, found)| (delivery.clone(), found.image.clone())).collect();
        let mut steps = Vec::new();
        for (delivery, platform, found) in changed {
            let stage = delivery::stage(&delivery.service, platform, &services);
            let Changed { target, image, .. } = *found;
            steps.push(Step { target, image, stage });
        }
        // An approval is of an image, which does not change here.
        let checks = gates(&services).await?.into_iter().filter(|gate| gate.checks().is_some());
        let saga = Saga::of(steps, &self.receipt).gates(checks).anew(true);
        let receipt = ui.follow(saga.run()).await?;
        ui.receipt(&receipt);
        Ok(receipt.verdict.map_or(ExitCode::Unexpected, ExitCode::from))
    }
}

fn shown(ui: &Ui, found: &Changed) {
    let target: TargetId = found.target.id();
    let lines: String = found.changes.iter().map(|change| format!("\n  {change}")).collect();
    ui.result(
        format!("{target}: new versions{lines}"),
        &json!({ "target": target, "image": found.image.reference, "changes": found.changes }),
    );
}

/// The ECS service: its pinned versions against the current ones.
async fn of_ecs(delivery: &Delivery) -> Result<Found, Failure> {
    let ecs = delivery.service.ecs()?;
    if ecs.secrets.is_empty() {
        return Ok(Found::NotWatched("ecs.secrets is empty".to_owned()));
    }
    if !ecs.pin_secrets {
        let why = "ecs.pin-secrets is off, so the next deployment would undo the pins";
        return Ok(Found::NotWatched(why.to_owned()));
    }
    let target = delivery.ecs().await?;
    let Some(image) = stable(delivery, target.current().await?).await? else { return Ok(Found::Busy) };
    let running = target.definition().await?;
    let changes = running.changes(&target.planned_definition(&image.reference).await?);
    judge(Arc::new(target), image, changes, |path| path.contains("].secrets["))
}

/// The workload on EKS: the checksum of its Secrets and ConfigMaps.
async fn of_eks(delivery: &Delivery) -> Result<Found, Failure> {
    match &delivery.service.eks()?.object {
        EksObject::Workload(workload) => match workload.kind {
            WorkloadKind::Deployment | WorkloadKind::StatefulSet | WorkloadKind::DaemonSet => {}
            WorkloadKind::Job | WorkloadKind::CronJob => {
                return Ok(Found::NotWatched(format!("each run of {workload} reads its secrets anew")));
            }
        },
        EksObject::Release(release) => {
            return Ok(Found::NotWatched(format!("the pods belong to the Helm release {}", release.name)));
        }
        EksObject::Manifests(_) => return Ok(Found::NotWatched("the pods belong to manifests".to_owned())),
    }
    let target = delivery.eks_with(|options| options.restart_on_config(true)).await?;
    let Some(image) = stable(delivery, target.current().await?).await? else { return Ok(Found::Busy) };
    let changes = target.planned_changes(&image.reference).await?;
    judge(Arc::new(target), image, changes, |path| path.contains("bp-eks/config-checksum"))
}

/// The image that runs, with its platforms if they can be read; `None` while a deployment is in progress.
async fn stable(delivery: &Delivery, current: Current) -> Result<Option<ResolvedImage>, Failure> {
    if current.rolling_out.is_some() {
        return Ok(None);
    }
    let pinned: DigestRef =
        current.stable.image.pinned().cloned().ok_or_else(|| {
            Failure::refused("the image that runs has no digest: deploy one by digest first")
        })?;
    let resolve = async {
        let resolver = delivery.clients.resolver(pinned.repository().registry())?;
        Ok::<_, Failure>(resolver.resolve(&pinned.clone().into()).await?)
    };
    Ok(Some(resolve.await.unwrap_or_else(|_| pinned.into())))
}

/// Only secrets may change: what else differs from bp.toml has to be deployed as a whole, by somebody who means it.
fn judge(
    target: Arc<dyn Target>,
    image: ResolvedImage,
    changes: Vec<Change>,
    is_secret: impl Fn(&str) -> bool,
) -> Result<Found, Failure> {
    let (secrets, others): (Vec<Change>, Vec<Change>) =
        changes.into_iter().partition(|change| is_secret(&change.path));
    match (secrets.is_empty(), others.first()) {
        (true, _) => Ok(Found::Unchanged),
        (false, None) => Ok(Found::Changed(Box::new(Changed { target, image, changes: secrets }))),
        (false, Some(other)) => Err(Failure::refused(format!(
            "a secret has a new version, and bp.toml has other changes that are not deployed ({other}): deploy them \
             first; nothing was changed"
        ))),
    }
}
