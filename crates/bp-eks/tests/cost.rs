//! API requests of a rollout: their number is independent of the number of pods.

mod common;

use std::collections::BTreeMap;

use bp_artifact::Verdict;
use bp_sandbox::Behaviour;
use serde_json::json;

use common::{World, deploy};

/// The requests of a rollout with `replicas` pods, by operation.
async fn cost(replicas: usize) -> BTreeMap<String, usize> {
    let world = World::with(|deployment| deployment["spec"]["replicas"] = json!(replicas)).await;
    let second = world.image("second", Behaviour::default());
    world.sandbox.ledger().clear();
    let outcome = deploy(&world.target(), &second).await.1.unwrap();
    assert_eq!((outcome.verdict(), outcome.proof.observations.len()), (Verdict::Deployed, replicas));
    let mut cost = BTreeMap::new();
    for operation in world.sandbox.ledger().operations(world.cluster.host()) {
        *cost.entry(operation).or_default() += 1;
    }
    cost
}

fn watches(cost: &BTreeMap<String, usize>) -> usize {
    cost.iter().filter(|(operation, _)| operation.starts_with("watch")).map(|(_, times)| times).sum()
}

#[tokio::test(start_paused = true)]
async fn request_count_is_independent_of_the_pod_count() {
    let (few, more) = (cost(3).await, cost(15).await);
    assert_eq!(few, more);
    assert_eq!(watches(&more), 4);
}

/// Lists have pages of 500 objects.
#[tokio::test(start_paused = true)]
async fn a_thousand_pods_cost_at_most_twenty_requests() {
    let cost = cost(1_000).await;
    let all: usize = cost.values().sum();
    assert!(all <= 20 && watches(&cost) == 4, "{all} requests: {cost:?}");
}
