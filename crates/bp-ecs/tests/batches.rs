//! Several services in one run: joint API calls at common poll times, and the polling interval.

mod common;

use std::time::Duration;

use bp_artifact::Verdict;
use bp_ecs::Cluster;
use common::{Shop, definition, options};
use futures_util::future::join_all;
use serde_json::json;

/// Creates `count` services, each with its own task definition family.
fn services(shop: &Shop, count: usize) -> Vec<String> {
    let image = shop.image("1");
    let names: Vec<String> = (0..count).map(|n| format!("web-{n}")).collect();
    for name in &names {
        let mut own = definition(&image);
        own["family"] = json!(name);
        shop.ecs.new_service("shop", name).task_definition(own).create();
    }
    names
}

/// Deploys to `count` services concurrently; returns the number of DescribeServices and DescribeServiceDeployments
/// calls.
async fn described(count: usize) -> (usize, usize) {
    let shop = Shop::new();
    let names = services(&shop, count);
    let new = shop.image("2");
    let cluster = Cluster::new(shop.client(), "shop");
    let deployments: Vec<_> =
        names.iter().map(|name| cluster.service(name, options()).container("web").deploy(&new)).collect();
    for outcome in join_all(deployments.into_iter().map(IntoFuture::into_future)).await {
        assert_eq!(outcome.unwrap().verdict(), Verdict::Deployed);
    }
    (shop.calls("ecs:DescribeServices"), shop.calls("ecs:DescribeServiceDeployments"))
}

#[tokio::test(start_paused = true)]
async fn twenty_five_services_take_five_calls_per_poll() {
    let (one, many) = (described(1).await, described(25).await);
    // Three calls of up to ten services each, and two of up to twenty deployments; plus a few polls, because not all
    // services end at the same poll.
    assert!(many.0 <= 3 * (one.0 + 3), "DescribeServices: {} for one, {} for 25", one.0, many.0);
    assert!(many.1 <= 2 * (one.1 + 4), "DescribeServiceDeployments: {} for one, {} for 25", one.1, many.1);
}

#[tokio::test(start_paused = true)]
async fn a_missing_service_does_not_affect_the_others() {
    let shop = Shop::new();
    let names = services(&shop, 3);
    let new = shop.image("2");
    let cluster = Cluster::new(shop.client(), "shop");
    let mut all = names.clone();
    all.push("nope".to_owned());
    let deployments: Vec<_> =
        all.iter().map(|name| cluster.service(name, options()).container("web").deploy(&new)).collect();
    let ends = join_all(deployments.into_iter().map(IntoFuture::into_future)).await;
    assert!(ends[..3].iter().all(|end| end.as_ref().unwrap().verdict().is_success()));
    assert!(ends[3].as_ref().unwrap_err().to_string().contains("no service \"nope\""));
}

#[tokio::test(start_paused = true)]
async fn polls_fast_until_tasks_run_then_slowly_with_jitter() {
    let shop = Shop::new();
    let bake = json!({ "strategy": "BLUE_GREEN", "bakeTimeInMinutes": 2 });
    shop.web(&shop.image("1")).with("deploymentConfiguration", bake).create();
    shop.sandbox.ledger().clear();
    shop.target().deploy(&shop.image("2")).await.unwrap();
    let polls: Vec<_> = shop
        .sandbox
        .ledger()
        .entries()
        .into_iter()
        .filter(|e| e.operation == "ecs:DescribeServices")
        .collect();
    let pauses: Vec<Duration> =
        polls.windows(2).map(|w| Duration::try_from(w[1].at.duration_since(w[0].at)).unwrap()).collect();
    let within = |pause: &Duration, from: u64, to: u64| (from..=to).contains(&(pause.as_millis() as u64));
    // The first poll is the survey, which the update follows; the last one is at the end of the time after the success.
    // A poll that describes listed tasks follows soon.
    let regular = &pauses[1..pauses.len() - 1];
    let pauses: Vec<Duration> = regular.iter().filter(|pause| !within(pause, 250, 500)).copied().collect();
    let (brisk, calm): (Vec<_>, Vec<_>) = pauses.iter().partition(|pause| within(pause, 1000, 2000));
    assert!(brisk.len() >= 3 && calm.len() >= 20, "{pauses:?}");
    assert!(calm.iter().all(|pause| within(pause, 3000, 5500)), "{calm:?}");
    assert!(calm.windows(2).any(|w| w[0] != w[1]), "with jitter");
}
