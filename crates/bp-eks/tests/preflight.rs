//! Preflight findings and drift, on the sandbox in memory with a paused clock.

mod common;

use std::time::Duration;

use bp_artifact::{
    Digest, ExitCode, ResolvedImage, Verdict,
    deploy::{
        Cause, Target,
        preflight::{Finding, FindingState},
    },
    resolve::PlatformImage,
};
use bp_eks::{Options, preflight::Lookups};
use bp_sandbox::{Behaviour, Effect, Fault};
use serde_json::{Value, json};

use common::{World, deploy, eks};

fn template(spec: Value) -> impl FnOnce(&mut Value) {
    move |deployment| {
        for (field, value) in spec.as_object().unwrap() {
            deployment["spec"]["template"]["spec"][field] = value.clone();
        }
    }
}

fn problems(findings: Vec<Finding>) -> Vec<Finding> {
    let is_problem = |f: &Finding| f.state != FindingState::Present && !f.subject.starts_with("field ");
    findings.into_iter().filter(is_problem).collect()
}

/// The problems that preflight finds for `image`, except for fields to take over.
async fn found(world: &World, image: &ResolvedImage) -> Vec<Finding> {
    let spec = || world.cluster.object("deployments", "prod", "web").unwrap()["spec"].clone();
    let before = spec();
    let found = world.target().preflight(image, &Lookups::default()).await.unwrap();
    assert_eq!(spec(), before, "nothing is changed");
    problems(found.findings)
}

#[tokio::test(start_paused = true)]
async fn reports_no_problems_when_ready() {
    let world = World::new().await;
    let second = world.image("second", Behaviour::default());
    assert_eq!(found(&world, &second).await, []);
    let found = world.target().preflight(&second, &Lookups::default()).await.unwrap().to_string();
    for said in [
        "eks/shop/prod/deployment/web: can be deployed\n",
        "ok: permissions in the namespace \"prod\": all ",
        &format!("ok: image {}: for linux/amd64\n", second.reference),
    ] {
        assert!(found.contains(said), "{said}: {found}");
    }
}

#[tokio::test(start_paused = true)]
async fn reports_each_missing_verb() {
    let world = World::new().await;
    world.cluster.deny("patch", "deployments");
    world.cluster.deny("get", "pods/log");
    let found = found(&world, &world.image("second", Behaviour::default())).await;
    assert_eq!(found.len(), 2, "{found:?}");
    let said: Vec<_> = found.iter().map(|f| (f.subject.as_str(), f.state)).collect();
    let patch = ("verb patch on deployments.apps", FindingState::Denied);
    assert_eq!(said, [patch, ("verb get on pods/log", FindingState::Warning)], "evidence is optional");
    assert!(found[0].message.contains("in the namespace \"prod\""), "{found:?}");
    // Even reading is denied: a finding, not an error.
    world.cluster.deny("get", "deployments");
    let all = world.target().preflight(&world.first, &Lookups::default()).await.unwrap();
    assert!(!all.is_ready() && all.findings.len() == 3, "{all:?}");
}

#[tokio::test(start_paused = true)]
async fn reports_an_image_for_other_platforms() {
    let world = World::new().await;
    let second = world.image("second", Behaviour::default());
    let arm = PlatformImage::new("linux/arm64".parse().unwrap(), Digest::sha256("arm"));
    let other = ResolvedImage { platforms: vec![arm], ..second.clone() };
    let found_other = found(&world, &other).await;
    assert_eq!(states(&found_other), [(Some(Cause::WrongArchitecture), FindingState::Invalid)]);
    let blind = ResolvedImage { platforms: vec![], ..second };
    let found_blind = found(&world, &blind).await;
    assert_eq!(states(&found_blind), [(Some(Cause::WrongArchitecture), FindingState::Unknown)]);
}

fn states(found: &[Finding]) -> Vec<(Option<Cause>, FindingState)> {
    found.iter().map(|finding| (finding.cause, finding.state)).collect()
}

/// Replaces the nodes by nodes of these operating systems and architectures.
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

/// A manifest that is not an index: only its configuration contains the platform.
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
async fn compares_image_platforms_with_node_platforms() {
    let world = World::new().await;
    let (amd64, arm64, arm) = (("linux", "amd64"), ("linux", "arm64"), ("linux", "arm"));
    let windows = ("windows", "amd64");
    for (platform, nodes_are, state) in [
        (Some("linux/amd64"), &[amd64, amd64][..], None),
        (Some("linux/amd64"), &[arm64], Some(FindingState::Invalid)),
        (Some("linux/amd64"), &[amd64, arm64], Some(FindingState::Warning)),
        (Some("windows/amd64"), &[amd64], Some(FindingState::Invalid)),
        (Some("linux/arm64"), &[arm], Some(FindingState::Invalid)),
        (Some("linux/arm/v7"), &[arm], None),
        (Some("linux/arm64/v8"), &[arm64], None),
        (Some("windows/amd64"), &[windows], None),
        // Unknown platforms are reported but not denied.
        (None, &[amd64], Some(FindingState::Unknown)),
    ] {
        nodes(&world, nodes_are);
        let found = found(&world, &single(&world, platform)).await;
        let what = format!("{platform:?} on {nodes_are:?}: {found:?}");
        assert_eq!(found.first().map(|found| found.state), state, "{what}");
        assert!(found.iter().all(|found| found.cause == Some(Cause::WrongArchitecture)), "{what}");
        if state == Some(FindingState::Invalid) {
            let (os, architecture) = nodes_are[0];
            assert!(found[0].message.contains(platform.unwrap()), "{what}");
            assert!(found[0].message.contains(&format!("{os}/{architecture}")), "{what}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn reports_missing_references_of_the_pods() {
    // No replicas, because they could not start.
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
    let before = found(&world, &second).await;
    let missing = [Cause::ConfigInvalid, Cause::SecretMissing, Cause::PermissionMissing]
        .map(|cause| (Some(cause), FindingState::Missing));
    assert_eq!(states(&before), missing, "{before:?}");
    let subjects: Vec<&str> = before.iter().map(|finding| finding.subject.as_str()).collect();
    assert_eq!(subjects, ["config map settings", "secret db", "service account web"]);

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
    let said: Vec<String> = after.iter().map(ToString::to_string).collect();
    assert!(said[0].starts_with("INVALID: secret db: has no key \"url\""), "{said:?}");
    assert!(said[1].starts_with("INVALID: service account web: "), "{said:?}");
    assert!(said[1].ends_with("not the ARN of a role: \"shop-web\""), "{said:?}");
    assert_eq!(said.len(), 2, "{said:?}");

    world.cluster.deny("get", "secrets");
    let blind = found(&world, &second).await;
    assert_eq!(blind[0].to_string(), "unknown: secret db: cannot be read");
}

/// A workload with its own service account.
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

async fn lookup_findings(world: &World, lookups: &Lookups) -> Vec<(FindingState, String)> {
    let found = world.target().preflight(&world.first, lookups).await.unwrap();
    let found = problems(found.findings).into_iter().map(|finding| (finding.state, finding.message));
    found.filter(|(_, message)| !message.contains(NOT_CHECKED)).collect()
}

/// The finding about a role without an IAM client.
const NOT_CHECKED: &str = "cannot check its trust policy";

#[tokio::test(start_paused = true)]
async fn reports_a_service_account_without_a_role() {
    let world = with_account(json!({})).await;
    assert_eq!(lookup_findings(&world, &Lookups::default()).await, [], "no lookups configured");
    let lookups = Lookups::default().eks(eks(&world.sandbox));
    let found = lookup_findings(&world, &lookups).await;
    assert!(
        matches!(found.as_slice(), [(FindingState::Warning, message)] if message.contains("has no AWS role")),
        "{found:?}"
    );
    world.cluster.pod_identity("prod", "api", "arn:aws:iam::111111111111:role/other");
    assert_eq!(lookup_findings(&world, &lookups).await.len(), 1, "another account's");
    world.cluster.pod_identity("prod", "web", "arn:aws:iam::111111111111:role/shop-web");
    assert_eq!(lookup_findings(&world, &lookups).await, []);
    world.sandbox.aws().deny("eks:ListPodIdentityAssociations");
    let found = lookup_findings(&world, &lookups).await;
    assert!(
        matches!(found.as_slice(), [(FindingState::Unknown, why)] if why.contains("AccessDenied")),
        "{found:?}"
    );
    // A missing role of the default service account is not reported: most of its pods do not call AWS.
    let plain = World::new().await;
    assert_eq!(lookup_findings(&plain, &Lookups::default().eks(eks(&plain.sandbox))).await, []);
}

#[cfg(feature = "iam")]
#[tokio::test(start_paused = true)]
async fn role_of_the_pods_must_exist_and_trust_them() {
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
        (&pod_identity, &by_service, &ours, "does not allow sts:AssumeRole for pods.eks.amazonaws.com"),
    ] {
        let lookups = Lookups::default().eks(eks(&world.sandbox)).iam(common::iam(&world.sandbox));
        let found = lookup_findings(world, &lookups).await;
        assert!(
            matches!(found.as_slice(), [(FindingState::Missing, why)] if why.contains("does not exist")),
            "{found:?}"
        );
        world.sandbox.aws().role_with("111111111111", "shop-web", wrong);
        let found = lookup_findings(world, &lookups).await;
        assert!(
            matches!(found.as_slice(), [(FindingState::Invalid, why)] if why.contains(says)),
            "{found:?}"
        );
        world.sandbox.aws().role_with("111111111111", "shop-web", right);
        assert_eq!(lookup_findings(world, &lookups).await, []);
        world.sandbox.aws().deny("iam:GetRole");
        let found = lookup_findings(world, &lookups).await;
        assert!(
            matches!(found.as_slice(), [(FindingState::Unknown, why)] if why.contains("iam:GetRole")),
            "{found:?}"
        );
    }
    let foreign =
        with_account(json!({ "eks.amazonaws.com/role-arn": "arn:aws:iam::222222222222:role/x" })).await;
    let lookups = Lookups::default().eks(eks(&foreign.sandbox)).iam(common::iam(&foreign.sandbox));
    let found = lookup_findings(&foreign, &lookups).await;
    assert!(
        matches!(found.as_slice(), [(FindingState::Unknown, why)] if why.contains("another account")),
        "{found:?}"
    );
}

#[cfg(feature = "iam")]
#[tokio::test(start_paused = true)]
async fn target_role_of_a_pod_identity_association_must_trust_its_role() {
    let role = "arn:aws:iam::111111111111:role/shop-web";
    let world = with_account(json!({})).await;
    world.cluster.pod_identity("prod", "web", role);
    let by_service = json!({ "Statement": [{
        "Effect": "Allow", "Principal": { "Service": "pods.eks.amazonaws.com" }, "Action": "sts:*",
    }] });
    world.sandbox.aws().role_with("111111111111", "shop-web", &by_service);
    let trust = |id: &str| {
        json!({ "Statement": [{
            "Effect": "Allow", "Principal": { "AWS": role }, "Action": ["sts:AssumeRole", "sts:TagSession"],
            "Condition": { "StringEquals": { "sts:ExternalId": id } },
        }] })
    };
    let lookups = Lookups::default().eks(eks(&world.sandbox)).iam(common::iam(&world.sandbox));
    let found = async |target: &str| {
        let association = json!({ "association": {
            "clusterName": "shop", "namespace": "prod", "serviceAccount": "web", "associationId": "a-1",
            "roleArn": role, "targetRoleArn": target, "externalId": "eu-central-1/1/shop/prod/web",
            "policy": "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\"}]}",
        } });
        let answer = Effect::Answer { status: 200, headers: Vec::new(), body: association.to_string() };
        world.sandbox.faults().inject(Fault::new(answer).on("eks:DescribePodIdentityAssociation"));
        lookup_findings(&world, &lookups).await
    };
    let target = "arn:aws:iam::111111111111:role/data";
    let missing = found(target).await;
    assert!(matches!(missing.as_slice(), [(FindingState::Missing, _)]), "{missing:?}");
    world.sandbox.aws().role_with("111111111111", "data", &trust("other"));
    let wrong = found(target).await;
    assert!(
        matches!(wrong.as_slice(), [(FindingState::Invalid, why)] if why.contains("external id eu-central-1/1/shop")),
        "{wrong:?}"
    );
    world.sandbox.aws().role_with("111111111111", "data", &trust("eu-central-1/1/shop/prod/web"));
    assert_eq!(found(target).await, [], "the session policy is only shown");
    let foreign = found("arn:aws:iam::222222222222:role/data").await;
    assert!(
        matches!(foreign.as_slice(), [(FindingState::Unknown, why)] if why.contains("another account") && why.contains(role)),
        "{foreign:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn refused_dry_run_is_denied_and_unsupported_dry_run_unknown() {
    for (message, state) in [
        ("admission webhook \"policy\" denied the request: no owner label", FindingState::Denied),
        ("admission webhook \"audit\" does not support dry run", FindingState::Unknown),
    ] {
        let world = World::new().await;
        let body = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 400, "message": message });
        let refused = Effect::Answer {
            status: 400,
            headers: vec![("content-type".into(), "application/json".into())],
            body: body.to_string(),
        };
        world.sandbox.faults().inject(Fault::new(refused).on("patch deployments"));
        let found = found(&world, &world.image("second", Behaviour::default())).await;
        assert_eq!(states(&found), [(Some(Cause::AdmissionRefused), state)], "{found:?}");
        assert!(found[0].to_string().contains(message), "{found:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn drift_lists_differences_from_the_wanted_image() {
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
    assert_eq!(drift.service.len(), 1, "a rollout is in progress: {drift}");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let drift = target.drift(&second).await.unwrap();
    assert_eq!((drift.verdict, drift.service.len()), (Verdict::DigestMismatch, 0), "{drift}");
}

#[tokio::test(start_paused = true)]
async fn plan_shows_changes_of_image_and_environment() {
    let world = World::new().await;
    let second = world.image("second", Behaviour::default());
    let options = || Options::new(Duration::from_secs(60)).unwrap().environment("DEPLOY_PLATFORM", "eks");
    let target = world.of("web", "web", options().take_over(true));
    let plan = target.preflight(&second, &Lookups::default()).await.unwrap();
    let paths: Vec<&str> = plan.changes.iter().map(|change| change.path.as_str()).collect();
    let container = "spec.template.spec.containers[web]";
    assert_eq!(paths, [format!("{container}.env[DEPLOY_PLATFORM].value"), format!("{container}.image")]);
    let field = |found: &[Finding]| found.iter().find(|f| f.subject.starts_with("field ")).unwrap().clone();
    let taken = field(&plan.findings);
    assert!(plan.is_ready() && taken.message.contains("taken over from"), "{taken}");
    // Without take_over the deployment would be refused.
    let refused = world.of("web", "web", Options::new(Duration::from_secs(60)).unwrap());
    let refused = refused.preflight(&second, &Lookups::default()).await.unwrap();
    let owned = field(&refused.findings);
    assert_eq!((refused.is_ready(), owned.state), (false, FindingState::Denied));
    for part in ["containers[name=\"web\"].image", "\"kubectl-client-side-apply\"", "--take-over"] {
        assert!(owned.to_string().contains(part), "{owned}");
    }
    assert_eq!(world.running_image(), world.first.reference.to_string(), "nothing was changed");

    let (events, outcome) = deploy(&target, &second).await;
    assert_eq!(outcome.unwrap().verdict(), Verdict::Deployed);
    let applied =
        events.iter().position(|e| matches!(e, bp_artifact::deploy::DeployEvent::Applied { .. })).unwrap();
    let shown = events[..applied].iter().any(
        |e| matches!(e, bp_artifact::deploy::DeployEvent::Notice { message, .. } if message.contains("DEPLOY_PLATFORM")),
    );
    assert!(shown, "the changes are reported before they are applied: {events:?}");
    let deployment = world.cluster.object("deployments", "prod", "web").unwrap();
    let env = &deployment["spec"]["template"]["spec"]["containers"][0]["env"];
    assert_eq!(*env, json!([{ "name": "DEPLOY_PLATFORM", "value": "eks" }]));
    assert!(target.preflight(&second, &Lookups::default()).await.unwrap().changes.is_empty());
    // The rollback removes the variable.
    target.rollback().await.unwrap();
    let deployment = world.cluster.object("deployments", "prod", "web").unwrap();
    assert!(deployment["spec"]["template"]["spec"]["containers"][0]["env"].is_null());
}
