//! A rollout or a switch that is dropped at any await is completed by the same command, and nothing is done twice.

mod common;

use bp_artifact::Verdict;
use bp_eks::traffic::Slots;
use bp_sandbox::{Behaviour, cut};
use common::World;
use serde_json::json;

/// A paused clock, and no other task between two polls.
fn paused() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().start_paused(true).event_interval(1).build().unwrap()
}

/// Up to which poll each one is tried, in `cargo xtask soak --kills` more of them.
fn dense() -> usize {
    if std::env::var_os("BP_SOAK").is_some() { 300 } else { 8 }
}

#[test]
fn a_rollout_dropped_at_any_await_is_completed_by_a_rerun() {
    let cuts = cut::at_every_poll(paused, dense(), async |cut| {
        let world = World::new().await;
        let new = world.image("second", Behaviour::default());
        let first = world.first.reference.to_string();
        let ended = cut.run(|| async { world.target().deploy(&new).await }).await;
        let target = world.target();
        let current = target.current().await.unwrap();
        if ended.is_none() && current.rolling_out.is_some() {
            assert_eq!(current.stable.image, first, "dropped after poll {}", cut.polls());
        }
        let outcome = target.deploy(&new).await.unwrap();
        assert_eq!(outcome.verdict(), Verdict::Deployed, "dropped after poll {}: {outcome:?}", cut.polls());
        assert_eq!(outcome.revision.unwrap().id, "2", "one change, dropped after poll {}", cut.polls());
        assert_eq!(world.running_image(), new.reference.to_string());
    });
    assert!(cuts > 10, "{cuts}");
}

#[test]
fn an_undo_dropped_at_any_await_is_completed_by_a_rerun() {
    let cuts = cut::at_every_poll(paused, dense(), async |cut| {
        let world = World::new().await;
        let target = world.target();
        let before = target.current().await.unwrap().stable;
        target.deploy(&world.image("second", Behaviour::default())).await.unwrap();
        cut.run(|| async { world.target().restore(&before).await }).await;
        let outcome = target.restore(&before).await.unwrap();
        assert_eq!(outcome.verdict(), Verdict::Deployed, "dropped after poll {}: {outcome:?}", cut.polls());
        assert_eq!(world.running_image(), before.image.to_string(), "dropped after poll {}", cut.polls());
    });
    assert!(cuts > 10, "{cuts}");
}

#[test]
fn a_switch_dropped_at_any_await_is_completed_by_a_rerun() {
    let cuts = cut::at_every_poll(paused, dense(), async |cut| {
        let labels = json!({ "app": "web", "slot": "blue" });
        let world = World::with(|deployment| {
            deployment["metadata"]["name"] = json!("web-blue");
            deployment["spec"]["selector"]["matchLabels"] = labels.clone();
            deployment["spec"]["template"]["metadata"]["labels"] = labels.clone();
        })
        .await;
        world.cluster.create(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": "web", "namespace": "prod" },
            "spec": { "ports": [{ "name": "http", "port": 80, "targetPort": 8080 }], "selector": labels },
        }));
        let options = || bp_eks::Options::new(std::time::Duration::from_secs(300)).unwrap().take_over(true);
        let service =
            || world.namespace().blue_green("web", Slots::of_service("web"), options()).container("web");
        let new = world.image("second", Behaviour::default());
        service().stage(&new).await.unwrap();
        cut.run(|| async { service().switch(&new).await }).await;
        let outcome = service().switch(&new).await.unwrap();
        assert_eq!(outcome.verdict(), Verdict::Deployed, "dropped after poll {}: {outcome:?}", cut.polls());
        let slot = world.cluster.object("services", "prod", "web").unwrap();
        assert_eq!(slot["spec"]["selector"]["slot"], "green", "dropped after poll {}", cut.polls());
        let back = service().switch_back().await.unwrap();
        assert_eq!(back.verdict(), Verdict::Deployed, "the previous slot is recorded, poll {}", cut.polls());
    });
    assert!(cuts > 10, "{cuts}");
}
