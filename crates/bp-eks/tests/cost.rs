//! What a roll-out of a hundred pods costs the Kubernetes API.

mod common;

use std::collections::BTreeMap;

use bp_artifact::Verdict;
use bp_sandbox::Behaviour;
use serde_json::json;

use common::{World, deploy};

#[tokio::test(start_paused = true)]
async fn a_roll_out_of_a_hundred_pods_asks_no_more_than_one_of_three() {
    let mut costs = Vec::new();
    for replicas in [3, 100] {
        let world = World::with(|deployment| deployment["spec"]["replicas"] = json!(replicas)).await;
        let second = world.image("second", Behaviour::default());
        world.sandbox.ledger().clear();
        let outcome = deploy(&world.target(), &second).await.1.unwrap();
        assert_eq!(outcome.verdict, Verdict::Deployed);
        assert_eq!(outcome.proof.observations.len(), replicas);
        let mut cost: BTreeMap<String, usize> = BTreeMap::new();
        for operation in world.sandbox.ledger().operations(world.cluster.host()) {
            *cost.entry(operation).or_default() += 1;
        }
        costs.push(cost);
    }
    assert_eq!(costs[0], costs[1], "the number of pods costs nothing");
    let watches = costs[1].iter().filter(|(operation, _)| operation.starts_with("watch")).map(|(_, n)| n);
    let all: usize = costs[1].values().sum();
    assert_eq!((watches.sum::<usize>(), all), (4, 14), "{:?}", costs[1]);
}
