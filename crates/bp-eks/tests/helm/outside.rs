//! Objects that were changed outside of helm, other namespaces, and images whose registry a webhook has replaced.

use std::time::Duration;

use bp_artifact::{
    DigestRef, ResolvedImage, Verdict,
    deploy::DeployEvent,
    error::{Classified as _, ErrorClass},
};
use bp_eks::{Error, HelmError, Options};
use bp_sandbox::ImageBuilder;
use serde_json::json;

use crate::{
    common::REGISTRY,
    fixture::{Release, manifest},
};

fn options() -> Options {
    Options::new(Duration::from_secs(60)).unwrap()
}

fn notices(events: &[DeployEvent]) -> Vec<&str> {
    events
        .iter()
        .filter_map(|event| match event {
            DeployEvent::Notice { message, .. } => Some(message.as_str()),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn an_image_changed_by_hand_is_set_again_although_the_manifest_is_unchanged() {
    let it = Release::new(options()).await;
    let first = it.world.first.clone();
    it.write("manifest", &manifest(&first));
    it.write("dry-run", &json!({ "manifest": manifest(&first) }).to_string());
    it.apply_as("kubectl-set", &it.second);
    let (events, outcome) = it
        .run(it.release.upgrade(&first), "upgrade", |it| {
            it.apply(&it.world.first);
            it.write("done", "0");
        })
        .await;
    let outcome = outcome.unwrap();
    assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Deployed, true), "{outcome:?}");
    let second = it.second.reference.to_string();
    let notice = notices(&events).into_iter().find(|notice| notice.contains("changed outside of helm"));
    assert!(notice.is_some_and(|notice| notice.contains(&second)), "{events:?}");

    // Without changes by hand, helm creates no revision.
    let it = Release::new(options()).await;
    it.write("manifest", &manifest(&first));
    it.write("dry-run", &json!({ "manifest": manifest(&first) }).to_string());
    let outcome = it.release.upgrade(&it.world.first).await.unwrap();
    assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Deployed, false), "{outcome:?}");
    assert!(!it.has("upgrade"), "helm was not started");
}

#[tokio::test]
async fn a_workload_deleted_by_hand_is_created_again() {
    let it = Release::new(options()).await;
    let first = it.world.first.clone();
    it.write("manifest", &manifest(&first));
    it.write("dry-run", &json!({ "manifest": manifest(&first) }).to_string());
    it.world.cluster.delete("deployments", "prod", "web");
    let (events, outcome) = it
        .run(it.release.upgrade(&first), "upgrade", |it| {
            it.world.cluster.deployment("prod", "web", &[("web", &it.world.first.reference.to_string())]);
            it.write("done", "0");
        })
        .await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:?}");
    assert!(
        notices(&events).iter().any(|n| n.contains("deployment/web was deleted outside of helm")),
        "{events:?}"
    );
}

#[tokio::test]
async fn a_field_of_another_manager_is_refused_before_helm_is_started_unless_it_is_taken_over() {
    let it = Release::new(options()).await;
    let rendered = json!({ "manifest": manifest(&it.second), "apply_method": "ssa" });
    it.write("dry-run", &rendered.to_string());
    let third = it.world.image("third", bp_sandbox::Behaviour::default());
    it.apply_as("kubectl-set", &third);
    let error = it.release.upgrade(&it.second).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Refused);
    let HelmError::Rollout(Error::Conflict { conflicts, .. }) = &error else { panic!("{error:?}") };
    assert_eq!(conflicts[0].manager, "kubectl-set");
    assert!(error.to_string().contains("--take-over"), "{error}");
    assert!(!it.has("upgrade"), "helm was not started");

    let release = it.world.namespace().helm("web", options().take_over(true));
    let release = release.chart("charts/web").program(it.home.path().join("helm"));
    let (_, outcome) = it
        .run(release.upgrade(&it.second), "upgrade", |it| {
            it.apply(&it.second);
            it.write("done", "0");
        })
        .await;
    assert_eq!(outcome.unwrap().verdict(), Verdict::Deployed);
    let arguments = it.read("arguments");
    let forced = |line: &&str| line.contains("--force-conflicts");
    let forced: Vec<&str> = arguments.lines().filter(forced).collect();
    assert!(matches!(forced[..], [line] if line.contains("--wait=watcher")), "{arguments}");
}

#[tokio::test]
async fn workloads_in_another_namespace_are_watched_and_proven_there() {
    let it = Release::new(options()).await;
    let first = it.world.first.reference.to_string();
    it.world.cluster.deployment("edge", "web", &[("web", &first)]);
    let of =
        |image: &ResolvedImage| manifest(image).replace("{ name: web }", "{ name: web, namespace: edge }");
    it.write("manifest1", &of(&it.world.first));
    it.write("manifest", &of(&it.second));
    it.write("dry-run", &json!({ "manifest": of(&it.second) }).to_string());
    let (events, outcome) = it
        .run(it.release.upgrade(&it.second), "upgrade", |it| {
            let containers = json!([{ "name": "web", "image": it.second.reference.to_string() }]);
            let patch = json!({ "spec": { "template": { "spec": { "containers": containers } } } });
            it.world.cluster.patch("helm", "deployments", "edge", "web", &patch);
            it.write("done", "0");
        })
        .await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:?}");
    assert_eq!(it.world.cluster.running("edge", "web"), vec![it.second.digest().to_string(); 3]);
    assert_eq!(it.world.running_image(), first, "the one in the release's namespace is unchanged");
    assert_eq!(outcome.proof.observations.len(), 3);
    let stage = |event: &DeployEvent| matches!(event, DeployEvent::Progress { progress, .. } if progress.stage.starts_with("deployment/web in the namespace edge: "));
    assert!(events.iter().any(stage), "{events:?}");
    let drift = it.release.drift(&it.second).await.unwrap();
    assert!(drift.verdict.is_success(), "{drift}");
}

#[tokio::test]
async fn an_image_whose_registry_a_webhook_has_replaced_is_the_same_image() {
    let it = Release::new(options()).await;
    let build = ImageBuilder::new().platform("linux/amd64").layer([("app", b"second".to_vec())]).build();
    it.world.sandbox.registry(REGISTRY).push(&build, "mirror/shop/web", "second");
    let reference: DigestRef = format!("{REGISTRY}/mirror/shop/web@{}", it.second.digest()).parse().unwrap();
    assert_eq!(reference.digest().to_string(), build.digest().to_string());
    let mirrored = ResolvedImage { reference, ..it.second.clone() };
    let (_, outcome) = it
        .run(it.release.upgrade(&it.second), "upgrade", |it| {
            it.apply(&mirrored);
            it.write("done", "0");
        })
        .await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:?}");
    // A rerun finds it in place.
    let history =
        [json!({ "revision": 1, "status": "superseded" }), json!({ "revision": 2, "status": "deployed" })];
    it.write("history", &json!(history).to_string());
    let again = it.release.upgrade(&it.second).await.unwrap();
    assert_eq!((again.verdict(), again.changed), (Verdict::Deployed, false), "{again:?}");
}
