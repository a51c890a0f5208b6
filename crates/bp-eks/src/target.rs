//! A container of a workload in a cluster, as a place to deploy to.

use std::sync::Arc;

use bp_artifact::{
    Operation, Outcome, ResolvedImage,
    config::Workload,
    deploy::{Current, DeployEvent, Drift, Proof, Reporter, Revision, Target, TargetError, TargetId},
};
use futures_core::future::BoxFuture;

use crate::{
    api::scope::Scope,
    error::Error,
    options::Options,
    rollout::{WorkloadRollout, api::WorkloadApi},
};

/// What a roll-out tells and ends in.
pub type Rollout = Operation<DeployEvent, Result<Outcome, Error>>;

/// One container of one workload: where an image is rolled out to. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EksTarget(pub(crate) Arc<WorkloadRollout>);

impl EksTarget {
    pub(crate) fn of(scope: Scope, workload: Workload, container: Option<String>, options: Options) -> Self {
        let id = scope.target(&workload.to_string());
        let api = WorkloadApi { scope, workload };
        EksTarget(Arc::new(WorkloadRollout { api, id, container, options }))
    }

    /// The container that gets the image; defaults to the only one.
    pub fn container(self, name: impl Into<String>) -> Self {
        let container = Some(name.into());
        EksTarget(Arc::new(WorkloadRollout { container, ..Arc::unwrap_or_clone(self.0) }))
    }

    /// The same workload as a part of another target, under whose id its events are told.
    pub(crate) fn part_of(self, id: &TargetId) -> Self {
        EksTarget(Arc::new(WorkloadRollout { id: id.clone(), ..Arc::unwrap_or_clone(self.0) }))
    }

    /// `eks/<cluster>/<namespace>/<kind>/<name>`.
    pub fn id(&self) -> TargetId {
        self.0.id.clone()
    }

    fn spawn<F>(&self, work: impl FnOnce(Arc<WorkloadRollout>, Reporter) -> F + Send + 'static) -> Rollout
    where
        F: Future<Output = Result<Outcome, Error>> + Send,
    {
        let rollout = Arc::clone(&self.0);
        Operation::spawn(|events| async move {
            let reporter = Reporter::new(&events, rollout.id.clone());
            work(rollout, reporter).await
        })
    }

    /// Rolls out `image` and watches it to its end: reads the workload, applies exactly our container's image, follows
    /// *that* generation, reports a failure with its evidence as soon as it is known, goes back, and proves what runs.
    ///
    /// Running it again adopts the roll-out that an earlier run began, or finds that nothing has to change.
    ///
    /// A Job's template never changes: of `job/migrate` a Job `migrate-<digest>` is made, which has done its work when it
    /// is complete. A Job of the same image that is complete is success, one at work is followed, and after one that
    /// failed another is made. What a Job did is never undone.
    ///
    /// # Errors
    /// When the input is wrong, the cluster refuses, or watching is not possible. A roll-out that fails is a verdict.
    ///
    /// # Permissions
    /// RBAC in the namespace: `get`, `list`, `watch`, `patch` on the workload's resource (of Jobs `create` in place of
    /// `patch`); `list`, `watch` on `pods` and on `replicasets.apps` (of StatefulSets and DaemonSets
    /// `controllerrevisions.apps`); for exact causes also `list`, `watch` on `events` and `get` on `pods/log`, which
    /// [live logs](Options::live_logs) take as well; to undo
    /// more than an image also `update` on the workload's resource; of StatefulSets also `delete` on `pods`.
    ///
    /// # Cancel safety
    /// Dropping or cancelling the operation stops watching; the roll-out goes on, and nothing is rolled back.
    pub fn deploy(&self, image: &ResolvedImage) -> Rollout {
        let image = image.clone();
        self.spawn(|rollout, reporter| async move { rollout.deploy(&image, &reporter).await })
    }

    /// Puts `revision` back and watches it to its end.
    ///
    /// The verdict is of the restored revision: `Deployed`, or `Unproven` when its image names no digest.
    ///
    /// # Errors
    /// As [`deploy`](Self::deploy).
    ///
    /// # Permissions
    /// As [`deploy`](Self::deploy).
    ///
    /// # Cancel safety
    /// As [`deploy`](Self::deploy).
    pub fn restore(&self, revision: &Revision) -> Rollout {
        let revision = revision.clone();
        self.spawn(|rollout, reporter| async move { rollout.restore(&revision, &reporter).await })
    }

    /// Goes back: to what ran before a roll-out that is under way or has failed, else to the revision that the last one
    /// replaced.
    ///
    /// # Errors
    /// [`Error::NoPrevious`] when there is none; else as [`restore`](Self::restore).
    ///
    /// # Permissions
    /// As [`restore`](Self::restore).
    ///
    /// # Cancel safety
    /// As [`deploy`](Self::deploy).
    pub fn rollback(&self) -> Rollout {
        self.spawn(|rollout, reporter| async move {
            let revision = rollout.previous().await?;
            rollout.restore(&revision, &reporter).await
        })
    }

    /// What the workload runs, against `image`: template, roll-out, and the digests that are seen in its pods.
    ///
    /// # Errors
    /// When the workload cannot be read.
    ///
    /// # Permissions
    /// As [`prove`](Self::prove).
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn drift(&self, image: &ResolvedImage) -> Result<Drift, Error> {
        self.0.drift(image).await
    }

    /// What runs now, and what to go back to.
    ///
    /// # Errors
    /// When the workload cannot be read.
    ///
    /// # Permissions
    /// RBAC: `get` on the workload's resource, `list` on `pods` and on what keeps its revisions.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn current(&self) -> Result<Current, Error> {
        self.0.current().await
    }

    /// The digests that our container reports in the ready pods, to be [judged](Proof::judge) against an image.
    ///
    /// # Errors
    /// When workload or pods cannot be read.
    ///
    /// # Permissions
    /// RBAC: `get` on the workload's resource, `list` on `pods` and on what keeps its revisions.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn prove(&self) -> Result<Proof, Error> {
        self.0.prove().await
    }
}

impl Target for EksTarget {
    fn id(&self) -> TargetId {
        EksTarget::id(self)
    }

    fn current(&self) -> BoxFuture<'_, Result<Current, TargetError>> {
        Box::pin(async { self.0.current().await.map_err(TargetError::new) })
    }

    fn deploy(&self, image: &ResolvedImage) -> Operation<DeployEvent, Result<Outcome, TargetError>> {
        EksTarget::deploy(self, image).map_err(TargetError::new)
    }

    fn restore(&self, revision: &Revision) -> Operation<DeployEvent, Result<Outcome, TargetError>> {
        EksTarget::restore(self, revision).map_err(TargetError::new)
    }

    fn prove(&self) -> BoxFuture<'_, Result<Proof, TargetError>> {
        Box::pin(async { self.0.prove().await.map_err(TargetError::new) })
    }

    fn drift<'a>(&'a self, image: &'a ResolvedImage) -> BoxFuture<'a, Result<Drift, TargetError>> {
        Box::pin(async { self.0.drift(image).await.map_err(TargetError::new) })
    }
}
