//! Manifests as a deployment target: plan, deploy, restore, roll back, verify and detect drift.

use std::sync::Arc;

use bp_artifact::{
    DigestRef, Operation, Outcome, ResolvedImage,
    deploy::{
        Current, DeployEvent, Drift, OnFailure, Proof, Reporter, Revision, Target, TargetError, TargetId,
        status::Status,
    },
    reference::Repository,
    text::SingleLine,
};
use futures_core::future::BoxFuture;
use tracing::{Span, field::Empty, info_span};

use super::{context::Context, error::ManifestsError, plan::ManifestPlan, read::ManifestSet};
use crate::{api::scope::Scope, options::Options};

/// A running deployment of manifests: emits [`DeployEvent`]s and ends in an [`Outcome`].
pub type ManifestsRun = Operation<DeployEvent, Result<Outcome, ManifestsError>>;

/// The objects of manifests in a namespace, created and updated by server-side apply. Cheap to clone.
///
/// ```no_run
/// # async fn run(client: kube::Client, image: bp_artifact::ResolvedImage) -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use bp_eks::{Cluster, Options, manifests::ManifestSet};
///
/// let set = ManifestSet::read(&["deploy/prod"])?;
/// let options = Options::new(Duration::from_secs(900))?;
/// let web = Cluster::new(client, "prod").namespace("shop").manifests("web", set, options);
/// tracing::info!("{}", web.plan(&image).await?);
/// let outcome = web.deploy(&image).await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Manifests(Arc<Context>);

impl Manifests {
    pub(crate) fn of(scope: Scope, name: String, set: ManifestSet, options: Options) -> Self {
        let id = scope.target(&format!("manifests/{name}"));
        let (allow_tags, outside_namespace) = (false, false);
        let recorded = None;
        Manifests(Arc::new(Context {
            scope,
            name,
            set,
            options,
            allow_tags,
            outside_namespace,
            recorded,
            id,
        }))
    }

    fn with(self, change: impl FnOnce(&mut Context)) -> Self {
        let mut context = Arc::unwrap_or_clone(self.0);
        change(&mut context);
        Manifests(Arc::new(context))
    }

    /// Whether containers may have images of other repositories by tag, such as a sidecar `envoy:1.31`. Defaults to off:
    /// a tag can change at any time, so they are refused. Allowed ones are reported.
    pub fn allow_tags(self, yes: bool) -> Self {
        self.with(|context| context.allow_tags = yes)
    }

    /// Whether objects may be cluster-scoped, such as a ClusterRole or a definition of custom resources, or in another
    /// namespace. Defaults to off: then only the Namespace itself is allowed.
    pub fn outside_namespace(self, yes: bool) -> Self {
        self.with(|context| context.outside_namespace = yes)
    }

    /// A revision of these manifests, such as that of a receipt. If the set is empty, [`current`](Self::current) reads its
    /// workloads.
    pub fn recorded(self, revision: &Revision) -> Self {
        self.with(|context| context.recorded = Some(revision.clone()))
    }

    /// `eks/<cluster>/<namespace>/manifests/<name>`.
    pub fn id(&self) -> TargetId {
        self.0.id.clone()
    }

    fn spawn<F>(&self, work: impl FnOnce(Arc<Context>, Reporter) -> F + Send + 'static) -> ManifestsRun
    where
        F: Future<Output = Result<Outcome, ManifestsError>> + Send,
    {
        let context = Arc::clone(&self.0);
        Operation::spawn(|events| async move {
            let reporter = Reporter::new(&events, context.id.clone());
            work(context, reporter).await
        })
    }

    /// What a deployment of `image` would create and change, by a server-side dry run of every object.
    ///
    /// # Errors
    /// When an object is invalid, is not allowed, or would be refused, or no container would run the image.
    ///
    /// # Permissions
    /// RBAC: `get` and `patch` on the objects; `get` on jobs.
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    #[tracing::instrument(
        name = "manifests_plan",
        skip_all,
        fields(target_id = %SingleLine(&self.0.id), image = %image.reference)
    )]
    pub async fn plan(&self, image: &ResolvedImage) -> Result<ManifestPlan, ManifestsError> {
        self.0.plan(image).await
    }

    /// Applies every object that differs, in order, and watches all workloads to one verdict: the worst decides. Every
    /// container with an image of the repository gets the digest.
    ///
    /// A dry run of every object comes first; if one is refused, nothing is changed. When a workload fails, those that
    /// had an earlier revision are rolled back; created ones, and other objects, stay. A rerun applies what is missing.
    ///
    /// # Errors
    /// As [`plan`](Self::plan); also when the first change is refused, or the operation is cancelled. Later, a refused
    /// object is a verdict.
    ///
    /// # Permissions
    /// RBAC: `get` and `patch` on the objects, and `create` for those that do not exist; for the workloads those of
    /// [`EksTarget::deploy`](crate::EksTarget::deploy); `list` and `watch` on `customresourcedefinitions` if there are
    /// any.
    ///
    /// # Cancel safety
    /// Dropping or cancelling the operation leaves what was applied; the same call resumes.
    pub fn deploy(&self, image: &ResolvedImage) -> ManifestsRun {
        let image = image.clone();
        let span = info_span!(
            "manifests_deploy",
            target_id = %SingleLine(&self.0.id),
            image = %image.reference,
            verdict = Empty,
        );
        span.in_scope(|| {
            self.spawn(|context, reporter| async move { context.deploy(&image, &reporter).await })
        })
    }

    /// The image of this repository that a workload runs or rolls out, by digest; `None` if none does.
    ///
    /// # Errors
    /// When a workload cannot be read.
    ///
    /// # Permissions
    /// RBAC: `get` on the workloads.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn deployed_image(&self, repository: &Repository) -> Result<Option<DigestRef>, ManifestsError> {
        self.0.deployed_image(repository).await
    }

    /// Follows the rollouts of `image` in progress to one verdict, or verifies the running digests if there are none.
    /// Changes nothing: rollouts that fail are left in place.
    ///
    /// # Errors
    /// As [`plan`](Self::plan); [`ManifestsError::NotCreated`] when no workload exists.
    ///
    /// # Permissions
    /// Those of [`EksTarget::watch`](crate::EksTarget::watch).
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub fn watch(&self, image: &ResolvedImage) -> ManifestsRun {
        let watching = self.clone().with(|context| context.options.on_failure = OnFailure::Leave);
        watching.followed(
            image,
            info_span!("manifests_watch", target_id = %SingleLine(&self.0.id), verdict = Empty),
        )
    }

    /// As [`watch`](Self::watch); when one fails, the workloads whose rollout was in progress are rolled back, as by
    /// [`deploy`](Self::deploy). Those whose rollout was complete before keep their revision.
    ///
    /// # Errors
    /// As [`watch`](Self::watch).
    ///
    /// # Permissions
    /// As [`deploy`](Self::deploy).
    ///
    /// # Cancel safety
    /// As [`deploy`](Self::deploy).
    pub fn resume(&self, image: &ResolvedImage) -> ManifestsRun {
        self.followed(
            image,
            info_span!("manifests_resume", target_id = %SingleLine(&self.0.id), verdict = Empty),
        )
    }

    fn followed(&self, image: &ResolvedImage, span: Span) -> ManifestsRun {
        let image = image.clone();
        span.in_scope(|| {
            self.spawn(|context, reporter| async move { context.watch(&image, &reporter).await })
        })
    }

    /// Restores the workloads to the revisions that `revision` contains, and watches them. Other objects are not changed.
    ///
    /// # Errors
    /// When it is not a revision of manifests, or a workload or its revision does not exist.
    ///
    /// # Permissions
    /// As [`EksTarget::restore`](crate::EksTarget::restore).
    ///
    /// # Cancel safety
    /// As [`deploy`](Self::deploy).
    pub fn restore(&self, revision: &Revision) -> ManifestsRun {
        let revision = revision.clone();
        let span = info_span!("manifests_restore", target_id = %SingleLine(&self.0.id), verdict = Empty);
        span.in_scope(|| {
            self.spawn(|context, reporter| async move { context.restore(&revision, &reporter).await })
        })
    }

    /// The revisions of the workloads as one revision; `None` if none of them exists yet.
    ///
    /// # Errors
    /// When a workload cannot be read.
    ///
    /// # Permissions
    /// As [`EksTarget::current`](crate::EksTarget::current).
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn current(&self) -> Result<Option<Current>, ManifestsError> {
        self.0.current().await
    }

    /// The previous revisions of all workloads that have one.
    ///
    /// # Errors
    /// [`ManifestsError::NoPrevious`] when none has one.
    ///
    /// # Permissions
    /// As [`current`](Self::current).
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn previous(&self) -> Result<Revision, ManifestsError> {
        self.0.previous().await
    }

    /// What runs, the state of the rollouts, and the last failures and warnings, of every workload that exists.
    ///
    /// # Errors
    /// When a workload cannot be read.
    ///
    /// # Permissions
    /// As [`EksTarget::status`](crate::EksTarget::status).
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn statuses(&self) -> Result<Vec<Status>, ManifestsError> {
        self.0.statuses().await
    }

    /// The digests of the containers that run the deployed image.
    ///
    /// # Errors
    /// When a workload cannot be read.
    ///
    /// # Permissions
    /// As [`EksTarget::prove`](crate::EksTarget::prove).
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn prove(&self) -> Result<Proof, ManifestsError> {
        self.0.prove().await
    }

    /// How the objects differ from a deployment of `image`.
    ///
    /// # Errors
    /// As [`plan`](Self::plan).
    ///
    /// # Permissions
    /// As [`plan`](Self::plan) and [`prove`](Self::prove).
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    pub async fn drift(&self, image: &ResolvedImage) -> Result<Drift, ManifestsError> {
        self.0.drift(image).await
    }
}

impl Target for Manifests {
    fn id(&self) -> TargetId {
        Manifests::id(self)
    }

    /// An error if no workload exists yet.
    fn current(&self) -> BoxFuture<'_, Result<Current, TargetError>> {
        Box::pin(async {
            let current = self.0.current().await.map_err(TargetError::new)?;
            current.ok_or_else(|| TargetError::new(ManifestsError::NotCreated))
        })
    }

    fn previous(&self) -> BoxFuture<'_, Result<Revision, TargetError>> {
        Box::pin(async { self.0.previous().await.map_err(TargetError::new) })
    }

    fn deploy(&self, image: &ResolvedImage) -> Operation<DeployEvent, Result<Outcome, TargetError>> {
        Manifests::deploy(self, image).map_err(TargetError::new)
    }

    fn restore(&self, revision: &Revision) -> Operation<DeployEvent, Result<Outcome, TargetError>> {
        Manifests::restore(self, revision).map_err(TargetError::new)
    }

    fn prove(&self) -> BoxFuture<'_, Result<Proof, TargetError>> {
        Box::pin(async { self.0.prove().await.map_err(TargetError::new) })
    }

    fn drift<'a>(&'a self, image: &'a ResolvedImage) -> BoxFuture<'a, Result<Drift, TargetError>> {
        Box::pin(async { self.0.drift(image).await.map_err(TargetError::new) })
    }
}
