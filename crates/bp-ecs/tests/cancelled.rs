//! A deployment that is dropped at any await is completed by the same command, and nothing is done twice.

mod common;

use bp_artifact::Verdict;
use bp_sandbox::cut;
use common::{Shop, exits};

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
fn a_deployment_dropped_at_any_await_is_completed_by_a_rerun() {
    let cuts = cut::at_every_poll(paused, dense(), async |cut| {
        let shop = Shop::new();
        let (old, new) = (shop.image("1"), shop.image("2"));
        let service = shop.web(&old).create();
        let before = service.definition();
        let ended = cut.run(|| async { shop.target().deploy(&new).await }).await;
        let target = shop.target();
        let current = target.current().await.unwrap();
        if ended.is_none() && current.rolling_out.is_some() {
            assert_eq!(current.stable.id, before, "dropped after poll {}", cut.polls());
        }
        let outcome = target.deploy(&new).await.unwrap();
        assert_eq!(outcome.verdict(), Verdict::Deployed, "dropped after poll {}: {outcome:?}", cut.polls());
        assert_eq!(shop.ecs.revisions("web"), 2, "one registration, dropped after poll {}", cut.polls());
        assert_eq!(service.deployments().len(), 2, "one deployment, dropped after poll {}", cut.polls());
        if outcome.changed {
            assert_eq!(outcome.previous.unwrap().id, before);
        }
    });
    assert!(cuts > 15, "{cuts}");
}

#[test]
fn a_rollback_dropped_at_any_await_is_completed_by_a_rerun() {
    let cuts = cut::at_every_poll(paused, dense(), async |cut| {
        let shop = Shop::new();
        let (old, new) = (shop.image("1"), shop.image("2"));
        let service = shop.web(&old).create();
        let target = shop.target();
        let before = target.current().await.unwrap().stable;
        target.deploy(&new).await.unwrap();
        cut.run(|| async { shop.target().restore(&before).await }).await;
        let outcome = target.restore(&before).await.unwrap();
        assert_eq!(outcome.verdict(), Verdict::Deployed, "dropped after poll {}: {outcome:?}", cut.polls());
        assert_eq!(service.definition(), before.id);
        assert_eq!(shop.ecs.revisions("web"), 2, "dropped after poll {}", cut.polls());
    });
    assert!(cuts > 15, "{cuts}");
}

#[test]
fn a_failing_deployment_dropped_at_any_await_ends_with_the_previous_revision() {
    let cuts = cut::at_every_poll(paused, dense(), async |cut| {
        let shop = Shop::new();
        let old = shop.image("1");
        let new = shop.image_that("2", exits(1, 1));
        let service = shop.web(&old).circuit_breaker().create();
        let before = service.definition();
        cut.run(|| async { shop.target().deploy(&new).await }).await;
        let outcome = shop.target().deploy(&new).await.unwrap();
        assert_eq!(outcome.verdict(), Verdict::RolledBack, "dropped after poll {}: {outcome:?}", cut.polls());
        assert_eq!(service.definition(), before, "dropped after poll {}", cut.polls());
    });
    assert!(cuts > 15, "{cuts}");
}
