//! A container of an ECS service, as a place to deploy to.

use std::{pin::pin, sync::Arc};

use aws_sdk_ecs::types::DeploymentLifecycleHookAction;
use bp_artifact::{
    DigestRef, Operation, Outcome, ResolvedImage,
    deploy::{Current, DeployEvent, Drift, Proof, Reporter, Revision, Target, TargetError, TargetId},
};
use futures_core::future::BoxFuture;
use futures_util::future::{Either, select};

use crate::{
    api::{Api, Shared},
    definition::{Overlay, TaskDefinition},
    error::Error,
    names::name_of,
    options::Options,
    rollout::ServiceRollout,
};

/// What a deployment tells and ends in.
pub type Deployment = Operation<DeployEvent, Result<Outcome, Error>>;

/// One container of one ECS service: where an image is deployed to. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EcsTarget(pub(crate) Arc<ServiceRollout>);

/// An answer to a deployment that [awaits approval](bp_artifact::Verdict::AwaitingApproval).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Approval {
    /// Go on with the next stage.
    Continue,
    /// Go back to the previous revision.
    RollBack,
}

impl EcsTarget {
    pub(crate) fn of(cluster: Arc<Shared>, service: String, options: Options) -> Self {
        let id = TargetId::new(format!("ecs/{}/{}", name_of(&cluster.name), name_of(&service)));
        let api = Api::new(cluster, service, options.deadline);
        EcsTarget(Arc::new(ServiceRollout {
            api,
            id,
            containers: Vec::new(),
            base: None,
            overlay: None,
            options,
            #[cfg(feature = "logs")]
            logs: None,
        }))
    }

    pub(crate) fn change(mut self, change: impl FnOnce(&mut ServiceRollout)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// Deploys the image to this container; the definition's only one if none is named. Called again, to that one too, as
    /// to a worker that runs the same program; the first one's failures count first.
    pub fn container(self, name: impl Into<String>) -> Self {
        self.change(|rollout| rollout.containers.push(name.into()))
    }

    /// Lays `overlay` over every definition that is deployed. What an earlier overlay set and this one does not is removed:
    /// each revision notes the names in the docker label `dev.bp.set`. Without an overlay all of that stays.
    pub fn overlay(self, overlay: Overlay) -> Self {
        self.change(|rollout| rollout.overlay = Some(overlay))
    }

    /// Makes new revisions of `definition`, as from a file, instead of what the service runs. Its images are replaced,
    /// its ARN, if it has one, means nothing, and nothing is removed from it.
    pub fn base(self, definition: TaskDefinition) -> Self {
        self.change(|rollout| rollout.base = Some(definition.unregistered().without_inventory()))
    }

    /// `ecs/<cluster>/<service>`.
    pub fn id(&self) -> TargetId {
        self.0.id.clone()
    }

    fn spawn<F>(&self, work: impl FnOnce(Arc<ServiceRollout>, Reporter) -> F + Send + 'static) -> Deployment
    where
        F: Future<Output = Result<Outcome, Error>> + Send,
    {
        let rollout = Arc::clone(&self.0);
        Operation::spawn(|events| async move {
            let _at_work = rollout.api.cluster.at_work();
            let reporter = Reporter::new(&events, rollout.id.clone());
            let work = async { work(rollout.with_containers().await?, reporter.clone()).await };
            until_cancelled(work, &reporter).await
        })
    }

    /// Deploys `image` and watches it to its end: reads the service, changes exactly our container's image, registers
    /// the definition or reuses an equal one, updates the service, follows *that* deployment, goes back when it fails,
    /// and proves what runs.
    ///
    /// Running it again adopts the deployment that an earlier run began, or finds that nothing has to change.
    ///
    /// # Errors
    /// When the input is wrong, or AWS refuses or cannot be reached before anything was changed. A deployment that fails
    /// is a verdict, and so is one that can no longer be observed once it was started, or may have been:
    /// [`Unobserved`](bp_artifact::Verdict::Unobserved).
    ///
    /// # Permissions
    /// `ecs:DescribeServices`, `ecs:DescribeTaskDefinition`, `ecs:RegisterTaskDefinition` (`ecs:TagResource` when the
    /// definition has tags), `iam:PassRole` on its roles, `ecs:UpdateService`, `ecs:ListServiceDeployments`,
    /// `ecs:DescribeServiceDeployments`, `ecs:DescribeServiceRevisions`, `ecs:StopServiceDeployment`,
    /// `ecs:ListTasks`, `ecs:DescribeTasks`.
    ///
    /// # Cancel safety
    /// Dropping or cancelling the operation stops watching at once; the deployment goes on, nothing is rolled back, and
    /// the next run finishes the work.
    pub fn deploy(&self, image: &ResolvedImage) -> Deployment {
        let image = image.clone();
        self.spawn(|rollout, reporter| async move { rollout.deploy(&image, &reporter).await })
    }

    /// Follows the deployment under way, or reports the last one, and changes nothing.
    ///
    /// # Errors
    /// When the service cannot be read.
    ///
    /// # Permissions
    /// Those of [`deploy`](Self::deploy) that describe and list.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub fn watch(&self) -> Deployment {
        self.spawn(|rollout, reporter| async move { rollout.watch(&reporter).await })
    }

    /// Puts `revision` back and watches it to its end. A rollback of ECS's own to that revision is followed.
    ///
    /// The verdict is of the restored revision: `Deployed`, or `Unproven` when its image names no digest.
    ///
    /// # Errors
    /// As [`deploy`](Self::deploy).
    ///
    /// # Permissions
    /// Those of [`deploy`](Self::deploy) without `ecs:RegisterTaskDefinition`.
    ///
    /// # Cancel safety
    /// As [`deploy`](Self::deploy).
    pub fn restore(&self, revision: &Revision) -> Deployment {
        let revision = revision.clone();
        self.spawn(|rollout, reporter| async move { rollout.restore(&revision, &reporter).await })
    }

    /// Goes back: to the last stable revision while a deployment is under way or has failed in place, else to the one
    /// that the last deployment replaced.
    ///
    /// # Errors
    /// [`Error::NoPrevious`] when there is none; else as [`restore`](Self::restore).
    ///
    /// # Permissions
    /// As [`restore`](Self::restore).
    ///
    /// # Cancel safety
    /// As [`deploy`](Self::deploy).
    pub fn rollback(&self) -> Deployment {
        self.spawn(|rollout, reporter| async move {
            let revision = rollout.previous().await?;
            rollout.restore(&revision, &reporter).await
        })
    }

    /// Answers the pause that the deployment under way waits in. Deploy or watch again to follow it on.
    ///
    /// # Errors
    /// [`Error::NotAwaitingApproval`] when nothing waits.
    ///
    /// # Permissions
    /// `ecs:ListServiceDeployments`, `ecs:DescribeServiceDeployments`, `ecs:ContinueServiceDeployment`.
    ///
    /// # Cancel safety
    /// Dropped before its end it may or may not have answered; answering twice is an error, not harm.
    pub async fn approve(&self, approval: Approval) -> Result<(), Error> {
        let action = match approval {
            Approval::Continue => DeploymentLifecycleHookAction::Continue,
            Approval::RollBack => DeploymentLifecycleHookAction::Rollback,
        };
        self.0.approve(action).await
    }

    /// The definition that the service runs now: to show [what would change](TaskDefinition::changes), and to list the
    /// [secrets](TaskDefinition::secrets) that somebody may check first.
    ///
    /// # Errors
    /// When service or definition cannot be read.
    ///
    /// # Permissions
    /// `ecs:DescribeServices`, `ecs:DescribeTaskDefinition`, `ecs:ListServiceDeployments`.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn definition(&self) -> Result<TaskDefinition, Error> {
        let survey = self.0.survey().await?;
        self.0.api.definition(&survey.definition).await
    }

    /// The definition that deploying `image` would give the service: to be shown
    /// [beside](TaskDefinition::changes) the one in place.
    ///
    /// # Errors
    /// As [`definition`](Self::definition); when a container is missing.
    ///
    /// # Permissions
    /// Those of [`definition`](Self::definition).
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn wanted(&self, image: &DigestRef) -> Result<TaskDefinition, Error> {
        self.0.with_containers().await?.wanted(&self.definition().await?, image)
    }

    /// A revision by its name, to be [restored](Self::restore): `web:41`, or an ARN. A family alone is its latest.
    ///
    /// # Errors
    /// When there is no such definition, or it lacks our container.
    ///
    /// # Permissions
    /// `ecs:DescribeTaskDefinition`.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn revision(&self, definition: &str) -> Result<Revision, Error> {
        self.0.with_containers().await?.revision(definition).await
    }

    /// What runs now, and what to go back to.
    ///
    /// # Errors
    /// When the service cannot be read.
    ///
    /// # Permissions
    /// `ecs:DescribeServices`, `ecs:DescribeTaskDefinition`, `ecs:ListServiceDeployments`,
    /// `ecs:DescribeServiceDeployments`, `ecs:DescribeServiceRevisions`.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn current(&self) -> Result<Current, Error> {
        self.0.with_containers().await?.current().await
    }

    /// The digests that our container's running tasks report, to be [judged](Proof::judge) against an image. Tasks of
    /// earlier deployments count as long as a deployment is under way; after its success ECS is merely stopping them.
    ///
    /// # Errors
    /// When service or tasks cannot be read.
    ///
    /// # Permissions
    /// `ecs:DescribeServices`, `ecs:DescribeServiceRevisions`, `ecs:ListTasks`, `ecs:DescribeTasks`; while the service
    /// shows several deployments also `ecs:ListServiceDeployments` and `ecs:DescribeServiceDeployments`.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn prove(&self) -> Result<Proof, Error> {
        self.0.with_containers().await?.prove().await
    }
}

impl EcsTarget {
    /// How the service differs from one that `image` was deployed to and that is at rest: the definition, the service
    /// itself, and the digest that runs.
    ///
    /// # Errors
    /// When service, definition or tasks cannot be read.
    ///
    /// # Permissions
    /// Those of [`definition`](Self::definition) and of [`prove`](Self::prove).
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn drift(&self, image: &ResolvedImage) -> Result<Drift, Error> {
        self.0.with_containers().await?.drift(image).await
    }
}

impl Target for EcsTarget {
    fn id(&self) -> TargetId {
        EcsTarget::id(self)
    }

    fn current(&self) -> BoxFuture<'_, Result<Current, TargetError>> {
        Box::pin(async { EcsTarget::current(self).await.map_err(TargetError::new) })
    }

    fn deploy(&self, image: &ResolvedImage) -> Operation<DeployEvent, Result<Outcome, TargetError>> {
        EcsTarget::deploy(self, image).map_err(TargetError::new)
    }

    fn restore(&self, revision: &Revision) -> Operation<DeployEvent, Result<Outcome, TargetError>> {
        EcsTarget::restore(self, revision).map_err(TargetError::new)
    }

    fn prove(&self) -> BoxFuture<'_, Result<Proof, TargetError>> {
        Box::pin(async { EcsTarget::prove(self).await.map_err(TargetError::new) })
    }

    fn drift<'a>(&'a self, image: &'a ResolvedImage) -> BoxFuture<'a, Result<Drift, TargetError>> {
        Box::pin(async { EcsTarget::drift(self, image).await.map_err(TargetError::new) })
    }
}

/// Gives the work up when it is cancelled, also in the middle of a call that does not answer. Every call may be given up:
/// a registration that went through is reused by the next run, a deployment that began is adopted.
async fn until_cancelled(
    work: impl Future<Output = Result<Outcome, Error>>,
    reporter: &Reporter,
) -> Result<Outcome, Error> {
    // The work comes first: where it sees the cancellation by itself it can say what goes on.
    match select(pin!(work), pin!(reporter.cancelled())).await {
        Either::Left((report, _)) => report,
        Either::Right(_) => Err(Error::Interrupted { deployment: None }),
    }
}
