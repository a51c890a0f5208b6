//! Shift target: two permanent Services, and the Ingress or HTTPRoute with their weights.

use std::{sync::Arc, time::Duration};

use bp_artifact::{
    Operation, Outcome, ResolvedImage,
    check::Check,
    config::{TrafficObject, TrafficSteps},
    deploy::{Current, DeployEvent, Proof, Reporter, Revision, Target, TargetError, TargetId},
    text::SingleLine,
    time::Wait,
};
use futures_core::future::BoxFuture;
use serde::Serialize;
use tracing::{field::Empty, info_span};

use super::{
    StepCheck, WeightedPair,
    ramp::{Ramp, RampState},
    share,
    split::Split,
    survey::most,
};
use crate::{
    api::scope::Scope,
    options::Options,
    rollout::proof,
    traffic::{api::Switch, error::TrafficError, ready::ReadyPods},
};

/// Shifts the traffic of an Ingress or an HTTPRoute in steps between two permanent Services, by their weights. Cheap to
/// clone.
///
/// The weights of an Ingress are in an annotation `alb.ingress.kubernetes.io/actions.<name>` of the AWS Load Balancer
/// Controller, those of an HTTPRoute in the `backendRefs` of its rules. Each Service has its own Deployment; deploy to
/// the idle one with [`EksTarget`](crate::EksTarget), then shift the traffic to it.
///
/// ```no_run
/// # async fn run(client: kube::Client, image: bp_artifact::ResolvedImage) -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use bp_artifact::config::TrafficObject;
/// use bp_eks::{Cluster, Options};
///
/// let options = Options::new(Duration::from_secs(300))?;
/// let route = TrafficObject::HttpRoute("shop".into());
/// let shop = Cluster::new(client, "prod").namespace("shop");
/// let traffic = shop.weights(route, ["web-blue", "web-green"], options)?;
/// let traffic = traffic.steps("10, 50, 100".parse()?).bake(Duration::from_secs(300));
/// let shifted = traffic.shift(Some("web-green"), Some(&image)).await?;
/// let returned = traffic.return_traffic().await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct WeightedTraffic(Arc<WeightedPair>);

/// The shares of the traffic that two Services have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct TrafficShares {
    /// The object with the weights: `httproute/shop`.
    pub object: String,
    /// The two Services.
    pub services: Vec<ServiceShare>,
    /// The Service that receives the traffic of the last shift, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shifting_to: Option<String>,
    /// The step of that shift in percent, while it is in progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<u8>,
}

/// The share of one Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ServiceShare {
    /// The Service.
    pub service: String,
    /// Its share of the pair's traffic in percent, rounded; in the first action or rule.
    pub percent: u32,
    /// Its weight in each action or rule.
    pub weights: Vec<u32>,
}

impl WeightedTraffic {
    /// # Errors
    /// When both Services are the same.
    pub(crate) fn of(
        namespace: Scope,
        object: TrafficObject,
        mut services: [String; 2],
        options: Options,
    ) -> Result<Self, TrafficError> {
        services.sort();
        if services[0] == services[1] {
            return Err(TrafficError::InvalidSlots(format!("both Services are {}", services[0])));
        }
        let id = namespace.target(&object.to_string());
        Ok(WeightedTraffic(Arc::new(WeightedPair {
            namespace,
            id,
            object,
            action: None,
            services,
            steps: TrafficSteps::default(),
            bake: Duration::ZERO,
            checks: Vec::new(),
            container: None,
            options,
            #[cfg(feature = "elbv2")]
            balancers: None,
        })))
    }

    fn with(self, change: impl FnOnce(&mut WeightedPair)) -> Self {
        let mut pair = Arc::unwrap_or_clone(self.0);
        change(&mut pair);
        WeightedTraffic(Arc::new(pair))
    }

    /// The action of an Ingress, the `<name>` of its annotation; defaults to all actions that forward to both Services.
    /// Without effect for an HTTPRoute, of which all such rules are changed.
    pub fn action(self, name: impl Into<String>) -> Self {
        self.with(|pair| pair.action = Some(name.into()))
    }

    /// The steps; defaults to 5, 25, 50 and 100 percent.
    pub fn steps(self, steps: TrafficSteps) -> Self {
        self.with(|pair| pair.steps = steps)
    }

    /// How long the pods are watched after each step, once it is in effect; defaults to zero.
    pub fn bake(self, time: Duration) -> Self {
        self.with(|pair| pair.bake = time)
    }

    /// A check that runs after each step and its bake time: `wait` is its deadline and interval. If it fails, the weights
    /// before the shift are restored; if it cannot be observed, the shift ends and a rerun continues.
    pub fn check(self, check: Arc<dyn Check>, wait: Wait) -> Self {
        self.with(|pair| pair.checks.push(StepCheck { check, wait }))
    }

    /// The container whose digest is verified; defaults to the first one.
    pub fn container(self, name: impl Into<String>) -> Self {
        self.with(|pair| pair.container = Some(name.into()))
    }

    /// Reads the health of the Services' targets from Elastic Load Balancing, by their TargetGroupBindings: a step is
    /// taken only when those of the new Service are healthy.
    #[cfg(feature = "elbv2")]
    pub fn target_health(self, client: aws_sdk_elasticloadbalancingv2::Client) -> Self {
        self.with(|pair| pair.balancers = Some(client))
    }

    fn spawn<F>(&self, work: impl FnOnce(Arc<WeightedPair>, Reporter) -> F + Send + 'static) -> Switch
    where
        F: Future<Output = Result<Outcome, TrafficError>> + Send,
    {
        let pair = Arc::clone(&self.0);
        Operation::spawn(|events| async move {
            let reporter = Reporter::new(&events, pair.id.clone());
            work(pair, reporter).await
        })
    }

    /// `eks/<cluster>/<namespace>/ingress/<name>`, or with `httproute`.
    pub fn id(&self) -> TargetId {
        self.0.id.clone()
    }

    /// Shifts the traffic step by step to the Service `to`; without one, to the Service whose pods run `image`. With
    /// `image`, its pods must be verified to run it; otherwise their pinned digest is verified.
    ///
    /// Each step sets the weights, with the resource version that was read as a precondition; waits until the controller
    /// reports them in effect; watches the pods for the [`bake`](Self::bake) time; and runs the [checks](Self::check).
    /// The deadline of the options applies to each step's waiting. On failure the weights before the shift are
    /// restored at once. A rerun continues at the recorded step.
    ///
    /// A controller that reports nothing, and a check that cannot be observed, are neither success nor failure: the
    /// shift ends there, the weights stay, and a rerun continues.
    ///
    /// # Errors
    /// When the object does not forward to both Services, no controller reads its weights, the Service cannot serve the
    /// first step, its pods run another image, another field manager owns the weights ([`Options::take_over`]), or
    /// another client changed them since an interrupted shift.
    ///
    /// # Permissions
    /// RBAC: `get`, `list`, `watch`, `patch` on `ingresses.networking.k8s.io` or
    /// `httproutes.gateway.networking.k8s.io`; `get` on `services`; `list`, `watch` on `pods`; for an Ingress also
    /// `list`, `watch` on `events` and, cluster-wide, `list` on `ingressclasses.networking.k8s.io`. With the client of
    /// `target_health`: `list` on `targetgroupbindings.elbv2.k8s.aws` and `targetgroupbindings.eks.amazonaws.com`, and
    /// the IAM action `elasticloadbalancing:DescribeTargetHealth`.
    ///
    /// # Cancel safety
    /// Cancelling or dropping the operation leaves the weights of the current step: rerun to continue, or call
    /// [`return_traffic`](Self::return_traffic).
    pub fn shift(&self, to: Option<&str>, image: Option<&ResolvedImage>) -> Switch {
        let (to, image) = (to.map(str::to_owned), image.cloned());
        let span = info_span!(
            "shift_traffic",
            target_id = %SingleLine(&self.0.id),
            to = %SingleLine(to.as_deref().unwrap_or_default()),
            verdict = Empty,
        );
        span.in_scope(|| {
            self.spawn(|pair, reporter| async move {
                pair.shift(to.as_deref(), image, &pair.steps, pair.bake, &reporter).await
            })
        })
    }

    /// Restores the weights before the last shift, in one request. For emergencies: requires only one ready pod there.
    ///
    /// Idempotent: the record of the shift shows that they were restored.
    ///
    /// # Errors
    /// [`TrafficError::NothingToSwitchBack`] when there was no shift, or the weights were changed since they were
    /// restored.
    ///
    /// # Permissions
    /// As [`shift`](Self::shift).
    ///
    /// # Cancel safety
    /// Cancelling before the request changes nothing; it is atomic.
    pub fn return_traffic(&self) -> Switch {
        let span = info_span!("return_traffic", target_id = %SingleLine(&self.0.id), verdict = Empty);
        span.in_scope(|| self.spawn(|pair, reporter| async move { pair.return_traffic(&reporter).await }))
    }

    async fn split(&self) -> Result<Split, TrafficError> {
        self.0.split(self.0.read().await?)
    }

    /// Reads the shares of the two Services.
    ///
    /// # Errors
    /// When the object cannot be read, or does not forward to both Services.
    ///
    /// # Permissions
    /// RBAC: `get` on `ingresses.networking.k8s.io` or `httproutes.gateway.networking.k8s.io`.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn shares(&self) -> Result<TrafficShares, TrafficError> {
        let split = self.split().await?;
        let weights = split.weights();
        let share = |at: usize| ServiceShare {
            service: self.0.services[at].clone(),
            percent: weights.first().map_or(0, |first| share::percent(*first, at)),
            weights: weights.iter().map(|pair| pair[at]).collect(),
        };
        Ok(TrafficShares {
            object: self.0.object(),
            services: vec![share(0), share(1)],
            shifting_to: split.ramp.as_ref().map(|ramp| ramp.to.clone()),
            step: split.shifting().map(|ramp| ramp.step),
        })
    }

    /// The ready pods of a Service of the pair.
    async fn pods(&self, position: usize) -> Result<ReadyPods, TrafficError> {
        let service = self.0.namespace.service(&self.0.services[position]).await?;
        ReadyPods::of(&self.0.namespace, &service, self.0.container.as_deref()).await
    }

    /// The position of the stable Service: during a shift the one that loses the traffic, otherwise the one with most.
    fn stable(split: &Split) -> usize {
        split.shifting().map_or_else(|| most(split), |ramp| 1 - ramp.to())
    }

    async fn revision(&self, position: usize) -> Result<Revision, TrafficError> {
        let asked = match self.pods(position).await {
            Ok(ready) => ready.asked,
            // A Service without a ready pod has no image.
            Err(TrafficError::NotReady { .. }) => String::new(),
            Err(error) => return Err(error),
        };
        Ok(Revision::new(self.0.services[position].as_str(), asked))
    }

    /// The digests that the ready pods of the Service with most of the traffic report.
    ///
    /// # Errors
    /// When the object, the Service or its pods cannot be read, or no pod is ready.
    ///
    /// # Permissions
    /// RBAC: `get` on the object and on `services`; `list` on `pods`.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn prove(&self) -> Result<Proof, TrafficError> {
        let ready = self.pods(most(&self.split().await?)).await?;
        Ok(proof::of(ready.pods.iter(), &ready.container))
    }
}

/// The traffic of an Ingress or HTTPRoute as a target: a deployment shifts it to the Service that runs the image.
impl Target for WeightedTraffic {
    fn id(&self) -> TargetId {
        WeightedTraffic::id(self)
    }

    fn current(&self) -> BoxFuture<'_, Result<Current, TargetError>> {
        Box::pin(async {
            let split = self.split().await.map_err(TargetError::new)?;
            let stable = self.revision(Self::stable(&split)).await.map_err(TargetError::new)?;
            let rolling_out = match split.shifting() {
                Some(ramp) => Some(self.revision(ramp.to()).await.map_err(TargetError::new)?),
                None => None,
            };
            Ok(Current::new(stable, rolling_out))
        })
    }

    /// The Service that had the traffic before the last shift.
    fn previous(&self) -> BoxFuture<'_, Result<Revision, TargetError>> {
        Box::pin(async {
            let split = self.split().await.map_err(TargetError::new)?;
            match split.ramp.as_ref().filter(|ramp| ramp.state != RampState::Returned) {
                Some(ramp) => self.revision(1 - ramp.to()).await.map_err(TargetError::new),
                None => Err(TargetError::new(TrafficError::NothingToSwitchBack { object: self.0.object() })),
            }
        })
    }

    fn deploy(&self, image: &ResolvedImage) -> Operation<DeployEvent, Result<Outcome, TargetError>> {
        self.shift(None, Some(image)).map_err(TargetError::new)
    }

    /// Returns the traffic to the Service of `revision`: with the weights before the shift if it came from there,
    /// otherwise all of it at once.
    fn restore(&self, revision: &Revision) -> Operation<DeployEvent, Result<Outcome, TargetError>> {
        let revision = revision.clone();
        let span = info_span!("restore_traffic", target_id = %SingleLine(&self.0.id), verdict = Empty);
        let work = |pair: Arc<WeightedPair>, reporter: Reporter| async move {
            let split = pair.split(pair.read().await?)?;
            let came_from = |ramp: &Ramp| pair.services[1 - ramp.to()] == revision.id;
            if split.ramp.as_ref().is_some_and(|ramp| ramp.state != RampState::Returned && came_from(ramp)) {
                return pair.return_traffic(&reporter).await;
            }
            let (steps, bake) = (TrafficSteps::at_once(), Duration::ZERO);
            pair.shift(Some(&revision.id), revision.image.resolved(), &steps, bake, &reporter).await
        };
        span.in_scope(|| self.spawn(work).map_err(TargetError::new))
    }

    fn prove(&self) -> BoxFuture<'_, Result<Proof, TargetError>> {
        Box::pin(async { WeightedTraffic::prove(self).await.map_err(TargetError::new) })
    }
}
