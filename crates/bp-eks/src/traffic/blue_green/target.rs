//! Blue/green on one Service, as a place to deploy to.

use std::{sync::Arc, time::Duration};

use bp_artifact::{
    Operation, Outcome, ResolvedImage,
    deploy::{Current, DeployEvent, Proof, Reporter, Revision, Target, TargetError, TargetId},
};
use futures_core::future::BoxFuture;

use super::{SlotSwitch, slots::Slots, state::Traffic};
use crate::{
    api::scope::Scope,
    options::Options,
    traffic::{api::Switch, error::TrafficError},
};

/// A Service whose traffic goes to one of two Deployments. Cheap to clone.
///
/// `stage` brings the new image up in the idle slot, beside the live one and without any of its traffic; a test Service
/// lets you try it. `switch` moves all traffic in one patch, `switch_back` moves it back as quickly, and `clean_up`
/// ends what is idle. `deploy` stages and switches in one go, as a [`Target`] among others.
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
///     // http://web-test.shop.svc answers from the new pods: try them.
///     let switched = shop.switch(&image).await?;
///     tracing::info!("{}: {}", switched.verdict(), switched.detail);
/// }
/// // Later: who has the traffic, all of it back at one stroke, or no pods for who has none.
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

    /// The Service that leads to what is staged; `<service>-test` if not said, and none for `None`.
    pub fn test_service(self, name: Option<String>) -> Self {
        self.with(|inner| inner.test_service = name)
    }

    /// Watches the new pods for so long after the traffic has arrived, and switches back when they fail. Not at all if
    /// not said.
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

    /// Who is live, and what each slot has.
    ///
    /// # Errors
    /// When Service or Deployments cannot be read, or the Service selects neither slot.
    ///
    /// # Permissions
    /// RBAC: `get` on `services` and `deployments.apps`.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn traffic(&self) -> Result<Traffic, TrafficError> {
        Ok(self.0.survey().await?.traffic)
    }

    /// Brings `image` up in the idle slot with as many replicas as the live one has, watches it to its end and leads the
    /// test Service there. The live slot is not touched.
    ///
    /// A Deployment that is missing is made after the live one. Running it again takes up what an earlier run began.
    /// The verdict is `Deployed` when every new pod is seen to run the image, and `RolledBack` when they do not come up:
    /// the live slot has had the traffic all the time, and what failed is left to be looked at.
    ///
    /// # Errors
    /// When a load balancer stands before the Service ([`TrafficError::BehindLoadBalancer`]), the input is wrong, or the
    /// cluster refuses.
    ///
    /// # Permissions
    /// RBAC: those of [`EksTarget::deploy`](crate::EksTarget::deploy); `get`, `patch` on `services`; `list` on `ingresses.networking.k8s.io` and
    /// `targetgroupbindings.elbv2.k8s.aws` and `.eks.amazonaws.com`; `create` on `deployments.apps`; `patch` on
    /// `deployments.apps/scale`; in the cluster `list` on `ingressclasses.networking.k8s.io`, without which classes are
    /// judged by their names.
    ///
    /// # Cancel safety
    /// Dropping or cancelling the operation stops watching; the roll-out of the idle slot goes on.
    pub fn stage(&self, image: &ResolvedImage) -> Switch {
        let image = image.clone();
        self.spawn(|switch, reporter| async move { switch.stage(&image, &reporter).await })
    }

    /// Moves all traffic to the slot that was staged with `image`: one patch of the selector, with the version of the
    /// Service that was read as its precondition. Then watches the endpoints follow, and the pods for as long as
    /// [`bake`](Self::bake) says; when they fail, the traffic goes back and the verdict is `RolledBack`.
    ///
    /// Running it again when the slot is live already changes nothing.
    ///
    /// # Errors
    /// When a load balancer stands before the Service, no slot has the image, its pods are not all available or are not
    /// seen to run it, or somebody else owns the selector.
    ///
    /// # Permissions
    /// RBAC: `get`, `list`, `watch`, `patch` on `services`; `list`, `watch` on `endpointslices.discovery.k8s.io` and
    /// `pods`; `get`, `list`, `watch` on `deployments.apps`; `list`, `watch` on `replicasets.apps` and `events`; `get` on
    /// `pods/log`; and to see load balancers those of [`stage`](Self::stage).
    ///
    /// # Cancel safety
    /// Dropping or cancelling the operation before the patch changes nothing, and after it only stops watching.
    pub fn switch(&self, image: &ResolvedImage) -> Switch {
        let image = image.clone();
        self.spawn(|switch, reporter| async move { switch.switch(&image, &reporter).await })
    }

    /// Moves the traffic back to the slot that it was switched from. Needs no more than one ready pod there, and asks no
    /// load balancer: this is for emergencies.
    ///
    /// Running it again changes nothing: that it was switched back is noted on the Service.
    ///
    /// # Errors
    /// [`TrafficError::NothingToSwitchBack`] when it was not switched, or was cleaned up.
    ///
    /// # Permissions
    /// As [`switch`](Self::switch).
    ///
    /// # Cancel safety
    /// As [`switch`](Self::switch).
    pub fn switch_back(&self) -> Switch {
        self.spawn(|switch, reporter| async move { switch.switch_back(&reporter).await })
    }

    /// Stages and switches. What fails on the way leaves the traffic where it was, or puts it back there.
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
        self.spawn(|switch, reporter| async move { switch.deploy(&image, &reporter).await })
    }

    /// Ends what is idle: forgets the way back, scales the idle Deployment to nothing and removes the test Service that
    /// was made by us. Returns what is there then.
    ///
    /// The way back is forgotten first, in a patch that fails if somebody switches at the same moment: what is scaled
    /// down is never what has the traffic.
    ///
    /// # Errors
    /// When the cluster refuses, or somebody else switches at the same time.
    ///
    /// # Permissions
    /// RBAC: `get`, `patch`, `delete` on `services`; `get` on `deployments.apps`; `patch` on `deployments.apps/scale`.
    ///
    /// # Cancel safety
    /// Every step can be run again.
    pub async fn clean_up(&self) -> Result<Traffic, TrafficError> {
        self.0.clean_up().await
    }

    /// The digests that the pods behind the live Service report.
    ///
    /// # Errors
    /// When Service, Deployment or pods cannot be read.
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

    fn deploy(&self, image: &ResolvedImage) -> Operation<DeployEvent, Result<Outcome, TargetError>> {
        BlueGreen::deploy(self, image).map_err(TargetError::new)
    }

    /// Gives the traffic back to the slot that `revision` names, as it was: at once when its pods are still there.
    fn restore(&self, revision: &Revision) -> Operation<DeployEvent, Result<Outcome, TargetError>> {
        let revision = revision.clone();
        let work = self.spawn(|switch, reporter| async move { switch.restore(&revision, &reporter).await });
        work.map_err(TargetError::new)
    }

    fn prove(&self) -> BoxFuture<'_, Result<Proof, TargetError>> {
        Box::pin(async { BlueGreen::prove(self).await.map_err(TargetError::new) })
    }
}
