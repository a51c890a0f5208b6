//! The status of a release, its drift, and how an operation of another run is followed.

use std::time::Duration;

use bp_artifact::{Verdict, deploy::DeployEvent};
use bp_eks::{HelmError, HelmRelease, Options};
use serde_json::{Value, json};

use crate::{
    common::{check_stream, crash},
    fixture::{Release, manifest},
};

fn options() -> Options {
    Options::new(Duration::from_secs(60)).unwrap()
}

fn history(it: &Release, revisions: &[(u32, &str)]) {
    let revision = |(number, status): &(u32, &str)| {
        let description = if *status == "failed" { "Upgrade failed: timed out" } else { "" };
        json!({ "revision": number, "status": status, "chart": "web-1.2.0", "description": description })
    };
    it.write("history", &Value::from_iter(revisions.iter().map(revision)).to_string());
}

/// Follows the release; calls `act` when its history and the manifest were read.
async fn follow(
    it: &Release,
    work: bp_eks::helm::HelmRun,
    act: impl Fn(&Release),
) -> (Vec<DeployEvent>, bp_artifact::Outcome) {
    let (events, outcome) = it.run(work, "got", act).await;
    (events, outcome.unwrap())
}

#[tokio::test]
async fn status_shows_the_last_revisions_and_what_the_workloads_run() {
    let it = Release::new(options()).await;
    history(&it, &[(1, "superseded"), (2, "superseded"), (3, "superseded"), (4, "pending-upgrade")]);
    it.write("manifest", &manifest(&it.world.first));
    let status = it.release.status().await.unwrap();
    assert_eq!(
        (status.state.as_str(), status.revision.as_ref().unwrap().id.as_str()),
        ("pending-upgrade", "4")
    );
    assert!(status.is_in_progress());
    let ids: Vec<&str> = status.deployments.iter().map(|d| d.id.as_str()).collect();
    assert_eq!(ids[..3], ["helm revision 4", "helm revision 3", "helm revision 2"]);
    assert!(ids[3].starts_with("deployment/web generation"), "{ids:?}");
    let web = status.containers.iter().find(|c| c.name == "deployment/web web").unwrap();
    assert_eq!(web.running[0].count, 3, "{status}");
    assert_eq!((status.progress.desired, status.progress.running), (3, 3));
    assert!(status.notes.iter().any(|note| note.contains("pending-upgrade")), "{status}");

    // What cannot be read is a note.
    it.world.cluster.deny("list", "pods");
    let status = it.release.status().await.unwrap();
    assert!(status.notes.iter().any(|note| note.contains("deployment/web could not be read")), "{status}");
    it.write("history", "[]");
    assert!(matches!(it.release.status().await, Err(HelmError::NotFound { .. })));
}

#[tokio::test]
async fn wait_follows_an_upgrade_of_another_run_to_its_verdict_and_changes_nothing() {
    let it = Release::new(options()).await;
    history(&it, &[(1, "deployed"), (2, "pending-upgrade")]);
    let release: HelmRelease = it.release.clone().known_image(it.second.clone());
    let (events, outcome) = follow(&it, release.watch(), |it| {
        it.apply(&it.second);
        history(it, &[(1, "superseded"), (2, "deployed")]);
    })
    .await;
    assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Deployed, false), "{outcome:?}");
    assert_eq!(outcome.proof.observations.len(), 3);
    assert_eq!(outcome.previous.as_ref().unwrap().id, "1");
    check_stream("wait", &it.release.id(), &events, &outcome);

    // Nothing is in progress.
    let again = release.watch().await.unwrap();
    assert_eq!(again.verdict(), Verdict::Deployed, "{again:?}");
    assert!(!it.has("upgrade") && !it.has("rollback"));
}

#[tokio::test]
async fn wait_reports_failed_and_superseded_revisions() {
    let it = Release::new(options()).await;
    let crash = it.world.image("crash", crash());
    it.write("manifest", &manifest(&crash));
    history(&it, &[(1, "deployed"), (2, "pending-upgrade")]);
    let (events, outcome) =
        follow(&it, it.release.watch(), |it| it.apply(&it.world.image("crash", crate::common::crash())))
            .await;
    assert_eq!(outcome.verdict(), Verdict::FailedInPlace, "{outcome:?}");
    assert_eq!(outcome.failure.as_ref().unwrap().exit_code, Some(3));
    check_stream("a failed wait", &it.release.id(), &events, &outcome);
    assert!(!it.has("rollback"));

    let it = Release::new(options()).await;
    history(&it, &[(1, "deployed"), (2, "pending-upgrade")]);
    let (_, outcome) = follow(&it, it.release.watch(), |it| {
        history(it, &[(1, "deployed"), (2, "failed"), (3, "pending-upgrade")]);
    })
    .await;
    assert_eq!(outcome.verdict(), Verdict::Superseded, "{outcome:?}");

    let it = Release::new(options()).await;
    history(&it, &[(1, "deployed"), (2, "failed")]);
    let outcome = it.release.watch().await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::FailedInPlace, "{outcome:?}");
    assert!(outcome.detail.contains("Upgrade failed: timed out"), "{}", outcome.detail);
    // On request it is rolled back to the deployed revision.
    it.write("done", "0");
    let outcome = it.release.resume().await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::RolledBack, "{outcome:?}");
    let arguments = it.read("arguments");
    assert!(
        arguments.lines().any(|line| line.starts_with("rollback") && line.ends_with("-- web 1")),
        "{arguments}"
    );
}

#[tokio::test]
async fn a_revision_that_stays_pending_is_not_a_failure() {
    let it = Release::new(Options::new(Duration::from_secs(1)).unwrap()).await;
    it.apply(&it.second);
    history(&it, &[(1, "deployed"), (2, "pending-upgrade")]);
    let outcome = it.release.watch().await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::DeadlineExceeded, "{outcome:?}");
    assert!(!it.has("rollback"));
}

#[tokio::test]
async fn changes_by_hand_that_helm_keeps_are_drift_by_name() {
    let it = Release::new(options()).await;
    let first = it.world.first.clone();
    it.write("manifest", &manifest(&first));
    let none = it.release.drift(&first).await.unwrap();
    assert!(none.is_none(), "{none}");

    let debug = json!([{ "name": "web", "env": [{ "name": "DEBUG", "value": "1" }] }]);
    let patch = json!({ "spec": { "template": { "spec": { "containers": debug } } } });
    it.world.cluster.patch("kubectl-edit", "deployments", "prod", "web", &patch);
    assert!(it.world.cluster.settled("prod", "web").await);
    let drift = it.release.drift(&first).await.unwrap();
    assert!(!drift.is_none() && drift.verdict.is_success(), "{drift}");
    let change =
        drift.definition.iter().find(|change| change.path.ends_with("containers[web].env[DEBUG].value"));
    assert!(
        change.is_some_and(|change| change.to.as_deref() == Some("1 (set with kubectl-edit)")),
        "{drift}"
    );

    // A rerun reports it too.
    it.write("dry-run", &json!({ "manifest": manifest(&first) }).to_string());
    it.write("manifest1", &manifest(&first));
    let mut work = it.release.upgrade(&first);
    let mut notices = Vec::new();
    while let Some(event) = work.next_event().await {
        if let DeployEvent::Notice { message, .. } = event {
            notices.push(message);
        }
    }
    assert_eq!(work.await.unwrap().verdict(), Verdict::Deployed);
    assert!(notices.iter().any(|n| n.contains("env[DEBUG].value") && n.starts_with("drift")), "{notices:?}");

    // Another digest, a release that is not deployed.
    history(&it, &[(1, "deployed"), (2, "failed")]);
    let drift = it.release.drift(&it.second).await.unwrap();
    assert_eq!(drift.verdict, Verdict::DigestMismatch, "{drift}");
    assert!(
        drift.to_string().contains("revision 2 of the release: found failed, wanted deployed"),
        "{drift}"
    );
    assert!(drift.to_string().contains("the image in the manifest of the release"), "{drift}");
}

/// Helm applies the objects and ends; the caller cancels then, and another run follows the revision.
#[tokio::test]
async fn without_waiting_helm_ends_before_the_workloads_and_wait_proves_or_rolls_back_the_revision() {
    for broken in [false, true] {
        let it = Release::new(options()).await;
        let image = if broken { it.world.image("crash", crash()) } else { it.second.clone() };
        it.write("manifest", &manifest(&image));
        it.write("dry-run", &json!({ "manifest": manifest(&image) }).to_string());
        let mut work = it.release.clone().applies_only(true).upgrade(&image);
        let (mut applied, mut acted) = (None, false);
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        loop {
            tokio::select! {
                event = work.next_event() => match event {
                    Some(DeployEvent::Applied { deployment, .. }) => {
                        applied = Some((deployment, acted));
                        work.cancel();
                    }
                    Some(_) => {}
                    None => break,
                },
                _ = tick.tick(), if !acted => if it.has("upgrade") {
                    acted = true;
                    it.apply(&image);
                    history(&it, &[(1, "superseded"), (2, "deployed")]);
                    it.write("done", "0");
                },
            }
        }
        assert!(matches!(work.await, Err(HelmError::Interrupted { .. })));
        // Not when helm was started: it would be stopped then.
        assert_eq!(applied, Some(("helm revision 2".to_owned(), true)));
        assert!(it.read("arguments").contains("--wait=hookOnly"), "{}", it.read("arguments"));
        assert!(!it.has("rollback"));
        std::fs::remove_file(it.home.path().join("done")).unwrap();

        let release: HelmRelease = it.release.clone().known_image(image);
        if broken {
            let (_, outcome) = it
                .run(release.resume(), "rollback", |it| {
                    it.apply(&it.world.first);
                    it.write("done", "0");
                })
                .await;
            let outcome = outcome.unwrap();
            assert_eq!(outcome.verdict(), Verdict::RolledBack, "{outcome:?}");
            assert_eq!(outcome.previous.unwrap().id, "1");
        } else {
            let outcome = release.watch().await.unwrap();
            assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:?}");
            assert_eq!(outcome.proof.observations.len(), 3);
        }
    }
}
