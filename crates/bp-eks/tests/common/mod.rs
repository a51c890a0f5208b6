//! Test fixture: a sandbox cluster with one Deployment, and an authenticated client.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{sync::Arc, time::Duration};

use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_sdk_eks::config::{BehaviorVersion, Region};
use bp_artifact::{
    DigestRef, Operation, Outcome, ResolvedImage,
    deploy::{DeployEvent, TargetId},
    error::{Classified, ErrorClass},
    resolve::PlatformImage,
    time::TimeSource,
};
use bp_eks::{Cluster as EksCluster, Connector, EksTarget, Error, Namespace, Options};
use bp_sandbox::{
    Behaviour, Clock, ImageBuilder, Sandbox,
    kube::{Cluster, ClusterOptions, SECRET_ACCESS_KEY},
    registry::RegistryOptions,
};
use serde_json::{Value, json};

pub(crate) const REGISTRY: &str = "registry.example.com";

pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) client: kube::Client,
    pub(crate) first: ResolvedImage,
}

fn credentials() -> Credentials {
    Credentials::new("AKIASANDBOX", SECRET_ACCESS_KEY, None, None, "test")
}

pub(crate) fn eks(sandbox: &Sandbox) -> aws_sdk_eks::Client {
    let config = aws_sdk_eks::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(credentials())
        .http_client(sandbox.http_client())
        .build();
    aws_sdk_eks::Client::from_conf(config)
}

#[cfg(feature = "iam")]
pub(crate) fn iam(sandbox: &Sandbox) -> aws_sdk_iam::Client {
    let config = aws_sdk_iam::Config::builder()
        .behavior_version(aws_sdk_iam::config::BehaviorVersion::latest())
        .region(aws_sdk_iam::config::Region::new("eu-central-1"))
        .credentials_provider(credentials())
        .http_client(sandbox.http_client())
        .build();
    aws_sdk_iam::Client::from_conf(config)
}

pub(crate) fn connector(sandbox: &Sandbox, cluster: &str) -> Connector {
    let clock = sandbox.clock().clone();
    let credentials = SharedCredentialsProvider::new(credentials());
    Connector::new(eks(sandbox), credentials, "eu-central-1", cluster)
        .time_source(TimeSource::from_fn(move || clock.now()))
}

impl World {
    /// A cluster with three ready replicas of a first image, created by `kubectl apply`.
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Value)) -> Self {
        Self::on(Clock::tokio(), change).await
    }

    pub(crate) async fn on(clock: Clock, change: impl FnOnce(&mut Value)) -> Self {
        let sandbox = Sandbox::builder()
            .clock(clock)
            .registry(REGISTRY, RegistryOptions::default())
            .cluster("shop", ClusterOptions::default())
            .build();
        let cluster = sandbox.cluster("shop");
        let client = connector(&sandbox, "shop").connect_with(sandbox.transport()).await.unwrap();
        let first = push(&sandbox, "first", Behaviour::default());
        let mut deployment = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": "web", "namespace": "prod" },
            "spec": {
                "replicas": 3,
                "progressDeadlineSeconds": 120,
                "selector": { "matchLabels": { "app": "web" } },
                "template": { "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [
                    {
                        "name": "web",
                        "image": first.reference.to_string(),
                        "readinessProbe": { "httpGet": { "path": "/", "port": 80 }, "periodSeconds": 5 },
                    },
                    { "name": "proxy", "image": first.reference.to_string() },
                ] } },
            },
        });
        change(&mut deployment);
        let name = deployment["metadata"]["name"].as_str().unwrap().to_owned();
        cluster.create(deployment);
        assert!(cluster.settled("prod", &name).await);
        sandbox.ledger().clear();
        World { sandbox, cluster, client, first }
    }

    pub(crate) fn image(&self, tag: &str, behaviour: Behaviour) -> ResolvedImage {
        push(&self.sandbox, tag, behaviour)
    }

    pub(crate) fn target(&self) -> EksTarget {
        self.target_with(|options| options.take_over(true))
    }

    pub(crate) fn target_with(&self, options: impl FnOnce(Options) -> Options) -> EksTarget {
        let options = options(Options::new(Duration::from_secs(300)).unwrap());
        self.of("web", "web", options)
    }

    pub(crate) fn of(&self, name: &str, container: &str, options: Options) -> EksTarget {
        let workload = format!("deployment/{name}").parse().unwrap();
        self.namespace().workload(workload, options).container(container)
    }

    pub(crate) fn namespace(&self) -> Namespace {
        self.namespace_called("prod")
    }

    pub(crate) fn namespace_called(&self, name: &str) -> Namespace {
        EksCluster::new(self.client.clone(), "shop").namespace(name)
    }

    pub(crate) fn running_image(&self) -> String {
        let deployment = self.cluster.object("deployments", "prod", "web").unwrap();
        deployment["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn push(sandbox: &Sandbox, tag: &str, behaviour: Behaviour) -> ResolvedImage {
    let image = ImageBuilder::new().platform("linux/amd64").layer([("app", tag.as_bytes().to_vec())]).build();
    sandbox.registry(REGISTRY).push(&image, "shop/web", tag);
    sandbox.script(image.digest(), behaviour);
    let reference: DigestRef = format!("{REGISTRY}/shop/web@{}", image.digest()).parse().unwrap();
    let digest = image.platform("linux/amd64").parse().unwrap();
    let platform = PlatformImage::new("linux/amd64".parse().unwrap(), digest);
    ResolvedImage { platforms: vec![platform], ..ResolvedImage::from(reference) }
}

pub(crate) fn crash() -> Behaviour {
    let log = vec!["booting".to_owned(), "fatal: no DATABASE_URL".to_owned()];
    Behaviour::Exits { after: Duration::from_secs(1), code: 3, log }
}

/// Checks the events of one operation: every event has its target, `Planned` comes once and before `Applied`, and
/// `Finished` comes once, at the end, with the returned outcome.
pub(crate) fn check_stream(what: &str, id: &TargetId, events: &[DeployEvent], outcome: &Outcome) {
    let others: Vec<_> = events.iter().filter(|event| event.target() != id).collect();
    assert!(others.is_empty(), "{what}: {others:?}");
    let at = |is: fn(&DeployEvent) -> bool| -> Vec<usize> {
        events.iter().enumerate().filter(|(_, event)| is(event)).map(|(at, _)| at).collect()
    };
    let planned = at(|event| matches!(event, DeployEvent::Planned { .. }));
    let applied = at(|event| matches!(event, DeployEvent::Applied { .. }));
    let finished = at(|event| matches!(event, DeployEvent::Finished { .. }));
    assert_eq!(planned.len(), 1, "{what}: {events:?}");
    assert!(applied.iter().all(|applied| planned[0] < *applied), "{what}: {events:?}");
    assert_eq!(finished, [events.len() - 1], "{what}: {events:?}");
    let Some(DeployEvent::Finished { outcome: told }) = events.last() else { panic!("{what}") };
    assert_eq!((&**told, &outcome.target), (outcome, id), "{what}");
}

/// Cancels an operation when its change was applied, and checks that it has one target, one `Planned` and one `Applied`
/// event, and a `Finished` event only if it returns an outcome.
pub(crate) async fn check_cancelled<E: Classified + std::fmt::Debug + Send + 'static>(
    what: &str,
    id: &TargetId,
    mut work: Operation<DeployEvent, Result<Outcome, E>>,
) {
    let mut events = Vec::new();
    while let Some(event) = work.next_event().await {
        if matches!(event, DeployEvent::Applied { .. }) {
            work.cancel();
        }
        events.push(event);
    }
    let count = |is: fn(&DeployEvent) -> bool| events.iter().filter(|event| is(event)).count();
    assert_eq!(count(|event| matches!(event, DeployEvent::Applied { .. })), 1, "{what}: {events:?}");
    match work.await {
        Ok(outcome) => check_stream(what, id, &events, &outcome),
        Err(error) => {
            assert_eq!(error.class(), ErrorClass::Interrupted, "{what}: {error:?}");
            assert!(events.iter().all(|event| event.target() == id), "{what}: {events:?}");
            assert_eq!(count(|event| matches!(event, DeployEvent::Planned { .. })), 1, "{what}: {events:?}");
            assert_eq!(count(|event| matches!(event, DeployEvent::Finished { .. })), 0, "{what}: {events:?}");
        }
    }
}

/// An error and its sources in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let all = std::iter::successors(Some(error), |error| error.source());
    all.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

pub(crate) async fn deploy(
    target: &EksTarget,
    image: &ResolvedImage,
) -> (Vec<DeployEvent>, Result<Outcome, Error>) {
    let mut work = target.deploy(image);
    let mut events = Vec::new();
    while let Some(event) = work.next_event().await {
        events.push(event);
    }
    (events, work.await)
}
