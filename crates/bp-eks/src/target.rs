//! Kubernetes workload deployment target: deploy, restore, roll back, verify and detect drift.

use std::sync::Arc;

use bp_artifact::{
    Operation, Outcome, ResolvedImage,
    config::Workload,
    deploy::{
        Change, Current, DeployEvent, Drift, OnFailure, Proof, Reporter, Revision, RollbackCheck, Target,
        TargetError, TargetId, status::Status,
    },
    text::SingleLine,
};
use futures_core::future::BoxFuture;
use tracing::{field::Empty, info_span};

use crate::{
    api::scope::Scope,
    error::Error,
    options::Options,
    rollout::{WorkloadRollout, api::WorkloadApi},
};

/// A running rollout: emits [`DeployEvent`]s and ends in an [`Outcome`].
pub type Rollout = Operation<DeployEvent, Result<Outcome, Error>>;

/// A container of a workload as a deployment target. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EksTarget(pub(crate) Arc<WorkloadRollout>);

impl EksTarget {
    pub(crate) fn of(scope: Scope, workload: Workload, container: Option<String>, options: Options) -> Self {
        let id = scope.target(&workload.to_string());
        let api = WorkloadApi { scope, workload };
        let (also, images) = (Vec::new(), Vec::new());
        EksTarget(Arc::new(WorkloadRollout { api, id, container, also, images, options }))
    }

    /// The container that gets the image; defaults to the only one.
    pub fn container(self, name: impl Into<String>) -> Self {
        let container = Some(name.into());
        EksTarget(Arc::new(WorkloadRollout { container, ..Arc::unwrap_or_clone(self.0) }))
    }

    /// Another container that gets the same image in the same rollout, such as an init container that migrates. All of
    /// them are verified.
    pub fn also(self, name: impl Into<String>) -> Self {
        let mut rollout = Arc::unwrap_or_clone(self.0);
        rollout.also.push(name.into());
        EksTarget(Arc::new(rollout))
    }

    /// Adds the platforms of an image, against which [`watch`](Self::watch) and [`resume`](Self::resume) verify the
    /// digests of pods: the workload contains only the digest of the image itself.
    pub fn known_image(self, image: ResolvedImage) -> Self {
        let mut rollout = Arc::unwrap_or_clone(self.0);
        rollout.images.push(image);
        EksTarget(Arc::new(rollout))
    }

    /// The same workload as a part of another target, whose id its events have.
    pub(crate) fn part_of(self, id: &TargetId) -> Self {
        EksTarget(Arc::new(WorkloadRollout { id: id.clone(), ..Arc::unwrap_or_clone(self.0) }))
    }

    /// The changes that deploying `image` would make to the workload, from a server-side dry run, including those of
    /// [`Options::restart_on_config`](crate::Options::restart_on_config).
    ///
    /// # Errors
    /// When the workload cannot be read, or the dry run is refused.
    ///
    /// # Permissions
    /// RBAC: `get` and `patch` on the workload's resource; with `restart_on_config` also `get` on `secrets` and
    /// `configmaps`.
    ///
    /// # Cancel safety
    /// Cancel safe: a dry run changes nothing.
    pub async fn planned_changes(&self, image: &bp_artifact::DigestRef) -> Result<Vec<Change>, Error> {
        let live = self.0.api.workload().await?;
        let slot = self.0.slot(&live)?;
        Ok(self.0.plan_image(&live, &slot, &image.to_string()).await?.changes)
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

    /// Rolls out `image` and watches it until it ends: reads the workload, applies only the container's image, follows
    /// *that* generation, reports a failure with its evidence as soon as it is known, rolls back, and verifies the
    /// running digests.
    ///
    /// A rerun adopts a rollout in progress, or changes nothing when the image is rolled out already.
    ///
    /// A Job's template is immutable: for `job/migrate` a Job `migrate-<digest>` is created. A complete Job of the same
    /// image is a success, a running one is followed, and after a failed one another Job is created. Jobs are not
    /// rolled back. Created Jobs have no time to live, so that each image runs once; they have the label
    /// `bp-eks/derived-from`, and the latest one is the pattern if the configured Job was deleted.
    ///
    /// # Errors
    /// When the input is invalid, the API server refuses a request, or the rollout cannot be watched. A rollout that
    /// fails is a verdict.
    ///
    /// # Permissions
    /// RBAC in the namespace: `get`, `list`, `watch`, `patch` on the workload's resource (for Jobs `create` instead of
    /// `patch`); `list`, `watch` on `pods` and on `replicasets.apps` (for StatefulSets and DaemonSets
    /// `controllerrevisions.apps`); for exact causes also `list`, `watch` on `events` and `get` on `pods/log`, which
    /// [live logs](Options::live_logs) require too; to undo more than an image also `update` on the workload's
    /// resource; for StatefulSets also `delete` on `pods`.
    ///
    /// # Cancel safety
    /// Dropping or cancelling the operation stops watching; the rollout continues, and nothing is rolled back.
    pub fn deploy(&self, image: &ResolvedImage) -> Rollout {
        let span = info_span!(
            "eks_deploy",
            target_id = %SingleLine(&self.0.id),
            image = %image.reference,
            verdict = Empty,
        );
        let image = image.clone();
        span.in_scope(|| {
            self.spawn(|rollout, reporter| async move { rollout.deploy(&image, &reporter).await })
        })
    }

    /// Follows the rollout in progress to its end, or verifies the running digests if there is none. Changes nothing: a
    /// rollout that fails is left in place.
    ///
    /// # Errors
    /// When the workload cannot be read.
    ///
    /// # Permissions
    /// Those of [`deploy`](Self::deploy) except `create`, `patch`, `update` and `delete`.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub fn watch(&self) -> Rollout {
        let span = info_span!("eks_watch", target_id = %SingleLine(&self.0.id), verdict = Empty);
        let work = |rollout: Arc<WorkloadRollout>, reporter| async move {
            rollout.watch(OnFailure::Leave, &reporter).await
        };
        span.in_scope(|| self.spawn(work))
    }

    /// As [`watch`](Self::watch), and rolls back a rollout that fails, as [`deploy`](Self::deploy) does.
    ///
    /// # Errors
    /// As [`watch`](Self::watch).
    ///
    /// # Permissions
    /// As [`deploy`](Self::deploy).
    ///
    /// # Cancel safety
    /// As [`deploy`](Self::deploy).
    pub fn resume(&self) -> Rollout {
        let span = info_span!("eks_resume", target_id = %SingleLine(&self.0.id), verdict = Empty);
        let work = |rollout: Arc<WorkloadRollout>, reporter| async move {
            rollout.watch(OnFailure::RollBack, &reporter).await
        };
        span.in_scope(|| self.spawn(work))
    }

    /// Restores `revision` and watches the rollout until it ends.
    ///
    /// The verdict is about the restored revision: `Deployed`, or `Unproven` when its image has no digest.
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
        let span = info_span!("eks_restore", target_id = %SingleLine(&self.0.id), verdict = Empty);
        span.in_scope(|| {
            self.spawn(|rollout, reporter| async move { rollout.restore(&revision, &reporter).await })
        })
    }

    /// Rolls back: during or after a failed rollout to the revision before it, otherwise to the previous revision.
    ///
    /// # Errors
    /// [`Error::NoPrevious`] when there is none; otherwise as [`restore`](Self::restore).
    ///
    /// # Permissions
    /// As [`restore`](Self::restore).
    ///
    /// # Cancel safety
    /// As [`deploy`](Self::deploy).
    pub fn rollback(&self) -> Rollout {
        let span = info_span!("eks_rollback", target_id = %SingleLine(&self.0.id), verdict = Empty);
        span.in_scope(|| {
            self.spawn(|rollout, reporter| async move {
                let revision = rollout.previous().await?;
                rollout.restore(&revision, &reporter).await
            })
        })
    }

    /// Returns what runs, the state of the rollout, and the last failures and warnings, in four calls.
    ///
    /// # Errors
    /// When the workload, its revisions or its pods cannot be read.
    ///
    /// # Permissions
    /// Those of [`prove`](Self::prove); without `list` on `events`, the status has none.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    #[tracing::instrument(name = "eks_status", skip_all, fields(target_id = %SingleLine(&self.0.id)))]
    pub async fn status(&self) -> Result<Status, Error> {
        self.0.status().await
    }

    /// Compares the workload with `image`: its template, its rollout status, and the digests of its pods.
    ///
    /// # Errors
    /// When the workload cannot be read.
    ///
    /// # Permissions
    /// As [`prove`](Self::prove).
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    #[tracing::instrument(
        name = "eks_verify",
        skip_all,
        fields(target_id = %SingleLine(&self.0.id), image = %image.reference)
    )]
    pub async fn drift(&self, image: &ResolvedImage) -> Result<Drift, Error> {
        self.0.drift(image).await
    }

    /// The stable revision, and the one that is being rolled out.
    ///
    /// # Errors
    /// When the workload cannot be read.
    ///
    /// # Permissions
    /// RBAC: `get` on the workload's resource, `list` on `pods` and on the resource with its revisions.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn current(&self) -> Result<Current, Error> {
        self.0.current().await
    }

    /// The revision to which [`rollback`](Self::rollback) would roll back.
    ///
    /// # Errors
    /// [`Error::NoPrevious`] when there is none, or when the workload cannot be read.
    ///
    /// # Permissions
    /// As [`current`](Self::current).
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn previous(&self) -> Result<Revision, Error> {
        self.0.previous().await
    }

    /// Checks whether `previous`, the revision that a failed deployment of `image` returns to, can still run: whether its
    /// controller has kept it, its image exists in the [registry](Options::registry), and the Secrets and ConfigMaps that
    /// it requires exist. `None` when nothing would be changed, and for a Job. What cannot be read is unknown, and refuses
    /// nothing.
    ///
    /// # Errors
    /// When the workload cannot be read.
    ///
    /// # Permissions
    /// As [`current`](Self::current); optionally `get` on `secrets` and `configmaps`.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn check_rollback(
        &self,
        image: &ResolvedImage,
        previous: &Revision,
    ) -> Result<Option<RollbackCheck>, Error> {
        self.0.check_rollback(image, previous).await
    }

    /// Finds the revision with this number to [restore](Self::restore), as `kubectl rollout undo --to-revision` does.
    ///
    /// # Errors
    /// [`Error::NoRevision`] when the controller has not kept it; the message lists the existing ones.
    ///
    /// # Permissions
    /// As [`current`](Self::current).
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn revision(&self, number: &str) -> Result<Revision, Error> {
        self.0.revision(number).await
    }

    /// The digests of the container in the ready pods, to be [judged](Proof::judge) against an image.
    ///
    /// # Errors
    /// When the workload or its pods cannot be read.
    ///
    /// # Permissions
    /// RBAC: `get` on the workload's resource, `list` on `pods` and on the resource with its revisions.
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

    fn previous(&self) -> BoxFuture<'_, Result<Revision, TargetError>> {
        Box::pin(async { EksTarget::previous(self).await.map_err(TargetError::new) })
    }

    fn check_rollback<'a>(
        &'a self,
        image: &'a ResolvedImage,
        previous: &'a Revision,
    ) -> BoxFuture<'a, Result<Option<RollbackCheck>, TargetError>> {
        Box::pin(async { self.0.check_rollback(image, previous).await.map_err(TargetError::new) })
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
        Box::pin(async { EksTarget::drift(self, image).await.map_err(TargetError::new) })
    }
}
