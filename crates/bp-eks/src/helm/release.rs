//! Helm release deployment target: upgrade, roll back, read the history.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bp_artifact::{
    Operation, Outcome, Registry, ResolvedImage,
    deploy::{
        Current, DeployEvent, Drift, OnFailure, Proof, Reporter, Revision, Target, TargetError, TargetId,
        status::Status,
    },
    text::SingleLine,
    time::TimeSource,
};
use futures_core::future::BoxFuture;
use serde_json::Value;
use tracing::{field::Empty, info_span};

use super::{
    chart::{Chart, ImageKeys, Variables, VariablesForm, put},
    context::{HelmRevision, Release},
    error::HelmError,
    flags::HelmFlags,
    login::{ChartLogin, LoginError},
};
use crate::{api::scope::Scope, options::Options, pull_secret::RegistryToken};

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
            chart: Chart::default(),
            options,
            program: "helm".into(),
            images: Vec::new(),
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

    fn with_chart(self, change: impl FnOnce(&mut Chart)) -> Self {
        self.with(|inner| change(&mut inner.chart))
    }

    /// The chart of an upgrade: a directory, an archive, an `oci://` reference, or a name in the
    /// [repository](Self::chart_repository).
    pub fn chart(self, chart: impl Into<String>) -> Self {
        self.with_chart(|own| own.name = Some(chart.into()))
    }

    /// The version of the chart, or a range as `^1.2.0`. Defaults to the latest one, which may differ between two runs.
    pub fn chart_version(self, version: impl Into<String>) -> Self {
        self.with_chart(|own| own.version = Some(version.into()))
    }

    /// The URL of the repository that has the chart.
    pub fn chart_repository(self, url: impl Into<String>) -> Self {
        self.with_chart(|own| own.repository = Some(url.into()))
    }

    /// Creates the login to the registry of an `oci://` chart: from ECR's `GetAuthorizationToken`, or `None` for
    /// registries of other providers, for which helm uses the user's own logins. The login is for this registry only:
    /// it is written to a file that only this user can read, and that is deleted afterwards.
    pub fn chart_login<F, A>(self, login: F) -> Self
    where
        F: Fn(Registry) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Option<RegistryToken>, LoginError>> + Send + 'static,
    {
        self.with_chart(|own| {
            own.login = Some(ChartLogin(Arc::new(move |registry| Box::pin(login(registry)))))
        })
    }

    /// Whether an upgrade creates the namespace, without labels, if it does not exist. Requires the verb `create` on
    /// `namespaces`.
    pub fn create_namespace(self, yes: bool) -> Self {
        self.with_chart(|own| own.create_namespace = yes)
    }

    /// Lets helm only apply the objects and run its hooks; the workloads are watched afterwards, and the event `Applied`
    /// comes when helm has ended. A caller that cancels the operation then leaves a complete revision, which
    /// [`watch`](Self::watch) follows. Helm records such a revision as deployed, also if its pods fail later. Defaults to
    /// off: helm waits too.
    pub fn applies_only(self, yes: bool) -> Self {
        self.with_chart(|own| own.applies_only = yes)
    }

    /// Values in the syntax of `helm --set`: `replicas=3,ingress.hosts={a,b}`. Helm infers the types. They override all
    /// values files and [values](Self::value), except the image's, and are arguments of helm: not suitable for secrets.
    pub fn set(self, values: impl Into<String>) -> Self {
        self.with_chart(|own| own.set.push(("set", values.into())))
    }

    /// As [`set`](Self::set), as `helm --set-string`: every value is a string.
    pub fn set_string(self, values: impl Into<String>) -> Self {
        self.with_chart(|own| own.set.push(("set-string", values.into())))
    }

    /// As [`set`](Self::set), as `helm --set-file`: each value is the content of a file, `key=path`. Suitable for
    /// secrets.
    pub fn set_file(self, values: impl Into<String>) -> Self {
        self.with_chart(|own| own.set.push(("set-file", values.into())))
    }

    /// As [`set`](Self::set), as `helm --set-json`: each value is JSON, `key={"a":1}`.
    pub fn set_json(self, values: impl Into<String>) -> Self {
        self.with_chart(|own| own.set.push(("set-json", values.into())))
    }

    /// Further flags of `helm upgrade`, in addition to earlier ones.
    pub fn flags(self, flags: HelmFlags) -> Self {
        self.with_chart(|own| own.flags.extend(flags))
    }

    /// Whether the release has a [chart](Self::chart), which an upgrade requires.
    pub fn has_chart(&self) -> bool {
        self.0.chart.name.is_some()
    }

    /// Environment variables of the container, and the key of the chart's values that gets them. A chart whose
    /// containers would run without them is rejected before anything is changed.
    pub fn variables<N: Into<String>, V: Into<String>>(
        self,
        key: impl Into<String>,
        form: VariablesForm,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        let key = key.into();
        self.with_chart(|own| own.variables = Some(Variables { key, form, variables }))
    }

    /// The helm program; defaults to `helm` in `PATH`.
    pub fn program(self, path: impl Into<PathBuf>) -> Self {
        self.with(|inner| inner.program = path.into())
    }

    /// A values file; overrides the chart's values and earlier values files.
    pub fn values_file(self, path: impl Into<PathBuf>) -> Self {
        self.with_chart(|own| own.files.push(path.into()))
    }

    /// A value at a dotted key; overrides all values files, but not [`set`](Self::set). Suitable for secrets: helm gets values in a file that only
    /// this user can read, never as arguments.
    pub fn value(self, key: &str, value: impl Into<Value>) -> Self {
        self.with_chart(|own| put(&mut own.values.0, key, value.into()))
    }

    /// Sets the chart's `buildVersion` value.
    pub fn build_version(self, version: impl Into<String>) -> Self {
        self.value("buildVersion", version.into())
    }

    /// The tag, for charts that use it next to the digest; the digest decides which image runs.
    pub fn tag(self, tag: impl Into<String>) -> Self {
        self.with_chart(|own| own.tag = Some(tag.into()))
    }

    /// The values keys of the chart's image; default to keys under `image`.
    pub fn image_keys(self, keys: ImageKeys) -> Self {
        self.with_chart(|own| own.keys = keys)
    }

    /// Adds the platforms of an image, against which [`watch`](Self::watch) and [`resume`](Self::resume) verify the
    /// digests of pods: the manifest contains only the digest of the image itself.
    pub fn known_image(self, image: ResolvedImage) -> Self {
        self.with(|inner| inner.images.push(image))
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
    /// A dry run comes first: a chart that ignores the digest is rejected before anything is changed, as are fields of
    /// other field managers, if helm uses server-side apply ([`Options::take_over`] takes them). While helm waits, its
    /// hooks and the workloads with the image are watched, each in its own namespace: a failure is reported with its
    /// evidence as soon as it is known, helm is stopped, and then the release is rolled back to the revision that was
    /// deployed before. A release left pending by an earlier run of bp-eks is recovered first; the Lease proves that run
    /// dead.
    ///
    /// An unchanged manifest creates no revision, unless a workload was deleted or its image was changed outside of
    /// helm.
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

    /// Follows the operation in progress on the release to its end, or verifies the running digests if there is none.
    /// Changes nothing: a release that fails is left in place.
    ///
    /// # Errors
    /// When helm is missing, the release does not exist, or it cannot be read.
    ///
    /// # Permissions
    /// RBAC: `get`, `list` on `secrets`; to watch the workloads, those of [`EksTarget::watch`](crate::EksTarget::watch).
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub fn watch(&self) -> HelmRun {
        self.watch_to(OnFailure::Leave)
    }

    /// As [`watch`](Self::watch), and rolls back a release that fails, as [`upgrade`](Self::upgrade) does.
    ///
    /// # Errors
    /// As [`watch`](Self::watch).
    ///
    /// # Permissions
    /// As [`upgrade`](Self::upgrade).
    ///
    /// # Cancel safety
    /// As [`upgrade`](Self::upgrade).
    pub fn resume(&self) -> HelmRun {
        self.watch_to(OnFailure::RollBack)
    }

    fn watch_to(&self, on_failure: OnFailure) -> HelmRun {
        let span = info_span!("helm_watch", target_id = %SingleLine(&self.0.id), verdict = Empty);
        let work = move |release: Arc<Release>, reporter| async move {
            release.watch_release(on_failure, &reporter).await
        };
        span.in_scope(|| self.spawn(work))
    }

    /// Returns the state of the release, what its workloads run, and their last failures and warnings.
    ///
    /// # Errors
    /// When helm is missing, the release does not exist, or its records cannot be read. Workloads that cannot be read
    /// are notes.
    ///
    /// # Permissions
    /// RBAC: `get`, `list` on `secrets`; those of [`EksTarget::status`](crate::EksTarget::status).
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    #[tracing::instrument(name = "helm_status", skip_all, fields(target_id = %SingleLine(&self.0.id)))]
    pub async fn status(&self) -> Result<Status, HelmError> {
        self.0.status().await
    }

    /// Compares the release with `image`: the state of the release, its workloads and their digests, and what was
    /// changed outside of helm.
    ///
    /// # Errors
    /// As [`status`](Self::status); also when a workload cannot be read.
    ///
    /// # Permissions
    /// As [`status`](Self::status).
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    #[tracing::instrument(
        name = "helm_verify",
        skip_all,
        fields(target_id = %SingleLine(&self.0.id), image = %image.reference)
    )]
    pub async fn drift(&self, image: &ResolvedImage) -> Result<Drift, HelmError> {
        self.0.drift(image).await
    }

    /// The deployed revision, and a later one that is in progress or has failed.
    ///
    /// # Errors
    /// [`HelmError::NotFound`] when the release does not exist, [`HelmError::NoPrevious`] when no revision is deployed.
    ///
    /// # Permissions
    /// RBAC: `get`, `list` on `secrets`.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn current(&self) -> Result<Current, HelmError> {
        self.0.current().await
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

    fn drift<'a>(&'a self, image: &'a ResolvedImage) -> BoxFuture<'a, Result<Drift, TargetError>> {
        Box::pin(async { HelmRelease::drift(self, image).await.map_err(TargetError::new) })
    }
}
