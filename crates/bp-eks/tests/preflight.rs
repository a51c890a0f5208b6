//! What is found before anything is changed, and what has drifted: on the sandbox in memory, on a paused clock.

mod common;

use std::time::Duration;

use bp_artifact::{
    Digest, ExitCode, ResolvedImage, Verdict,
    deploy::{Cause, Target},
    resolve::PlatformImage,
};
use bp_eks::{Lookups, Options};
use bp_sandbox::Behaviour;
use serde_json::{Value, json};

use common::{World, deploy, eks};

fn template(spec: Value) -> impl FnOnce(&mut Value) {
    move |deployment| {
        for (field, value) in spec.as_object().unwrap() {
            deployment["spec"]["template"]["spec"][field] = value.clone();
        }
    }
}

async fn found(world: &World, image: &ResolvedImage) -> Vec<(Cause, bool, String)> {
    let found = world.target().preflight(image).await.unwrap();
    assert_eq!(world.sandbox.ledger().count_of("patch deployments"), 0, "it only reads");
    found.findings.into_iter().map(|f| (f.cause, f.certain, f.message)).collect()
}

#[tokio::test(start_paused = true)]
async fn nothing_is_found_where_all_is_well() {
    let world = World::new().await;
    let found = found(&world, &world.image("second", Behaviour::default())).await;
    assert_eq!(found, []);
}

#[tokio::test(start_paused = true)]
async fn each_missing_verb_is_named() {
    let world = World::new().await;
    world.cluster.deny("patch", "deployments");
    world.cluster.deny("get", "pods/log");
    let found = found(&world, &world.image("second", Behaviour::default())).await;
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].1 && found[0].2.contains("\"patch\" on deployments.apps"), "{found:?}");
    assert!(!found[1].1 && found[1].2.contains("\"get\" on pods/log"), "what is only evidence is not fatal");
    // Not even reading is allowed: said, and not an error.
    world.cluster.deny("get", "deployments");
    let all = world.target().preflight(&world.first).await.unwrap();
    assert!(!all.is_clear() && all.findings.len() == 3, "{all:?}");
}

#[tokio::test(start_paused = true)]
async fn an_image_for_other_nodes_is_found() {
    let world = World::new().await;
    let second = world.image("second", Behaviour::default());
    let arm = PlatformImage::new("linux/arm64".parse().unwrap(), Digest::sha256("arm"));
    let other = ResolvedImage { platforms: vec![arm], ..second.clone() };
    let found_other = found(&world, &other).await;
    assert!(matches!(found_other.as_slice(), [(Cause::WrongArchitecture, true, _)]), "{found_other:?}");
    let blind = ResolvedImage { platforms: vec![], ..second };
    let found_blind = found(&world, &blind).await;
    assert!(matches!(found_blind.as_slice(), [(Cause::WrongArchitecture, false, _)]), "{found_blind:?}");
}

/// Nodes of these operating systems and architectures, and no others.
fn nodes(world: &World, platforms: &[(&str, &str)]) {
    for node in world.cluster.objects("nodes", "") {
        world.cluster.delete("nodes", "", node["metadata"]["name"].as_str().unwrap());
    }
    for (n, (os, architecture)) in platforms.iter().enumerate() {
        world.cluster.create(json!({
            "apiVersion": "v1", "kind": "Node", "metadata": { "name": format!("node-{n}"), "labels": {
                "kubernetes.io/os": os, "kubernetes.io/arch": architecture,
            } },
            "status": { "nodeInfo": { "operatingSystem": os, "architecture": architecture } },
        }));
    }
}

/// A manifest that is no index: nothing in it says its platform, its configuration does.
fn single(world: &World, platform: Option<&str>) -> ResolvedImage {
    let second = world.image("second", Behaviour::default());
    let digest = second.digest().clone();
    let platforms = platform.map(|platform| PlatformImage::new(platform.parse().unwrap(), digest));
    ResolvedImage {
        media_type: Some("application/vnd.oci.image.manifest.v1+json".to_owned()),
        platforms: platforms.into_iter().collect(),
        ..second
    }
}

#[tokio::test(start_paused = true)]
async fn an_image_is_held_against_the_nodes_by_operating_system_and_architecture() {
    let world = World::new().await;
    let (amd64, arm64, arm) = (("linux", "amd64"), ("linux", "arm64"), ("linux", "arm"));
    let windows = ("windows", "amd64");
    for (platform, nodes_are, certain) in [
        (Some("linux/amd64"), &[amd64, amd64][..], None),
        (Some("linux/amd64"), &[arm64], Some(true)),
        (Some("linux/amd64"), &[amd64, arm64], Some(false)),
        (Some("windows/amd64"), &[amd64], Some(true)),
        (Some("linux/arm64"), &[arm], Some(true)),
        (Some("linux/arm/v7"), &[arm], None),
        (Some("linux/arm64/v8"), &[arm64], None),
        (Some("windows/amd64"), &[windows], None),
        // What cannot be known is said, and refuses nothing.
        (None, &[amd64], Some(false)),
    ] {
        nodes(&world, nodes_are);
        let found = found(&world, &single(&world, platform)).await;
        let what = format!("{platform:?} on {nodes_are:?}: {found:?}");
        assert_eq!(found.first().map(|found| found.1), certain, "{what}");
        assert!(found.iter().all(|found| found.0 == Cause::WrongArchitecture), "{what}");
        if certain == Some(true) {
            let (os, architecture) = nodes_are[0];
            assert!(found[0].2.contains(platform.unwrap()), "{what}");
            assert!(found[0].2.contains(&format!("{os}/{architecture}")), "{what}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_pods_refer_to_has_to_be_there() {
    // The replicas are none, as they could not start.
    let world = World::with(|deployment| {
        deployment["spec"]["replicas"] = json!(0);
        template(json!({ "serviceAccountName": "web" }))(deployment);
        deployment["spec"]["template"]["spec"]["containers"][0]["env"] = json!([
            { "name": "URL", "valueFrom": { "secretKeyRef": { "name": "db", "key": "url" } } },
            { "name": "X", "valueFrom": { "configMapKeyRef": { "name": "settings", "key": "x" } } },
        ]);
    })
    .await;
    let second = world.image("second", Behaviour::default());
    let causes = |found: &[(Cause, bool, String)]| found.iter().map(|f| (f.0, f.1)).collect::<Vec<_>>();
    let before = found(&world, &second).await;
    let missing =
        [(Cause::ConfigInvalid, true), (Cause::SecretMissing, true), (Cause::PermissionMissing, true)];
    assert_eq!(causes(&before), missing, "{before:?}");

    let make = |kind: &str, name: &str, fields: Value| {
        let mut object =
            json!({ "apiVersion": "v1", "kind": kind, "metadata": { "name": name, "namespace": "prod" } });
        for (field, value) in fields.as_object().unwrap() {
            object[field] = value.clone();
        }
        if kind == "ServiceAccount" {
            object["metadata"]["annotations"] = json!({ "eks.amazonaws.com/role-arn": "shop-web" });
        }
        world.cluster.create(object);
    };
    make("Secret", "db", json!({ "stringData": { "password": "x" } }));
    make("ConfigMap", "settings", json!({ "data": { "x": "1" } }));
    make("ServiceAccount", "web", json!({}));
    let after = found(&world, &second).await;
    assert!(after[0].2.contains("\"db\" has no key \"url\""), "{after:?}");
    assert!(after[1].2.contains("no role's ARN: \"shop-web\""), "{after:?}");
    assert_eq!(after.len(), 2, "{after:?}");

    world.cluster.deny("get", "secrets");
    let blind = found(&world, &second).await;
    assert!(!blind[0].1 && blind[0].2.contains("may not be looked at"), "{blind:?}");
}

/// A workload with a service account of its own.
async fn with_account(annotations: Value) -> World {
    let world = World::with(|deployment| {
        deployment["spec"]["replicas"] = json!(0);
        template(json!({ "serviceAccountName": "web" }))(deployment);
    })
    .await;
    world.cluster.create(json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": { "name": "web", "namespace": "prod", "annotations": annotations },
    }));
    world
}

async fn looked_up(world: &World, lookups: &Lookups) -> Vec<(bool, String)> {
    let found = world.target().preflight_with(&world.first, lookups).await.unwrap();
    found
        .findings
        .into_iter()
        .map(|finding| {
            assert_eq!(finding.cause, Cause::PermissionMissing, "{finding}");
            (finding.certain, finding.message)
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_service_account_without_a_role_is_seen_with_eks_asked() {
    let world = with_account(json!({})).await;
    assert_eq!(looked_up(&world, &Lookups::default()).await, [], "nobody was asked");
    let lookups = Lookups::default().eks(eks(&world.sandbox));
    let found = looked_up(&world, &lookups).await;
    assert!(
        matches!(found.as_slice(), [(false, message)] if message.contains("has no AWS role")),
        "{found:?}"
    );
    world.cluster.pod_identity("prod", "api", "arn:aws:iam::111111111111:role/other");
    assert_eq!(looked_up(&world, &lookups).await.len(), 1, "another account's");
    world.cluster.pod_identity("prod", "web", "arn:aws:iam::111111111111:role/shop-web");
    assert_eq!(looked_up(&world, &lookups).await, []);
    world.sandbox.aws().deny("eks:ListPodIdentityAssociations");
    let found = looked_up(&world, &lookups).await;
    assert!(matches!(found.as_slice(), [(false, why)] if why.contains("AccessDenied")), "{found:?}");
    // The default account is everybody's, and most pods need no role.
    let plain = World::new().await;
    assert_eq!(looked_up(&plain, &Lookups::default().eks(eks(&plain.sandbox))).await, []);
}

#[cfg(feature = "iam")]
#[tokio::test(start_paused = true)]
async fn the_role_of_the_pods_has_to_be_there_and_to_trust_them() {
    let role = "arn:aws:iam::111111111111:role/shop-web";
    let irsa = with_account(json!({ "eks.amazonaws.com/role-arn": role })).await;
    let pod_identity = with_account(json!({})).await;
    pod_identity.cluster.pod_identity("prod", "web", role);
    let provider = "arn:aws:iam::111111111111:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/SANDBOX";
    let by_subject = |subject: &str| {
        json!({ "Statement": [{
            "Effect": "Allow", "Principal": { "Federated": provider }, "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": { "StringEquals": { "oidc.eks.eu-central-1.amazonaws.com/id/SANDBOX:sub": subject } },
        }] })
    };
    let by_service = json!({ "Statement": [{
        "Effect": "Allow", "Principal": { "Service": "pods.eks.amazonaws.com" },
        "Action": ["sts:AssumeRole", "sts:TagSession"],
    }] });
    let (ours, others) =
        (by_subject("system:serviceaccount:prod:web"), by_subject("system:serviceaccount:prod:api"));
    for (world, right, wrong, says) in [
        (&irsa, &ours, &others, "does not match system:serviceaccount:prod:web"),
        (&pod_identity, &by_service, &ours, "does not allow pods.eks.amazonaws.com sts:AssumeRole"),
    ] {
        let lookups = Lookups::default().eks(eks(&world.sandbox)).iam(common::iam(&world.sandbox));
        let found = looked_up(world, &lookups).await;
        assert!(matches!(found.as_slice(), [(true, why)] if why.contains("does not exist")), "{found:?}");
        world.sandbox.aws().role_with("111111111111", "shop-web", wrong);
        let found = looked_up(world, &lookups).await;
        assert!(matches!(found.as_slice(), [(true, why)] if why.contains(says)), "{found:?}");
        world.sandbox.aws().role_with("111111111111", "shop-web", right);
        assert_eq!(looked_up(world, &lookups).await, []);
        world.sandbox.aws().deny("iam:GetRole");
        let found = looked_up(world, &lookups).await;
        assert!(matches!(found.as_slice(), [(false, why)] if why.contains("iam:GetRole")), "{found:?}");
    }
    let foreign =
        with_account(json!({ "eks.amazonaws.com/role-arn": "arn:aws:iam::222222222222:role/x" })).await;
    let lookups = Lookups::default().eks(eks(&foreign.sandbox)).iam(common::iam(&foreign.sandbox));
    let found = looked_up(&foreign, &lookups).await;
    assert!(matches!(found.as_slice(), [(false, why)] if why.contains("another account")), "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn drift_is_what_differs_from_the_image_that_is_to_run() {
    let world = World::new().await;
    let (target, second) = (world.target(), world.image("second", Behaviour::default()));
    deploy(&target, &second).await.1.unwrap();
    let drift = target.drift(&second).await.unwrap();
    assert!(drift.is_none(), "{drift}");

    let other = json!({ "spec": { "template": { "spec": { "containers": [
        { "name": "web", "image": world.first.reference.to_string() },
    ] } } } });
    world.cluster.patch("kubectl-edit", "deployments", "prod", "web", &other);
    let drift = Target::drift(&target, &second).await.unwrap();
    assert_eq!(ExitCode::from(&drift), ExitCode::Drift);
    assert_eq!(drift.definition[0].path, "spec.template.spec.containers[web].image");
    assert_eq!(drift.service.len(), 1, "a roll-out is under way: {drift}");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let drift = target.drift(&second).await.unwrap();
    assert_eq!((drift.verdict, drift.service.len()), (Verdict::DigestMismatch, 0), "{drift}");
}

#[tokio::test(start_paused = true)]
async fn the_plan_shows_what_would_change_and_the_environment_comes_with_the_image() {
    let world = World::new().await;
    let second = world.image("second", Behaviour::default());
    let options = || Options::new(Duration::from_secs(60)).unwrap().environment("DEPLOY_PLATFORM", "eks");
    let target = world.of("web", "web", options().take_over(true));
    let plan = target.plan(&second).await.unwrap();
    let paths: Vec<&str> = plan.changes.iter().map(|change| change.path.as_str()).collect();
    let container = "spec.template.spec.containers[web]";
    assert_eq!(paths, [format!("{container}.env[DEPLOY_PLATFORM].value"), format!("{container}.image")]);
    assert_eq!(plan.conflicts[0].manager, "kubectl-client-side-apply");
    assert_eq!(world.running_image(), world.first.reference.to_string(), "nothing was changed");

    let (events, outcome) = deploy(&target, &second).await;
    assert_eq!(outcome.unwrap().verdict(), Verdict::Deployed);
    let applied =
        events.iter().position(|e| matches!(e, bp_artifact::deploy::DeployEvent::Applied { .. })).unwrap();
    let shown = events[..applied].iter().any(
        |e| matches!(e, bp_artifact::deploy::DeployEvent::Notice { message, .. } if message.contains("DEPLOY_PLATFORM")),
    );
    assert!(shown, "what changes is shown before it is applied: {events:?}");
    let deployment = world.cluster.object("deployments", "prod", "web").unwrap();
    let env = &deployment["spec"]["template"]["spec"]["containers"][0]["env"];
    assert_eq!(*env, json!([{ "name": "DEPLOY_PLATFORM", "value": "eks" }]));
    assert!(target.plan(&second).await.unwrap().changes.is_empty());
    // The way back takes the variable away again.
    target.rollback().await.unwrap();
    let deployment = world.cluster.object("deployments", "prod", "web").unwrap();
    assert!(deployment["spec"]["template"]["spec"]["containers"][0]["env"].is_null());
}
