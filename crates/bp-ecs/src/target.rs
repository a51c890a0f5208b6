//! A container of an ECS service, as a place to deploy to.

use std::{pin::pin, sync::Arc};

use aws_sdk_ecs::{Client, types::DeploymentLifecycleHookAction};
use bp_artifact::{
    Current, DeployEvent, DigestRef, Drift, Emitter, Operation, Outcome, Proof, ResolvedImage, Revision,
    Target, TargetError, TargetId,
};
use futures_core::future::BoxFuture;
use futures_util::future::{Either, select};

use crate::{
    api::Api,
    cluster::{Cluster, Shared},
    definition::{Overlay, TaskDefinition},
    error::Error,
    options::Options,
};

/// What a deployment tells and ends in.
pub type Deployment = Operation<DeployEvent, Result<Outcome, Error>>;

/// One container of one ECS service: where an image is deployed to. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EcsTarget(pub(crate) Arc<Inner>);

#[derive(Debug, Clone)]
pub(crate) struct Inner {
    pub(crate) api: Api,
    pub(crate) id: TargetId,
    pub(crate) container: String,
    /// Further containers that run the same image.
    pub(crate) also: Vec<String>,
    /// What new revisions are made of, when it is not what the service runs.
    pub(crate) base: Option<TaskDefinition>,
    pub(crate) overlay: Overlay,
    pub(crate) options: Options,
    #[cfg(feature = "logs")]
    pub(crate) logs: Option<aws_sdk_cloudwatchlogs::Client>,
}

/// An answer to a deployment that [awaits approval](bp_artifact::Verdict::AwaitingApproval).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Approval {
    /// Go on with the next stage.
    Continue,
    /// Go back to the previous revision.
    RollBack,
}

impl EcsTarget {
    /// The container `container` of `service` in `cluster` (names or ARNs), reached through `client`. Several services
    /// of one run come from one [`Cluster`].
    pub fn new(
        client: Client,
        cluster: impl Into<String>,
        service: impl Into<String>,
        container: impl Into<String>,
        options: Options,
    ) -> Self {
        Cluster::new(client, cluster).service(service, container, options)
    }

    pub(crate) fn of(cluster: Arc<Shared>, service: String, container: String, options: Options) -> Self {
        let id = TargetId::new(format!("ecs/{}/{}", name_of(&cluster.name), name_of(&service)));
        let api = Api::new(cluster, service, options.deadline);
        EcsTarget(Arc::new(Inner {
            api,
            id,
            container,
            also: Vec::new(),
            base: None,
            overlay: Overlay::default(),
            options,
            #[cfg(feature = "logs")]
            logs: None,
        }))
    }

    pub(crate) fn change(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// Deploys the image to this container too, as to a worker that runs the same program.
    pub fn also(self, container: impl Into<String>) -> Self {
        self.change(|inner| inner.also.push(container.into()))
    }

    /// Lays `overlay` over every definition that is deployed.
    pub fn overlay(self, overlay: Overlay) -> Self {
        self.change(|inner| inner.overlay = overlay)
    }

    /// Makes new revisions of `definition`, as from a file, instead of what the service runs. Its images are replaced,
    /// and its ARN, if it has one, means nothing.
    pub fn base(self, definition: TaskDefinition) -> Self {
        self.change(|inner| inner.base = Some(definition.unregistered()))
    }

    /// `ecs/<cluster>/<service>`.
    pub fn id(&self) -> TargetId {
        self.0.id.clone()
    }

    fn spawn<F>(&self, work: impl FnOnce(Arc<Inner>, Emitter<DeployEvent>) -> F) -> Deployment
    where
        F: Future<Output = Result<Outcome, Error>> + Send + 'static,
    {
        let inner = Arc::clone(&self.0);
        Operation::spawn(|events| {
            let at_work = inner.api.cluster.at_work();
            let work = work(inner, events.clone());
            until_cancelled(
                async move {
                    let _at_work = at_work;
                    work.await
                },
                events,
            )
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
        self.spawn(|inner, events| async move { inner.deploy(&image, &events).await })
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
        self.spawn(|inner, events| async move { inner.watch(&events).await })
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
        self.spawn(|inner, events| async move { inner.restore(&revision, &events).await })
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
        self.spawn(|inner, events| async move {
            let revision = inner.previous().await?;
            inner.restore(&revision, &events).await
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
        self.0.wanted(&self.definition().await?, image)
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
        self.0.revision(definition).await
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
        self.0.current().await
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
        self.0.prove().await
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
        self.0.drift(image).await
    }
}

impl Target for EcsTarget {
    fn id(&self) -> TargetId {
        EcsTarget::id(self)
    }

    fn current(&self) -> BoxFuture<'_, Result<Current, TargetError>> {
        Box::pin(async { self.0.current().await.map_err(TargetError::new) })
    }

    fn deploy(&self, image: &ResolvedImage) -> Operation<DeployEvent, Result<Outcome, TargetError>> {
        let (inner, image) = (Arc::clone(&self.0), image.clone());
        Operation::spawn(|events| async move {
            let _at_work = inner.api.cluster.at_work();
            let work = inner.deploy(&image, &events);
            until_cancelled(work, events.clone()).await.map_err(TargetError::new)
        })
    }

    fn restore(&self, revision: &Revision) -> Operation<DeployEvent, Result<Outcome, TargetError>> {
        let (inner, revision) = (Arc::clone(&self.0), revision.clone());
        Operation::spawn(|events| async move {
            let _at_work = inner.api.cluster.at_work();
            let work = inner.restore(&revision, &events);
            until_cancelled(work, events.clone()).await.map_err(TargetError::new)
        })
    }

    fn prove(&self) -> BoxFuture<'_, Result<Proof, TargetError>> {
        Box::pin(async { self.0.prove().await.map_err(TargetError::new) })
    }

    fn drift<'a>(&'a self, image: &'a ResolvedImage) -> BoxFuture<'a, Result<Drift, TargetError>> {
        Box::pin(async { self.0.drift(image).await.map_err(TargetError::new) })
    }
}

/// Gives the work up when it is cancelled, also in the middle of a call that does not answer. Every call may be given up:
/// a registration that went through is reused by the next run, a deployment that began is adopted.
async fn until_cancelled(
    work: impl Future<Output = Result<Outcome, Error>>,
    events: Emitter<DeployEvent>,
) -> Result<Outcome, Error> {
    // The work comes first: where it sees the cancellation by itself it can say what goes on.
    match select(pin!(work), pin!(events.cancelled())).await {
        Either::Left((report, _)) => report,
        Either::Right(_) => Err(Error::Interrupted { deployment: None }),
    }
}

/// The last part of an ARN's resource, or a plain name.
pub(crate) fn name_of(text: &str) -> &str {
    text.rsplit('/').next().unwrap_or(text)
}
