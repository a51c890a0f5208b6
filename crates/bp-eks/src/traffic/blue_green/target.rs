//! Blue/green deployment target: one Service and its two Deployments.

use std::{sync::Arc, time::Duration};

use bp_artifact::{
    Operation, Outcome, ResolvedImage,
    deploy::{Current, DeployEvent, Proof, Reporter, Revision, Target, TargetError, TargetId},
    text::SingleLine,
};
use futures_core::future::BoxFuture;
use tracing::{field::Empty, info_span};

use super::{SlotSwitch, slots::Slots, state::Traffic};
use crate::{
    api::scope::Scope,
    options::Options,
    traffic::{api::Switch, error::TrafficError},
};

/// Blue/green deployment of a Service whose selector selects one of two Deployments. Cheap to clone.
///
/// `stage` rolls the new image out in the idle slot, without traffic; a test Service selects it. `switch` moves all
/// traffic in one patch, `switch_back` returns it in one patch, and `clean_up` scales the idle slot to zero. `deploy`
/// stages and switches, as for every [`Target`].
///
/// ```no_run
/// # async fn run(client: kube::Client, image: bp_artifact::ResolvedImage) -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use bp_eks::{Cluster, Options, traffic::Slots};
///
/// let options = Options::new(Duration::from_secs(600))?;
/// let shop = Cluster::new(client, "prod").namespace("shop").blue_green("web", Slots::of_service("web"), options);
/// let staged = shop.stage(&image).await?;
/// if staged.verdict().is_success() {
///     // Test the new pods at http://web-test.shop.svc, then switch.
///     let switched = shop.switch(&image).await?;
///     tracing::info!("{}: {}", switched.verdict(), switched.detail);
/// }
/// // Later: read the state, switch back, or scale the idle slot to zero.
/// let traffic = shop.traffic().await?;
/// let back = shop.switch_back().await?;
/// let cleaned = shop.clean_up().await?;
/// let verdict = shop.prove().await?.judge(&image);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct BlueGreen(pub(super) Arc<SlotSwitch>);

impl BlueGreen {
    pub(crate) fn of(namespace: Scope, service: String, slots: Slots, options: Options) -> Self {
        let id = namespace.target(&format!("service/{service}"));
        let test_service = Some(format!("{service}-test"));
        let (container, bake) = (None, Duration::ZERO);
        BlueGreen(Arc::new(SlotSwitch {
            namespace,
            id,
            service,
            slots,
            container,
            test_service,
            bake,
            options,
        }))
    }

    fn with(self, change: impl FnOnce(&mut SlotSwitch)) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.0);
        change(&mut inner);
        BlueGreen(Arc::new(inner))
    }

    /// The container that gets the image; defaults to the only one.
    pub fn container(self, name: impl Into<String>) -> Self {
        self.with(|inner| inner.container = Some(name.into()))
    }

    /// The test Service that selects the staged slot; defaults to `<service>-test`. `None`: no test Service.
    pub fn test_service(self, name: Option<String>) -> Self {
        self.with(|inner| inner.test_service = name)
    }

    /// How long to watch the new pods after the switch; switches back when they fail. Defaults to zero.
    pub fn bake(self, time: Duration) -> Self {
        self.with(|inner| inner.bake = time)
    }

    fn spawn<F>(&self, work: impl FnOnce(Arc<SlotSwitch>, Reporter) -> F + Send + 'static) -> Switch
    where
        F: Future<Output = Result<Outcome, TrafficError>> + Send,
    {
        let switch = Arc::clone(&self.0);
        Operation::spawn(|events| async move {
            let reporter = Reporter::new(&events, switch.id.clone());
            work(switch, reporter).await
        })
    }

    /// `eks/<cluster>/<namespace>/service/<name>`.
    pub fn id(&self) -> TargetId {
        self.0.id.clone()
    }

    /// Reads which slot is live and the state of both slots.
    ///
    /// # Errors
    /// When the Service or a Deployment cannot be read, or the Service selects neither slot.
    ///
    /// # Permissions
    /// RBAC: `get` on `services` and `deployments.apps`.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn traffic(&self) -> Result<Traffic, TrafficError> {
        Ok(self.0.survey().await?.traffic)
    }

    /// Rolls `image` out in the idle slot with the replicas of the live one, watches the rollout and points the test
    /// Service to it. The live slot is not changed.
    ///
    /// A missing Deployment is created as a copy of the live one. A rerun resumes an interrupted run. The verdict is
    /// `Deployed` when every new pod is verified to run the image, and `RolledBack` when the new pods do not become
    /// ready: the live slot kept the traffic, and the failed pods are left in place for inspection.
    ///
    /// # Errors
    /// When a load balancer registers the Service's pods ([`TrafficError::BehindLoadBalancer`]), the input is invalid,
    /// or the API server refuses a request.
    ///
    /// # Permissions
    /// RBAC: those of [`EksTarget::deploy`](crate::EksTarget::deploy); `get`, `patch` on `services`; `list` on
    /// `ingresses.networking.k8s.io`, `targetgroupbindings.elbv2.k8s.aws` and `targetgroupbindings.eks.amazonaws.com`;
    /// `create` on `deployments.apps`; `patch` on `deployments.apps/scale`; optional, cluster-wide: `list` on
    /// `ingressclasses.networking.k8s.io`, without which the class name decides.
    ///
    /// # Cancel safety
    /// Dropping or cancelling the operation stops watching; the rollout of the idle slot continues.
    pub fn stage(&self, image: &ResolvedImage) -> Switch {
        let image = image.clone();
        let span = info_span!(
            "blue_green_stage",
            target_id = %SingleLine(&self.0.id),
            image = %image.reference,
            verdict = Empty,
        );
        span.in_scope(|| self.spawn(|switch, reporter| async move { switch.stage(&image, &reporter).await }))
    }

    /// Moves all traffic to the slot that was staged with `image`: one patch of the selector, with the resource version
    /// that was read as its precondition. Then watches the endpoints, and the pods for the [`bake`](Self::bake) time;
    /// when the pods fail, restores the previous selector and the verdict is `RolledBack`.
    ///
    /// Idempotent: when the slot is live already, nothing changes.
    ///
    /// # Errors
    /// When a load balancer registers the Service's pods, no slot has the image, its pods are not all available or not
    /// verified to run it, or another field manager owns the selector.
    ///
    /// # Permissions
    /// RBAC: `get`, `list`, `watch`, `patch` on `services`; `list`, `watch` on `endpointslices.discovery.k8s.io` and
    /// `pods`; `get`, `list`, `watch` on `deployments.apps`; `list`, `watch` on `replicasets.apps` and `events`; `get`
    /// on `pods/log`; and those of [`stage`](Self::stage) to detect load balancers.
    ///
    /// # Cancel safety
    /// Dropping or cancelling the operation before the patch changes nothing; after the patch it only stops watching.
    pub fn switch(&self, image: &ResolvedImage) -> Switch {
        let image = image.clone();
        let span = info_span!(
            "blue_green_switch",
            target_id = %SingleLine(&self.0.id),
            image = %image.reference,
            verdict = Empty,
        );
        span.in_scope(|| self.spawn(|switch, reporter| async move { switch.switch(&image, &reporter).await }))
    }

    /// Moves the traffic back to the slot that it was switched from. For emergencies: requires only one ready pod there
    /// and skips the load balancer check.
    ///
    /// Idempotent: an annotation on the Service records that it was switched back.
    ///
    /// # Errors
    /// [`TrafficError::NothingToSwitchBack`] when the Service was not switched, or was cleaned up since.
    ///
    /// # Permissions
    /// As [`switch`](Self::switch).
    ///
    /// # Cancel safety
    /// As [`switch`](Self::switch).
    pub fn switch_back(&self) -> Switch {
        let span = info_span!("blue_green_switch_back", target_id = %SingleLine(&self.0.id), verdict = Empty);
        span.in_scope(|| self.spawn(|switch, reporter| async move { switch.switch_back(&reporter).await }))
    }

    /// Stages and switches. On failure the previous slot keeps the traffic or gets it back.
    ///
    /// # Errors
    /// As [`stage`](Self::stage) and [`switch`](Self::switch).
    ///
    /// # Permissions
    /// As [`stage`](Self::stage) and [`switch`](Self::switch).
    ///
    /// # Cancel safety
    /// As [`stage`](Self::stage) and [`switch`](Self::switch).
    pub fn deploy(&self, image: &ResolvedImage) -> Switch {
        let image = image.clone();
        let span = info_span!(
            "blue_green_deploy",
            target_id = %SingleLine(&self.0.id),
            image = %image.reference,
            verdict = Empty,
        );
        span.in_scope(|| self.spawn(|switch, reporter| async move { switch.deploy(&image, &reporter).await }))
    }

    /// Cleans up the idle slot: removes the annotation for switching back, scales the idle Deployment to zero and
    /// deletes the test Service that bp-eks created. Returns the new state.
    ///
    /// Removes the annotation first, in a patch that fails on a concurrent switch: the live slot is never scaled down.
    ///
    /// # Errors
    /// When the API server refuses a request, or the Service is switched concurrently.
    ///
    /// # Permissions
    /// RBAC: `get`, `patch`, `delete` on `services`; `get` on `deployments.apps`; `patch` on `deployments.apps/scale`.
    ///
    /// # Cancel safety
    /// Every step is idempotent: rerun to complete.
    #[tracing::instrument(name = "blue_green_clean_up", skip_all, fields(target_id = %SingleLine(&self.0.id)))]
    pub async fn clean_up(&self) -> Result<Traffic, TrafficError> {
        self.0.clean_up().await
    }

    /// The digests that the pods behind the live Service report.
    ///
    /// # Errors
    /// When the Service, the Deployment or the pods cannot be read.
    ///
    /// # Permissions
    /// RBAC: `get` on `services` and `deployments.apps`; `list` on `replicasets.apps` and `pods`.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn prove(&self) -> Result<Proof, TrafficError> {
        let live = self.0.survey().await?.traffic.live.slot;
        Ok(self.0.target(&live, self.0.options.clone()).prove().await?)
    }
}

impl Target for BlueGreen {
    fn id(&self) -> TargetId {
        BlueGreen::id(self)
    }

    fn current(&self) -> BoxFuture<'_, Result<Current, TargetError>> {
        Box::pin(async {
            let traffic = self.traffic().await.map_err(TargetError::new)?;
            Ok(Current::new(traffic.live.revision(), None))
        })
    }

    /// The slot that the traffic was switched from.
    fn previous(&self) -> BoxFuture<'_, Result<Revision, TargetError>> {
        Box::pin(async {
            let traffic = self.traffic().await.map_err(TargetError::new)?;
            match traffic.switched_from {
                Some(_) => Ok(traffic.idle.revision()),
                None => Err(TargetError::new(TrafficError::NothingToSwitchBack { object: self.0.object() })),
            }
        })
    }

    fn deploy(&self, image: &ResolvedImage) -> Operation<DeployEvent, Result<Outcome, TargetError>> {
        BlueGreen::deploy(self, image).map_err(TargetError::new)
    }

    /// Moves the traffic back to the slot of `revision`: immediately when its pods run, otherwise after a rollout.
    fn restore(&self, revision: &Revision) -> Operation<DeployEvent, Result<Outcome, TargetError>> {
        let revision = revision.clone();
        let span = info_span!("blue_green_restore", target_id = %SingleLine(&self.0.id), verdict = Empty);
        span.in_scope(|| {
            let work =
                self.spawn(|switch, reporter| async move { switch.restore(&revision, &reporter).await });
            work.map_err(TargetError::new)
        })
    }

    fn prove(&self) -> BoxFuture<'_, Result<Proof, TargetError>> {
        Box::pin(async { BlueGreen::prove(self).await.map_err(TargetError::new) })
    }
}
