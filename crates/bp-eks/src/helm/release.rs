//! Helm release deployment target: upgrade, roll back, read the history.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bp_artifact::{
    Operation, Outcome, ResolvedImage,
    deploy::{Current, DeployEvent, Proof, Reporter, Revision, Target, TargetError, TargetId},
    text::SingleLine,
    time::TimeSource,
};
use futures_core::future::BoxFuture;
use serde_json::{Map, Value};
use tracing::{field::Empty, info_span};

use super::{
    context::{HelmRevision, ImageKeys, Release, put},
    error::HelmError,
};
use crate::{api::scope::Scope, options::Options};

/// A running operation on a release: emits [`DeployEvent`]s and ends in an [`Outcome`].
pub type HelmRun = Operation<DeployEvent, Result<Outcome, HelmError>>;

/// A Helm release in a namespace, upgraded by digest. Cheap to clone.
///
/// ```no_run
/// # async fn run(client: kube::Client, image: bp_artifact::ResolvedImage) -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use bp_eks::{Cluster, Options};
///
/// let options = Options::new(Duration::from_secs(600))?;
/// let shop = Cluster::new(client, "prod").namespace("shop");
/// let web = shop
///     .helm("web", options)
///     .chart("charts/web")
///     .values_file("charts/web/prod.yaml")
///     .build_version("1.4.2");
/// let outcome = web.upgrade(&image).await?;
/// if !outcome.verdict().is_success() {
///     tracing::error!("{}: {:?}", outcome.verdict(), outcome.failure.map(|f| f.to_string()));
/// }
/// for revision in web.history().await? {
///     tracing::info!(?revision);
/// }
/// let back = web.rollback(None).await?;
/// // A killed job of another tool left the release in `pending-upgrade`; no job runs for more than an hour.
/// let freed = web.assume_dead_after(Duration::from_secs(3600)).upgrade(&image).await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct HelmRelease(pub(super) Arc<Release>);

impl HelmRelease {
    pub(crate) fn of(scope: Scope, release: String, options: Options) -> Self {
        let id = scope.target(&format!("helm/{release}"));
        HelmRelease(Arc::new(Release {
            scope,
            release,
            chart: None,
            options,
            program: "helm".into(),
            values_files: Vec::new(),
            values: Value::Object(Map::new()),
            keys: ImageKeys::default(),
            tag: None,
            assume_dead_after: None,
            time: TimeSource::system(),
            id,
        }))
    }

    fn with(self, change: impl FnOnce(&mut Release)) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.0);
        change(&mut inner);
        HelmRelease(Arc::new(inner))
    }

    /// The chart of an upgrade: a directory, an archive, or an `oci://` reference.
    pub fn chart(self, chart: impl Into<String>) -> Self {
        self.with(|inner| inner.chart = Some(chart.into()))
    }

    /// The helm program; defaults to `helm` in `PATH`.
    pub fn program(self, path: impl Into<PathBuf>) -> Self {
        self.with(|inner| inner.program = path.into())
    }

    /// A values file; overrides the chart's values and earlier values files.
    pub fn values_file(self, path: impl Into<PathBuf>) -> Self {
        self.with(|inner| inner.values_files.push(path.into()))
    }

    /// A value at a dotted key; overrides all values files. Suitable for secrets: helm gets values in a file that only
    /// this user can read, never as arguments.
    pub fn value(self, key: &str, value: impl Into<Value>) -> Self {
        self.with(|inner| put(&mut inner.values, key, value.into()))
    }

    /// Sets the chart's `buildVersion` value.
    pub fn build_version(self, version: impl Into<String>) -> Self {
        self.value("buildVersion", version.into())
    }

    /// The tag, for charts that use it next to the digest; the digest decides which image runs.
    pub fn tag(self, tag: impl Into<String>) -> Self {
        self.with(|inner| inner.tag = Some(tag.into()))
    }

    /// The values keys of the chart's image; default to keys under `image`.
    pub fn image_keys(self, keys: ImageKeys) -> Self {
        self.with(|inner| inner.keys = keys)
    }

    /// The age after which a pending revision created by another tool counts as abandoned: the longest time that your
    /// jobs can run. Defaults to never.
    pub fn assume_dead_after(self, time: Duration) -> Self {
        self.with(|inner| inner.assume_dead_after = Some(time))
    }

    fn spawn<F>(&self, work: impl FnOnce(Arc<Release>, Reporter) -> F + Send + 'static) -> HelmRun
    where
        F: Future<Output = Result<Outcome, HelmError>> + Send,
    {
        let release = Arc::clone(&self.0);
        Operation::spawn(|events| async move {
            let reporter = Reporter::new(&events, release.id.clone());
            work(release, reporter).await
        })
    }

    /// `eks/<cluster>/<namespace>/helm/<release>`.
    pub fn id(&self) -> TargetId {
        self.0.id.clone()
    }

    /// Upgrades or installs the release with `image`, and watches the rollout until it ends.
    ///
    /// A dry run comes first: a chart that ignores the digest is rejected before anything is changed. While helm waits,
    /// the workloads with the image are watched: a failure is reported with its evidence as soon as it is known, helm
    /// is stopped, and then the release is rolled back to the revision that was deployed before. A release left pending
    /// by an earlier run of bp-eks is recovered first; the Lease proves that run dead.
    ///
    /// # Errors
    /// When helm is missing or fails before it changes anything, the chart is missing or ignores the digest, or another
    /// run holds the Lease. An upgrade that fails is a verdict.
    ///
    /// # Permissions
    /// RBAC in the namespace: `get`, `create`, `update` on `leases.coordination.k8s.io`; for the chart's objects
    /// (`get`, `create`, `patch`, `update`, `delete`, `list`, `watch`); for helm's own records `get`, `list`, `create`,
    /// `update`, `delete` on `secrets`; to watch the workloads, those of
    /// [`EksTarget::deploy`](crate::EksTarget::deploy) except `patch` and `update`.
    ///
    /// # Cancel safety
    /// Dropping or cancelling the operation stops helm: it marks its revision as failed and leaves its changes applied.
    /// The same call resumes from there.
    pub fn upgrade(&self, image: &ResolvedImage) -> HelmRun {
        let image = image.clone();
        let span = info_span!(
            "helm_upgrade",
            target_id = %SingleLine(&self.0.id),
            image = %image.reference,
            verdict = Empty,
        );
        span.in_scope(|| {
            self.spawn(|release, reporter| async move { release.upgrade(&image, &reporter).await })
        })
    }

    /// Rolls the release back to `revision`, or to the previously deployed one, and waits until it runs.
    ///
    /// # Errors
    /// [`HelmError::NoPrevious`] when there is none; otherwise as [`upgrade`](Self::upgrade).
    ///
    /// # Permissions
    /// As [`upgrade`](Self::upgrade).
    ///
    /// # Cancel safety
    /// As [`upgrade`](Self::upgrade).
    pub fn rollback(&self, revision: Option<u32>) -> HelmRun {
        let span = info_span!("helm_rollback", target_id = %SingleLine(&self.0.id), verdict = Empty);
        let work =
            move |release: Arc<Release>, reporter| async move { release.rollback(revision, &reporter).await };
        span.in_scope(|| self.spawn(work))
    }

    /// The revisions of the release, the latest last; empty when it was never installed.
    ///
    /// # Errors
    /// When helm is missing or cannot read its records.
    ///
    /// # Permissions
    /// RBAC: `get`, `list` on `secrets`.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn history(&self) -> Result<Vec<HelmRevision>, HelmError> {
        self.0.read_history().await
    }
}

impl Target for HelmRelease {
    fn id(&self) -> TargetId {
        HelmRelease::id(self)
    }

    fn current(&self) -> BoxFuture<'_, Result<Current, TargetError>> {
        Box::pin(async { self.0.current().await.map_err(TargetError::new) })
    }

    fn previous(&self) -> BoxFuture<'_, Result<Revision, TargetError>> {
        Box::pin(async { self.0.previous().await.map_err(TargetError::new) })
    }

    fn deploy(&self, image: &ResolvedImage) -> Operation<DeployEvent, Result<Outcome, TargetError>> {
        self.upgrade(image).map_err(TargetError::new)
    }

    /// Rolls back to the revision whose number is `revision.id`.
    fn restore(&self, revision: &Revision) -> Operation<DeployEvent, Result<Outcome, TargetError>> {
        self.rollback(revision.id.parse().ok()).map_err(TargetError::new)
    }

    fn prove(&self) -> BoxFuture<'_, Result<Proof, TargetError>> {
        Box::pin(async { self.0.prove().await.map_err(TargetError::new) })
    }
}
