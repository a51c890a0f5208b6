//! Traffic shifted by weights, of an Ingress and of an HTTPRoute, against the sandbox in memory, on a paused clock.

mod common;

use std::{sync::Arc, time::Duration};

use bp_artifact::{
    Outcome, ResolvedImage, Verdict,
    check::{Check, CheckVerdict},
    config::TrafficObject,
    deploy::{Cause, DeployEvent, Revision, Target},
    error::{Classified, ErrorClass},
    time::Wait,
};
use bp_eks::{Error, OnFailure, Options, TrafficError, WeightedTraffic, traffic::Switch};
use bp_sandbox::{Behaviour, Effect, Fault};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use common::{World, check_stream, crash};

const ACTION: &str = "alb.ingress.kubernetes.io/actions.web";

/// Two Services with a Deployment each, the first with all traffic.
struct Shop {
    world: World,
    second: ResolvedImage,
    object: TrafficObject,
}

fn service(name: &str, slot: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": "prod" },
        "spec": { "selector": { "app": "web", "slot": slot }, "ports": [{ "name": "http", "port": 80, "targetPort": 8080 }] },
    })
}

fn action(weights: [u32; 2]) -> String {
    json!({
        "type": "forward",
        "forwardConfig": {
            "targetGroups": [
                { "serviceName": "web-blue", "servicePort": "http", "weight": weights[0] },
                { "serviceName": "web-green", "servicePort": 80, "weight": weights[1] },
            ],
            "targetGroupStickinessConfig": { "enabled": true, "durationSeconds": 60 },
        },
    })
    .to_string()
}

fn ingress(class: &str) -> Value {
    let backend = json!({ "service": { "name": "web", "port": { "name": "use-annotation" } } });
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": { "name": "shop", "namespace": "prod", "annotations": { (ACTION): action([100, 0]) } },
        "spec": { "ingressClassName": class, "rules": [{ "http": { "paths": [
            { "path": "/", "pathType": "Prefix", "backend": backend },
        ] } }] },
    })
}

fn route(rules: Value) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": { "name": "shop", "namespace": "prod" },
        "spec": { "parentRefs": [{ "name": "public" }], "rules": rules },
    })
}

fn backends(weights: [u32; 2]) -> Value {
    json!([
        { "name": "web-blue", "port": 80, "weight": weights[0] },
        { "name": "web-green", "port": 80, "weight": weights[1] },
    ])
}

fn objects() -> [TrafficObject; 2] {
    [TrafficObject::Ingress("shop".into()), TrafficObject::HttpRoute("shop".into())]
}

impl Shop {
    async fn new(object: TrafficObject) -> Self {
        Self::with(object, Behaviour::default()).await
    }

    async fn with(object: TrafficObject, green: Behaviour) -> Self {
        let object_of = match &object {
            TrafficObject::Ingress(_) => ingress("public"),
            TrafficObject::HttpRoute(_) => route(json!([{ "backendRefs": backends([100, 0]) }])),
        };
        Self::of(object, object_of, green).await
    }

    async fn of(object: TrafficObject, manifest: Value, green: Behaviour) -> Self {
        let slot = |deployment: &mut Value, slot: &str| {
            let labels = json!({ "app": "web", "slot": slot });
            deployment["metadata"]["name"] = json!(format!("web-{slot}"));
            deployment["spec"]["selector"]["matchLabels"] = labels.clone();
            deployment["spec"]["template"]["metadata"]["labels"] = labels;
            // Without a probe a pod is ready until it ends.
            let container = &mut deployment["spec"]["template"]["spec"]["containers"][0];
            container.as_object_mut().unwrap().remove("readinessProbe");
        };
        let mut second_deployment = Value::Null;
        let world = World::with(|deployment| {
            second_deployment = deployment.clone();
            slot(deployment, "blue");
        })
        .await;
        let second = world.image("second", green);
        slot(&mut second_deployment, "green");
        for container in second_deployment["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap() {
            container["image"] = json!(second.reference.to_string());
        }
        world.cluster.create(second_deployment);
        assert!(world.cluster.settled("prod", "web-green").await);
        for slot in ["blue", "green"] {
            world.cluster.create(service(&format!("web-{slot}"), slot));
        }
        for (name, controller) in [("public", "ingress.k8s.aws/alb"), ("nginx", "k8s.io/ingress-nginx")] {
            world.cluster.create(json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
                "metadata": { "name": name }, "spec": { "controller": controller },
            }));
        }
        world.cluster.create(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": { "name": "public", "namespace": "prod" }, "spec": { "gatewayClassName": "x" },
        }));
        world.cluster.create(manifest);
        tokio::time::sleep(Duration::from_secs(10)).await;
        Shop { world, second, object }
    }

    fn plural(&self) -> &'static str {
        match self.object {
            TrafficObject::Ingress(_) => "ingresses",
            TrafficObject::HttpRoute(_) => "httproutes",
        }
    }

    fn traffic(&self) -> WeightedTraffic {
        self.traffic_with(options())
    }

    fn traffic_with(&self, options: Options) -> WeightedTraffic {
        // The order of the pair does not matter.
        let pair = ["web-green", "web-blue"];
        self.world.namespace().weights(self.object.clone(), pair, options).unwrap().container("web")
    }

    /// The weights that were in effect: of blue and green, in the first action or rule.
    fn history(&self) -> Vec<[u64; 2]> {
        let history = self.world.cluster.weights_in_effect(self.plural(), "prod", "shop");
        let of = |shares: &Vec<(String, u64)>, name: &str| {
            shares.iter().find(|(service, _)| service == name).map_or(0, |(_, weight)| *weight)
        };
        history.iter().map(|all| [of(&all[0], "web-blue"), of(&all[0], "web-green")]).collect()
    }

    fn now(&self) -> [u64; 2] {
        *self.history().last().unwrap()
    }

    /// Sets the weights as somebody else.
    fn set(&self, weights: [u32; 2]) {
        let patch = match &self.object {
            TrafficObject::Ingress(_) => {
                json!({ "metadata": { "annotations": { (ACTION): action(weights) } } })
            }
            TrafficObject::HttpRoute(_) => {
                json!({ "spec": { "rules": [{ "backendRefs": backends(weights) }] } })
            }
        };
        self.world.cluster.patch("kubectl-edit", self.plural(), "prod", "shop", &patch);
    }

    fn record(&self) -> Value {
        let object = self.world.cluster.object(self.plural(), "prod", "shop").unwrap();
        let text = object["metadata"]["annotations"]["weights.bp-eks/web-blue"]
            .as_str()
            .unwrap_or("null")
            .to_owned();
        serde_json::from_str(&text).unwrap()
    }
}

fn options() -> Options {
    Options::new(Duration::from_secs(120)).unwrap().take_over(true)
}

fn careful() -> Options {
    options().take_over(false)
}

const BAKE: Duration = Duration::from_secs(60);

async fn run(mut work: Switch) -> (Vec<DeployEvent>, Result<Outcome, TrafficError>) {
    let mut events = Vec::new();
    while let Some(event) = work.next_event().await {
        events.push(event);
    }
    (events, work.await)
}

async fn ended(work: Switch) -> Outcome {
    let (events, outcome) = run(work).await;
    let outcome = outcome.unwrap();
    check_stream("a shift", &outcome.target, &events, &outcome);
    outcome
}

/// A check that depends on the weights in effect.
struct AtWeights<F>(Arc<bp_sandbox::kube::Cluster>, &'static str, F);

impl<F: Fn([u64; 2]) -> CheckVerdict + Send + Sync> Check for AtWeights<F> {
    fn name(&self) -> String {
        "smoke".into()
    }

    fn attempt(&self) -> BoxFuture<'_, CheckVerdict> {
        let shares = self.0.weights_in_effect(self.1, "prod", "shop").pop().unwrap_or_default();
        let of = |at: usize| shares[0][at].1;
        Box::pin(std::future::ready((self.2)([of(0), of(1)])))
    }
}

fn with_check(
    shop: &Shop,
    traffic: WeightedTraffic,
    verdict: impl Fn([u64; 2]) -> CheckVerdict + Send + Sync + 'static,
) -> WeightedTraffic {
    let wait = Wait::new(Duration::from_secs(10), Duration::from_secs(2)).unwrap();
    traffic.check(Arc::new(AtWeights(shop.world.cluster.clone(), shop.plural(), verdict)), wait)
}

const RAMP: [[u64; 2]; 5] = [[100, 0], [95, 5], [75, 25], [50, 50], [0, 100]];

#[tokio::test(start_paused = true)]
async fn shifts_in_steps_returns_and_shifts_again() {
    for object in objects() {
        let shop = Shop::new(object).await;
        let traffic = shop.traffic().bake(BAKE);
        let start = tokio::time::Instant::now();
        let (events, outcome) = run(traffic.shift(Some("web-green"), Some(&shop.second))).await;
        let outcome = outcome.unwrap();
        assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Deployed, true), "{outcome:?}");
        assert!(start.elapsed() >= 4 * BAKE, "each step is baked: {:?}", start.elapsed());
        assert_eq!(outcome.proof.observations.len(), 3, "{outcome:?}");
        assert_eq!(
            (outcome.revision.unwrap().id, outcome.previous.unwrap().id),
            ("web-green".into(), "web-blue".into())
        );
        assert_eq!(shop.history(), RAMP);
        assert_eq!(shop.record()["state"], "shifted");
        let notices = events.iter().filter(|event| matches!(event, DeployEvent::Notice { message, .. } if message.contains(" % to service/web-green")));
        assert_eq!(notices.count(), 3, "the first step is the applied change: {events:?}");

        // The same command again, and without the Service's name: nothing changes.
        for again in
            [traffic.shift(Some("web-green"), Some(&shop.second)), traffic.shift(None, Some(&shop.second))]
        {
            let outcome = ended(again).await;
            assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Deployed, false), "{outcome:?}");
        }
        let shares = traffic.shares().await.unwrap();
        assert_eq!((shares.services[1].percent, shares.step), (100, None));

        let back = ended(traffic.return_traffic()).await;
        assert_eq!((back.verdict(), back.changed), (Verdict::Deployed, true), "{back:?}");
        assert_eq!(shop.now(), [100, 0]);
        let back = ended(traffic.return_traffic()).await;
        assert_eq!((back.verdict(), back.changed), (Verdict::Deployed, false), "{back:?}");
        // Somebody else set other weights since: those are not ours to return from.
        shop.set([90, 10]);
        let error = traffic.return_traffic().await.unwrap_err();
        assert!(matches!(error, TrafficError::NothingToSwitchBack { .. }), "{error}");

        // From a split by hand, and in other steps.
        tokio::time::sleep(Duration::from_secs(10)).await;
        let outcome =
            ended(traffic.steps("5, 60, 100".parse().unwrap()).shift(None, Some(&shop.second))).await;
        assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:?}");
        assert_eq!(shop.history()[6..], [[90, 10], [40, 60], [0, 100]], "{:?}", shop.history());
    }
}

#[tokio::test(start_paused = true)]
async fn everything_but_the_two_weights_is_kept() {
    let shop = Shop::new(TrafficObject::Ingress("shop".into())).await;
    assert_eq!(ended(shop.traffic().shift(Some("web-green"), None)).await.verdict(), Verdict::Deployed);
    let object = shop.world.cluster.object("ingresses", "prod", "shop").unwrap();
    let text = object["metadata"]["annotations"][ACTION].as_str().unwrap();
    let (found, expected): (Value, Value) =
        (serde_json::from_str(text).unwrap(), serde_json::from_str(&action([0, 100])).unwrap());
    assert_eq!(found, expected);

    // A third Service keeps its share, and a rule without the pair is not changed.
    let canary = json!({ "name": "canary", "port": 80, "weight": 20 });
    let mut shared = backends([80, 0]);
    shared.as_array_mut().unwrap().push(canary.clone());
    let rules = json!([
        { "backendRefs": shared, "timeouts": { "request": "5s" } },
        { "matches": [{ "path": { "type": "PathPrefix", "value": "/old" } }], "backendRefs": [backends([1, 1])[0]] },
    ]);
    let object = TrafficObject::HttpRoute("shop".into());
    let shop = Shop::of(object, route(rules), Behaviour::default()).await;
    shop.world.cluster.create(service("canary", "blue"));
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (events, outcome) = run(shop.traffic().shift(Some("web-green"), None)).await;
    assert_eq!(outcome.unwrap().verdict(), Verdict::Deployed);
    assert_eq!(shop.history(), [[80, 0], [76, 4], [60, 20], [40, 40], [0, 80]]);
    let object = shop.world.cluster.object("httproutes", "prod", "shop").unwrap();
    let rules = &object["spec"]["rules"];
    assert_eq!(
        (&rules[0]["backendRefs"][2]["weight"], &rules[0]["timeouts"]["request"]),
        (&json!(20), &json!("5s"))
    );
    let note = |event: &DeployEvent| matches!(event, DeployEvent::Notice { message, .. } if message.contains("rule 2 forwards to web-blue alone"));
    assert!(events.iter().any(note), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn failing_check_at_a_step_returns_the_traffic_at_once() {
    for object in objects() {
        for policy in [OnFailure::RollBack, OnFailure::Leave] {
            let shop = Shop::new(object.clone()).await;
            let verdict = |[_, green]: [u64; 2]| match green {
                25 => CheckVerdict::failed("GET /readyz: 503"),
                _ => CheckVerdict::Passed,
            };
            let traffic =
                with_check(&shop, shop.traffic_with(options().on_failure(policy)).bake(BAKE), verdict);
            let (events, outcome) = run(traffic.shift(None, Some(&shop.second))).await;
            let outcome = outcome.unwrap();
            let failure = outcome.failure.as_ref().unwrap_or_else(|| panic!("{outcome:?}"));
            assert_eq!(failure.cause, Cause::CheckFailed);
            assert!(failure.message.contains("GET /readyz: 503"), "{failure}");
            assert!(events.iter().any(|event| matches!(event, DeployEvent::Failing { .. })));
            match policy {
                OnFailure::RollBack => {
                    assert_eq!(outcome.verdict(), Verdict::RolledBack, "{outcome:?}");
                    assert_eq!(shop.history(), [[100, 0], [95, 5], [75, 25], [100, 0]]);
                    assert_eq!(
                        (outcome.revision.unwrap().id, &shop.record()["state"]),
                        ("web-blue".into(), &json!("returned"))
                    );
                }
                _ => {
                    assert_eq!((outcome.verdict(), shop.now()), (Verdict::FailedInPlace, [75, 25]));
                    // The same command continues at that step.
                    let outcome = ended(shop.traffic().shift(None, Some(&shop.second))).await;
                    assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:?}");
                    assert_eq!(shop.history(), RAMP);
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn unobserved_check_and_silent_controller_are_neither_success_nor_failure() {
    for object in objects() {
        let shop = Shop::new(object).await;
        let verdict = |_| CheckVerdict::unobserved("connection refused");
        let outcome = ended(with_check(&shop, shop.traffic(), verdict).shift(None, Some(&shop.second))).await;
        assert_eq!((outcome.verdict(), shop.now()), (Verdict::Unobserved, [95, 5]), "{outcome:?}");
        assert!(
            outcome.detail.contains("connection refused") && outcome.detail.contains("rerun"),
            "{}",
            outcome.detail
        );

        // The controller does not react to the change.
        shop.world.cluster.stop_load_balancing();
        let traffic = shop.traffic().steps("50, 100".parse().unwrap());
        let outcome = ended(traffic.shift(None, Some(&shop.second))).await;
        assert_eq!((outcome.verdict(), shop.now()), (Verdict::DeadlineExceeded, [95, 5]), "{outcome:?}");
        assert!(outcome.detail.contains("has not reported"), "{}", outcome.detail);
        let step = if shop.plural() == "ingresses" { 5 } else { 50 };
        assert_eq!((&shop.record()["step"], &shop.record()["state"]), (&json!(step), &json!("shifting")));
        shop.world.cluster.start_load_balancing();
        let outcome = ended(traffic.shift(None, Some(&shop.second))).await;
        assert_eq!((outcome.verdict(), shop.now()), (Verdict::Deployed, [0, 100]), "{outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn pods_failing_under_traffic_lose_it() {
    for object in objects() {
        let log = vec!["fatal: pool exhausted".to_owned()];
        let late = Behaviour::Exits { after: Duration::from_secs(150), code: 7, log };
        let shop = Shop::with(object, late).await;
        let outcome = ended(shop.traffic().bake(BAKE).shift(None, Some(&shop.second))).await;
        assert_eq!((outcome.verdict(), shop.now()), (Verdict::RolledBack, [100, 0]), "{outcome:?}");
        let failure = outcome.failure.unwrap();
        assert!(matches!(failure.cause, Cause::ContainerExited | Cause::HealthCheckFailed), "{failure}");
        assert!(failure.inspect.unwrap().contains("app=web,slot=green"));
        assert!(shop.history().len() > 2, "it had traffic: {:?}", shop.history());
    }
}

#[tokio::test(start_paused = true)]
async fn resumes_at_the_recorded_step_after_a_kill_at_any_moment() {
    for object in objects() {
        for moment in
            [0, 50, 500, 1_500, 30_000, 62_000, 64_000, 100_000, 125_000, 160_000, 190_000, 244_000, 250_000]
        {
            let shop = Shop::new(object.clone()).await;
            let traffic = shop.traffic().bake(BAKE);
            let work = traffic.shift(None, Some(&shop.second));
            tokio::time::sleep(Duration::from_millis(moment)).await;
            drop(work);
            let killed_at = shop.record()["step"].clone();
            let outcome = ended(traffic.shift(None, Some(&shop.second))).await;
            assert_eq!(outcome.verdict(), Verdict::Deployed, "after {moment} ms: {outcome:?}");
            assert_eq!(
                shop.history(),
                RAMP,
                "no step is repeated or skipped after {moment} ms at {killed_at}"
            );
            let back = ended(traffic.return_traffic()).await;
            assert_eq!((back.verdict(), shop.now()), (Verdict::Deployed, [100, 0]), "{back:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn cancelled_shift_keeps_its_step_until_it_is_resumed_or_returned() {
    for object in objects() {
        let shop = Shop::new(object).await;
        let traffic = shop.traffic().bake(BAKE);
        let work = traffic.shift(None, Some(&shop.second));
        tokio::time::sleep(Duration::from_secs(80)).await;
        work.cancel();
        let error = work.await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Interrupted, "{error}");
        assert_eq!(shop.now(), [75, 25]);
        let shares = traffic.shares().await.unwrap();
        assert_eq!((shares.step, shares.shifting_to.as_deref()), (Some(25), Some("web-green")));
        let back = ended(traffic.return_traffic()).await;
        assert_eq!((back.verdict(), shop.now()), (Verdict::Deployed, [100, 0]), "{back:?}");
        assert_eq!(back.revision.unwrap().id, "web-blue");
        // A new shift begins with the first step.
        let outcome = ended(shop.traffic().shift(None, Some(&shop.second))).await;
        assert_eq!(outcome.verdict(), Verdict::Deployed);
        assert_eq!(shop.history()[3..], RAMP);
    }
}

#[tokio::test(start_paused = true)]
async fn change_of_the_weights_by_somebody_else_ends_the_shift() {
    for object in objects() {
        let shop = Shop::new(object).await;
        let traffic = shop.traffic_with(careful());
        // The weights belong to kubectl: a conflict with their owner, and nothing is changed.
        let error = traffic.shift(None, Some(&shop.second)).await.unwrap_err();
        let TrafficError::Rollout(Error::Conflict { conflicts, .. }) = &error else { panic!("{error}") };
        assert_eq!(conflicts[0].manager, "kubectl-client-side-apply");
        assert_eq!((shop.now(), shop.record()), ([100, 0], Value::Null));

        let work = shop.traffic().bake(BAKE).shift(None, Some(&shop.second));
        tokio::time::sleep(Duration::from_secs(80)).await;
        shop.set([60, 40]);
        let outcome = work.await.unwrap();
        assert_eq!(outcome.verdict(), Verdict::Superseded, "{outcome:?}");
        assert!(outcome.detail.contains("60/40"), "{}", outcome.detail);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(shop.now(), [60, 40], "the foreign change is kept");

        // The same command again: it reports what is different, or begins anew.
        let error = traffic.shift(None, Some(&shop.second)).await.unwrap_err();
        let TrafficError::WeightsChanged { recorded, found, .. } = &error else { panic!("{error}") };
        assert_eq!(
            (recorded.as_str(), found.as_str(), error.class()),
            ("75/25", "60/40", ErrorClass::Superseded)
        );
        let outcome = ended(shop.traffic().shift(None, Some(&shop.second))).await;
        assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:?}");
        assert_eq!(shop.history()[3..], [[60, 40], [50, 50], [0, 100]]);

        // An unrelated change in between does not matter: it is read again.
        let work = traffic.return_traffic();
        let label = json!({ "metadata": { "labels": { "team": "shop" } } });
        shop.world.cluster.patch("kubectl", shop.plural(), "prod", "shop", &label);
        assert_eq!(work.await.unwrap().verdict(), Verdict::Deployed);
        assert_eq!(shop.now(), [60, 40]);

        let work = shop.traffic().bake(BAKE).shift(None, Some(&shop.second));
        tokio::time::sleep(Duration::from_secs(20)).await;
        shop.world.cluster.delete(shop.plural(), "prod", "shop");
        assert_eq!(work.await.unwrap().verdict(), Verdict::Gone);
    }
}

#[tokio::test(start_paused = true)]
async fn object_that_its_controller_refuses_returns_after_the_grace_period() {
    for object in objects() {
        let shop = Shop::new(object).await;
        let grace = Duration::from_secs(30);
        let work = shop.traffic_with(options().grace(grace)).bake(BAKE).shift(None, Some(&shop.second));
        tokio::time::sleep(Duration::from_secs(20)).await;
        // Somebody adds something invalid, without changing the weights.
        let patch = match &shop.object {
            TrafficObject::Ingress(_) => {
                let broken = json!({ "service": { "name": "api", "port": { "name": "use-annotation" } } });
                json!({
                    "metadata": { "annotations": { "alb.ingress.kubernetes.io/actions.api": "{" } },
                    "spec": { "defaultBackend": broken },
                })
            }
            TrafficObject::HttpRoute(_) => json!({ "spec": { "rules": [
                { "backendRefs": backends([95, 5]) },
                { "backendRefs": [{ "name": "nowhere", "port": 80 }] },
            ] } }),
        };
        shop.world.cluster.patch("kubectl", shop.plural(), "prod", "shop", &patch);
        let outcome = work.await.unwrap();
        let failure = outcome.failure.as_ref().unwrap_or_else(|| panic!("{outcome:?}"));
        assert_eq!(
            (outcome.verdict(), failure.cause),
            (Verdict::RollbackFailed, Cause::DeploymentConfiguration),
            "{outcome:?}"
        );
        let said = match &shop.object {
            TrafficObject::Ingress(_) => {
                "FailedBuildModel: Failed build model due to ingress: prod/shop: failed to parse json annotation"
            }
            TrafficObject::HttpRoute(_) => "gateway/public reports ResolvedRefs False: BackendNotFound",
        };
        assert!(failure.message.contains(said), "{failure}");
        assert_eq!(
            shop.record()["state"],
            "returned",
            "the weights are restored, although they are not in effect"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_shifted_is_refused_before_any_change() {
    for object in objects() {
        let shop = Shop::new(object).await;
        let refused = async |traffic: WeightedTraffic, to: &str, image: Option<&ResolvedImage>| {
            let error = traffic.shift(Some(to), image).await.unwrap_err();
            assert_eq!(shop.history(), [[100, 0]], "{error}");
            (error.to_string(), error.class())
        };
        let (error, class) = refused(shop.traffic(), "web-red", None).await;
        assert!(
            error.contains("web-red is not web-blue or web-green") && class == ErrorClass::BadInput,
            "{error}"
        );
        let (error, class) = refused(shop.traffic(), "web-green", Some(&shop.world.first)).await;
        assert!(error.contains("digest") && class == ErrorClass::Refused, "{error}");
        let elsewhere = shop.world.image("elsewhere", Behaviour::default());
        let error = shop.traffic().shift(None, Some(&elsewhere)).await.unwrap_err();
        assert!(error.to_string().contains("no ready pod of either runs the image"), "{error}");
        let other =
            shop.world.namespace().weights(shop.object.clone(), ["web-blue", "web-red"], options()).unwrap();
        let (error, _) = refused(other, "web-red", None).await;
        assert!(
            error.contains("forwards to both web-blue and web-red, but to web-blue, web-green"),
            "{error}"
        );
        let same = shop.world.namespace().weights(shop.object.clone(), ["web-blue", "web-blue"], options());
        assert!(same.unwrap_err().to_string().contains("both Services are web-blue"));

        shop.world.cluster.patch("kubectl", "services", "prod", "web-green", &json!({ "spec": { "ports": [{ "name": "http", "port": 80, "$patch": "delete" }, { "name": "x", "port": 81 }] } }));
        let (error, _) = refused(shop.traffic(), "web-green", None).await;
        assert!(error.contains("service/web-green is not ready for traffic: it has no port 80"), "{error}");
        shop.world.cluster.deny("patch", shop.plural());
        let error = shop.traffic().shift(Some("web-blue"), None).await;
        assert_eq!(error.unwrap().verdict(), Verdict::Deployed, "nothing is to be changed");
    }

    // No controller reads the weights.
    let object = TrafficObject::Ingress("shop".into());
    let shop = Shop::of(object.clone(), ingress("nginx"), Behaviour::default()).await;
    let error = shop.traffic().shift(Some("web-green"), None).await.unwrap_err();
    assert!(matches!(error, TrafficError::NotApplicationLoadBalancer { .. }), "{error}");
    let mut unused = ingress("public");
    unused["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"] =
        json!({ "name": "web-blue", "port": { "number": 80 } });
    let shop = Shop::of(object.clone(), unused, Behaviour::default()).await;
    let error = shop.traffic().shift(Some("web-green"), None).await.unwrap_err();
    assert!(error.to_string().contains("no action of its backends forwards to both"), "{error}");
    let error = shop.traffic().action("web").shift(Some("web-green"), None).await.unwrap_err();
    assert!(
        error.to_string().contains("must have the service name web and the port name use-annotation"),
        "{error}"
    );
    let mut broken = ingress("public");
    broken["metadata"]["annotations"][ACTION] = json!("{ \"type\": \"forward\"");
    broken["status"] = json!({ "loadBalancer": { "ingress": [{ "hostname": "x" }] } });
    let shop = Shop::of(object, broken, Behaviour::default()).await;
    let error = shop.traffic().shift(Some("web-green"), None).await.unwrap_err();
    assert!(error.to_string().contains("the action web: it is not valid JSON"), "{error}");

    // No Gateway serves the route.
    let object = TrafficObject::HttpRoute("shop".into());
    let mut orphan = route(json!([{ "backendRefs": backends([100, 0]) }]));
    orphan["spec"]["parentRefs"][0]["name"] = json!("internal");
    let shop = Shop::of(object, orphan, Behaviour::default()).await;
    let error = shop.traffic().shift(Some("web-green"), None).await.unwrap_err();
    assert!(error.to_string().contains("gateway/internal has not reported a status"), "{error}");
    let absent = TrafficObject::HttpRoute("absent".into());
    let absent = shop.world.namespace().weights(absent, ["web-blue", "web-green"], options()).unwrap();
    assert!(absent.shares().await.unwrap_err().to_string().contains("httproute/absent does not exist"));
}

#[tokio::test(start_paused = true)]
async fn failing_service_gets_no_traffic() {
    let object = TrafficObject::HttpRoute("shop".into());
    let shop = Shop::new(object).await;
    let broken = shop.world.image("crash", crash());
    let image = json!({ "spec": { "template": { "spec": { "containers": [{ "name": "web", "image": broken.reference.to_string() }] } } } });
    shop.world.cluster.patch("kubectl", "deployments", "prod", "web-green", &image);
    tokio::time::sleep(Duration::from_secs(200)).await;
    let error = shop.traffic().shift(Some("web-green"), None).await.unwrap_err();
    assert!(matches!(error, TrafficError::NotReady { .. }), "{error}");
    assert_eq!((shop.history(), shop.record()), (vec![[100, 0]], Value::Null));
}

#[tokio::test(start_paused = true)]
async fn patch_with_a_lost_answer_is_retried_or_unobserved() {
    for object in objects() {
        let shop = Shop::new(object).await;
        let patches = format!("patch {}", shop.plural());
        let reads = format!("get {}", shop.plural());
        // The first answer is lost: the second attempt finds that the first one succeeded.
        shop.world.sandbox.faults().inject(Fault::new(Effect::LoseAnswer).on(&patches));
        let traffic = shop.traffic();
        let outcome = ended(traffic.shift(None, Some(&shop.second))).await;
        assert_eq!((outcome.verdict(), shop.history()), (Verdict::Deployed, RAMP.to_vec()), "{outcome:?}");

        shop.world.sandbox.faults().inject(Fault::new(Effect::Reset).on(&patches).times(u32::MAX));
        shop.world.sandbox.faults().inject(Fault::new(Effect::Reset).on(&reads).after(1).times(u32::MAX));
        let outcome = ended(traffic.return_traffic()).await;
        assert_eq!(outcome.verdict(), Verdict::Unobserved, "{outcome:?}");
        assert!(outcome.detail.contains("may have been applied"), "{}", outcome.detail);
    }
}

#[tokio::test(start_paused = true)]
async fn restores_a_recorded_revision_as_a_target() {
    for object in objects() {
        let shop = Shop::new(object).await;
        let traffic = shop.traffic().bake(BAKE);
        let target: &dyn Target = &traffic;
        let noted = target.current().await.unwrap().stable;
        assert_eq!(noted, Revision::new("web-blue", &shop.world.first.reference));
        let work = target.deploy(&shop.second);
        tokio::time::sleep(Duration::from_secs(150)).await;
        // During the shift the first Service is stable, whatever the weights are.
        let current = target.current().await.unwrap();
        assert_eq!(
            (current.stable.id.as_str(), current.rolling_out.unwrap().id),
            ("web-blue", "web-green".into())
        );
        assert_eq!(work.await.unwrap().verdict(), Verdict::Deployed);
        assert_eq!(target.prove().await.unwrap().judge(&shop.second), Verdict::Deployed);
        assert_eq!(target.previous().await.unwrap(), noted);
        let restored = target.restore(&noted).await.unwrap();
        assert_eq!((restored.verdict(), shop.now()), (Verdict::Deployed, [100, 0]), "{restored:?}");
        assert!(target.previous().await.unwrap_err().to_string().contains("cannot switch"));
        // To a Service from which it was not shifted: all at once.
        let second = Revision::new("web-green", &shop.second.reference);
        let restored = target.restore(&second).await.unwrap();
        assert_eq!((restored.verdict(), shop.now()), (Verdict::Deployed, [0, 100]), "{restored:?}");
    }
}
