//! Resuming: after a kill at any call, the same command completes, and nothing is done twice.

mod common;

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_smithy_runtime_api::{
    client::{
        http::{HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector},
        orchestrator::HttpRequest,
        runtime_components::RuntimeComponents,
    },
    shared::IntoShared,
};
use bp_artifact::{Verdict, deploy::DeployEvent};
use bp_ecs::{Cluster, Error};
use common::{Shop, options, run};

/// A transport that stops responding at one request, before or after the API handled it, as for a killed process.
#[derive(Debug, Clone)]
struct StallingTransport {
    inner: bp_sandbox::Transport,
    remaining: Arc<AtomicUsize>,
    handled: bool,
}

impl HttpConnector for StallingTransport {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let remaining = self
            .remaining
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| Some(n.saturating_sub(1)))
            .unwrap();
        let transport = self.clone();
        HttpConnectorFuture::new(async move {
            match remaining {
                0 => pending().await,
                1 if !transport.handled => pending().await,
                1 => {
                    let _ = HttpConnector::call(&transport.inner, request).await;
                    pending().await
                }
                _ => HttpConnector::call(&transport.inner, request).await,
            }
        })
    }
}

impl HttpClient for StallingTransport {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        self.clone().into_shared()
    }
}

#[tokio::test(start_paused = true)]
async fn resumes_after_being_killed_at_any_call() {
    let mut adopted = 0;
    for handled in [false, true] {
        for at in 1..40 {
            let shop = Shop::new();
            let (old, new) = (shop.image("1"), shop.image("2"));
            let service = shop.web(&old).create();
            let (before, first) = (service.definition(), shop.target().current().await.unwrap().stable);
            let remaining = Arc::new(AtomicUsize::new(at));
            let transport = StallingTransport {
                inner: shop.sandbox.transport(),
                remaining: Arc::clone(&remaining),
                handled,
            };
            let client = shop.client_over(transport.into_shared());
            let mut killed =
                Cluster::new(client, "shop").service("web", options()).container("web").deploy(&new);
            // Polled until the transport stops responding, then dropped.
            let moment = Duration::from_millis(50);
            let mut ended = false;
            while remaining.load(Ordering::SeqCst) > 0 && !ended {
                ended = matches!(tokio::time::timeout(moment, killed.next_event()).await, Ok(None));
            }
            drop(killed);
            let (events, outcome) = run(shop.target().deploy(&new)).await;
            let outcome = outcome.unwrap();
            assert_eq!(outcome.verdict(), Verdict::Deployed, "killed at call {at}, handled {handled}");
            assert_eq!(
                shop.ecs.revisions("web"),
                2,
                "one registration, killed at call {at}, handled {handled}"
            );
            assert_eq!(
                service.deployments().len(),
                2,
                "one deployment, killed at call {at}, handled {handled}"
            );
            if outcome.changed {
                assert_eq!(outcome.previous.unwrap().id, before);
            }
            assert_eq!(first.id, before);
            let is_adopted = |e: &DeployEvent| matches!(e, DeployEvent::Applied { adopted: true, .. });
            adopted += usize::from(events.iter().any(is_adopted));
            if ended {
                break;
            }
        }
    }
    assert!(adopted > 10, "most were killed while watching");
}

#[tokio::test(start_paused = true)]
async fn adopts_the_deployment_of_a_killed_run() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    let new = shop.image("2");
    let killed = shop.target().deploy(&new);
    tokio::time::sleep(Duration::from_secs(4)).await;
    drop(killed);
    let (events, outcome) = run(shop.target().deploy(&new)).await;
    assert_eq!(outcome.unwrap().verdict(), Verdict::Deployed);
    assert!(events.iter().any(|e| matches!(e, DeployEvent::Applied { adopted: true, .. })));
    assert_eq!(shop.calls("ecs:UpdateService"), 1);
    assert!(matches!(&events[0], DeployEvent::Planned { changes: false, .. }));
}

#[tokio::test(start_paused = true)]
async fn adopts_a_deployment_that_is_not_listed_yet() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    let new = shop.image("2");
    let mut killed = shop.target().deploy(&new);
    while !matches!(killed.next_event().await, Some(DeployEvent::Applied { .. })) {}
    drop(killed);
    let outcome = shop.target().deploy(&new).await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed);
    assert_eq!(shop.calls("ecs:UpdateService"), 1);
}

#[tokio::test(start_paused = true)]
async fn dropping_stops_watching_and_never_rolls_back() {
    let shop = Shop::new();
    let service = shop.web(&shop.image("1")).create();
    let killed = shop.target().deploy(&shop.image("2"));
    tokio::time::sleep(Duration::from_secs(4)).await;
    drop(killed);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let calls = shop.sandbox.ledger().entries().len();
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(shop.sandbox.ledger().entries().len(), calls, "watching has stopped");
    assert!(service.definition().ends_with("web:2"), "the deployment continued in ECS");
}

#[tokio::test(start_paused = true)]
async fn cancelling_reports_the_deployment_that_continues() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    let deployment = shop.target().deploy(&shop.image("2"));
    tokio::time::sleep(Duration::from_secs(4)).await;
    deployment.cancel();
    match deployment.await {
        Err(error @ Error::Interrupted { deployment: Some(_) }) => {
            assert!(error.to_string().contains("run the same command again"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn concurrent_runs_register_once_and_agree() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    let new = shop.image("2");
    let target = shop.target();
    let (one, two) = tokio::join!(target.deploy(&new), target.deploy(&new));
    assert_eq!((one.unwrap().verdict(), two.unwrap().verdict()), (Verdict::Deployed, Verdict::Deployed));
    assert_eq!(shop.ecs.revisions("web"), 2);
}

#[tokio::test(start_paused = true)]
async fn watching_changes_nothing() {
    let shop = Shop::new();
    let service = shop.web(&shop.image("1")).create();
    let idle = shop.target().watch().await.unwrap();
    assert_eq!((idle.verdict(), idle.changed), (Verdict::Deployed, false));
    let killed = shop.target().deploy(&shop.image("2"));
    tokio::time::sleep(Duration::from_secs(4)).await;
    drop(killed);
    let watched = shop.target().watch().await.unwrap();
    assert_eq!(watched.verdict(), Verdict::Deployed);
    assert_eq!(watched.revision.unwrap().id, service.definition());
    assert!(watched.previous.unwrap().id.ends_with("web:1"));
    assert_eq!(shop.calls("ecs:UpdateService"), 1);
}
