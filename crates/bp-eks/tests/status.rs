//! Watching a rollout that another command started, and the status of a workload; neither changes anything.

mod common;

use bp_artifact::{
    ResolvedImage, Verdict,
    deploy::{Cause, DeployEvent},
};
use bp_sandbox::Behaviour;

use common::{World, crash};

/// Starts a rollout and stops following it once it is applied.
async fn start(world: &World, image: &ResolvedImage) {
    let mut rollout = world.target().deploy(image);
    while let Some(event) = rollout.next_event().await {
        if matches!(event, DeployEvent::Applied { .. }) {
            break;
        }
    }
    drop(rollout);
    world.sandbox.ledger().clear();
}

fn changes(world: &World) -> usize {
    world.sandbox.ledger().count(|entry| {
        ["patch ", "update ", "create ", "delete "].iter().any(|verb| entry.operation.starts_with(verb))
    })
}

#[tokio::test(start_paused = true)]
async fn watches_a_rollout_to_its_end_and_changes_nothing() {
    let world = World::new().await;
    let second = world.image("second", Behaviour::default());
    start(&world, &second).await;
    let target = world.target().known_image(second.clone());
    let outcome = target.watch().await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:?}");
    assert_eq!(outcome.image.as_ref(), Some(&second.reference));
    assert_eq!(outcome.proof.observations.len(), 3);
    // Afterwards no rollout is in progress: the digests are proven again.
    let again = target.watch().await.unwrap();
    assert_eq!((again.verdict(), again.changed), (Verdict::Deployed, false));
    assert_eq!(changes(&world), 0);
}

#[tokio::test(start_paused = true)]
async fn a_failed_rollout_is_left_in_place_by_watch_and_rolled_back_by_resume() {
    let world = World::new().await;
    let broken = world.image("crash", crash());
    start(&world, &broken).await;
    let outcome = world.target().watch().await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::FailedInPlace, "{outcome:?}");
    assert_eq!(outcome.failure.unwrap().cause, Cause::ContainerExited);
    assert_eq!((changes(&world), world.running_image()), (0, broken.reference.to_string()));

    let outcome = world.target().resume().await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::RolledBack, "{outcome:?}");
    assert_eq!(world.running_image(), world.first.reference.to_string());
}

#[tokio::test(start_paused = true)]
async fn shows_revisions_digests_and_failing_pods_in_four_calls() {
    let world = World::new().await;
    let status = world.target().status().await.unwrap();
    assert_eq!((status.state.as_str(), status.is_in_progress()), ("complete", false));
    assert_eq!((status.progress.desired, status.progress.running), (3, 3));
    let web = status.containers.iter().find(|container| container.name == "web").unwrap();
    assert_eq!(web.image.as_deref(), Some(world.first.reference.to_string().as_str()));
    let [running] = &web.running[..] else { panic!("{web:?}") };
    assert_eq!((running.count, running.revision.as_str()), (3, "1"));
    assert!(world.first.covers(running.digest.as_ref().unwrap()));

    start(&world, &world.image("crash", crash())).await;
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    world.sandbox.ledger().clear();
    let status = world.target().status().await.unwrap();
    let calls = world.sandbox.ledger().operations(world.cluster.host());
    assert_eq!(calls.len(), 4, "{calls:?}");
    let text = status.to_string();
    assert!(status.is_in_progress() && text.contains("what to do: "), "{text}");
    assert_eq!(status.deployments[0].revision.as_deref(), Some("2"), "{text}");
    assert_eq!(status.deployments[0].strategy.as_deref(), Some("RollingUpdate"), "{text}");
    let failed = status.failures.first().unwrap();
    assert_eq!(
        (failed.failure.cause, failed.failure.container.as_deref()),
        (Cause::ContainerExited, Some("web"))
    );
    assert!(status.events.iter().all(|event| event.at.is_some()), "{text}");
}

#[tokio::test(start_paused = true)]
async fn events_that_cannot_be_read_are_a_note() {
    let world = World::new().await;
    world.cluster.deny("list", "events");
    let status = world.target().status().await.unwrap();
    assert!(status.notes[0].contains("events could not be read"), "{:?}", status.notes);
}
