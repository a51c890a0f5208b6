//! Task definitions: from files, with overlays, registered once; earlier revisions are restored and deregistered.

mod common;

use std::sync::Arc;

use bp_artifact::{
    ExitCode, Verdict,
    deploy::{Change, Target},
    error::{Classified, ErrorClass},
    saga::Saga,
};
use bp_ecs::{Cluster, ContainerOverlay, Error, Overlay, TaskDefinition};
use bp_sandbox::Behaviour;
use common::{Shop, definition, options, reference};
use serde_json::{Value, json};

fn texts(changes: &[Change]) -> Vec<String> {
    changes.iter().map(Change::to_string).collect()
}

/// Reads a definition as from a file in the format of aws-cli.
fn file(json: Value) -> Result<TaskDefinition, Error> {
    TaskDefinition::from_json("web.json", &json.to_string())
}

#[tokio::test(start_paused = true)]
async fn registers_an_overlay_with_the_image_and_reuses_an_identical_revision() {
    let shop = Shop::new();
    let (old, new) = (shop.image("1"), shop.image("2"));
    shop.sandbox.aws().ssm(common::ACCOUNT, common::REGION).put("/shop/db", "x");
    shop.web(&old).create();
    let web = ContainerOverlay::default().variable("DEPLOY_PLATFORM", "ecs").secret("DB", "/shop/db");
    let proxy = ContainerOverlay::default().image(new.reference.clone());
    let overlay = Overlay::default().cpu("512").memory("1GB").container("web", web).container("proxy", proxy);
    let target = shop.target().overlay(overlay);
    let (before, wanted) =
        (target.definition().await.unwrap(), target.planned_definition(&new.reference).await.unwrap());
    assert_eq!(
        texts(&before.changes(&wanted)),
        [
            format!("~ containerDefinitions[proxy].image: {} -> {}", old.reference, new.reference),
            "+ containerDefinitions[web].dockerLabels.dev.bp.set: {\"environment\":[\"DEPLOY_PLATFORM\"],\"secrets\":[\"DB\"]}".to_owned(),
            "+ containerDefinitions[web].environment[DEPLOY_PLATFORM].value: ecs".to_owned(),
            format!("~ containerDefinitions[web].image: {} -> {}", old.reference, new.reference),
            "+ containerDefinitions[web].secrets[DB].valueFrom: /shop/db".to_owned(),
            "~ cpu: 256 -> 512".to_owned(),
            "~ memory: 512 -> 1024".to_owned(),
        ]
    );
    for registered in [1, 1] {
        let outcome = target.deploy(&new).await.unwrap();
        assert_eq!(outcome.verdict(), Verdict::Deployed, "{:?}", outcome.failure);
        assert_eq!(shop.calls("ecs:RegisterTaskDefinition"), registered);
    }
    assert!(target.definition().await.unwrap().is_same(&wanted));
}

#[tokio::test(start_paused = true)]
async fn deploys_and_proves_several_containers() {
    let shop = Shop::new();
    let (old, new) = (shop.image("1"), shop.image("2"));
    let service = shop.web(&old).create();
    let outcome = shop.target().container("proxy").deploy(&new).await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed);
    shop.drained().await;
    assert!(service.running().iter().all(|c| c.digest == new.digest().as_str()), "{:?}", service.running());
    assert_eq!(outcome.proof.observations.len(), 2 * (1 + 2), "two containers: the revision and two tasks");
    let error = shop.target().container("worker").deploy(&new).await.unwrap_err();
    assert!(error.to_string().ends_with("no container \"worker\"; it has web, proxy"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn deploys_a_definition_from_a_file_unmodified() {
    let shop = Shop::new();
    let (old, new) = (shop.image("1"), shop.image("2"));
    let service = shop.web(&old).create();
    // The output of `describe-task-definition`, with another variable and a new container, for another account.
    let mut described = shop.ecs.definition("web:1").unwrap();
    described["taskDefinition"]["taskDefinitionArn"] =
        json!("arn:aws:ecs:x:999999999999:task-definition/web:7");
    let containers = described["taskDefinition"]["containerDefinitions"].as_array_mut().unwrap();
    containers[0]["environment"] = json!([{ "name": "EMPTY", "value": "" }, { "name": "NEW", "value": "1" }]);
    containers.push(json!({ "name": "cron", "image": old.reference.to_string(), "essential": false }));
    let target = shop.target().base(file(described).unwrap());
    let outcome = target.deploy(&new).await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed);
    let registered = shop.ecs.definition(&service.definition()).unwrap();
    let containers = &registered["taskDefinition"]["containerDefinitions"];
    assert_eq!(containers[0]["image"], json!(new.reference.to_string()));
    assert_eq!(containers[0]["environment"][1], json!({ "name": "NEW", "value": "1" }));
    assert_eq!(containers[2]["name"], "cron");
    assert_eq!(registered["tags"], json!([{ "key": "Team", "value": "shop" }]));
    // Deployed again, nothing changes.
    assert!(!target.deploy(&new).await.unwrap().changed);
    assert_eq!(shop.ecs.revisions("web"), 2);
}

#[tokio::test(start_paused = true)]
async fn deploys_a_file_that_adds_the_container() {
    let shop = Shop::new();
    let (old, new) = (shop.image("1"), shop.image("2"));
    shop.web(&old).create();
    let mut json = definition(&old);
    json["containerDefinitions"][0]["name"] = json!("app");
    let target = Cluster::new(shop.client(), "shop")
        .service("web", options())
        .container("app")
        .base(file(json).unwrap());
    let outcome = target.deploy(&new).await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed);
    assert!(outcome.previous.unwrap().id.ends_with("web:1"));
}

#[test]
fn rejects_a_misspelt_member_of_a_file() {
    let mut json = definition(&reference(bp_artifact::Digest::sha256("x").as_str()).into());
    json["containerDefinitions"][0]["enviroment"] = json!([{ "name": "A", "value": "1" }]);
    let error = file(json).unwrap_err();
    assert!(
        error.to_string().contains(
            "web.json has members that this version does not support: containerDefinitions[web].enviroment"
        ),
        "{error}"
    );
    assert_eq!(error.class(), ErrorClass::Refused);
}

#[tokio::test(start_paused = true)]
async fn services_of_one_family_share_the_new_revision() {
    let shop = Shop::new();
    let (old, new) = (shop.image("1"), shop.image("2"));
    let names = ["web", "worker", "mail"];
    shop.web(&old).create();
    for name in &names[1..] {
        shop.ecs.new_service("shop", name).task_definition("web:1").create();
    }
    let cluster = Cluster::new(shop.client(), "shop");
    let targets =
        names.map(|name| -> Arc<dyn Target> { Arc::new(cluster.service(name, options()).container("web")) });
    let home = std::env::temp_dir().join(format!("bp-ecs-family-{}.json", std::process::id()));
    let receipt = Saga::new(targets.to_vec(), new.clone(), &home).run().await.unwrap();
    std::fs::remove_file(home).unwrap();
    assert_eq!(receipt.verdict, Some(Verdict::Deployed));
    assert_eq!(shop.calls("ecs:RegisterTaskDefinition"), 1);
    assert!(names.iter().all(|name| shop.ecs.service("shop", name).definition().ends_with("web:2")));
}

#[tokio::test(start_paused = true)]
async fn retries_a_throttled_registration_and_registers_once() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    shop.inject(shop.refuse("ecs:RegisterTaskDefinition", "ThrottlingException", "Rate exceeded", 3));
    let start = tokio::time::Instant::now();
    let outcome = shop.target().deploy(&shop.image("2")).await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed);
    assert_eq!(shop.ecs.revisions("web"), 2);
    assert!(start.elapsed().as_secs() >= 1 + 2 + 4, "with exponential backoff");
}

#[tokio::test(start_paused = true)]
async fn does_not_retry_a_rejected_registration() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    shop.inject(shop.refuse(
        "ecs:RegisterTaskDefinition",
        "ClientException",
        "Too many containers.",
        u32::MAX,
    ));
    let error = shop.target().deploy(&shop.image("2")).await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert_eq!(shop.calls("ecs:RegisterTaskDefinition"), 1);
}

#[tokio::test(start_paused = true)]
async fn restores_an_earlier_revision_by_name() {
    let shop = Shop::new();
    let (old, new) = (shop.image("1"), shop.image("2"));
    let service = shop.web(&old).create();
    let target = shop.target();
    target.deploy(&new).await.unwrap();
    let earlier = target.revision("web:1").await.unwrap();
    assert!(earlier.image.is(&old.reference));
    let outcome = target.restore(&earlier).await.unwrap();
    assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Deployed, true));
    assert!(service.definition().ends_with("web:1"));
    let error = target.revision("web:9").await.unwrap_err();
    assert_eq!(error.to_string(), "there is no task definition \"web:9\"");
}

#[tokio::test(start_paused = true)]
async fn rejects_unsupported_features_of_ecs_anywhere_before_any_change() {
    let shop = Shop::new();
    let image = shop.image("1");
    shop.web(&image).with("launchType", json!("EXTERNAL")).create();
    let error = shop.target().deploy(&shop.image("2")).await.unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("EXTERNAL")
            && message.contains("awsvpc")
            && message.contains("requiresCompatibilities"),
        "{message}"
    );
    assert_eq!(error.class(), ErrorClass::Refused);
    assert_eq!(shop.calls("ecs:RegisterTaskDefinition") + shop.calls("ecs:UpdateService"), 0);
}

#[tokio::test(start_paused = true)]
async fn deploys_supported_features_to_ecs_anywhere() {
    let shop = Shop::new();
    let image = shop.image("1");
    let mut bridged = definition(&image);
    bridged["networkMode"] = json!("bridge");
    bridged["requiresCompatibilities"] = json!(["EXTERNAL"]);
    shop.ecs
        .new_service("shop", "web")
        .task_definition(bridged)
        .with("launchType", json!("EXTERNAL"))
        .create();
    let outcome = shop.target().deploy(&shop.image("2")).await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed);
}

#[tokio::test(start_paused = true)]
async fn detects_drift_of_definition_service_and_digest() {
    let shop = Shop::new();
    let (old, new) = (shop.image("1"), shop.image("2"));
    let service = shop.web(&old).create();
    let target = shop.target();
    shop.sandbox.ledger().clear();
    let none = target.drift(&old).await.unwrap();
    assert!(none.is_none(), "{none}");
    assert_eq!(ExitCode::from(&none), ExitCode::Done);

    let digest = target.drift(&new).await.unwrap();
    assert_eq!(digest.verdict, Verdict::DigestMismatch);
    assert!(texts(&digest.definition)[0].starts_with("~ containerDefinitions[web].image: "), "{digest}");

    let overlay = Overlay::default().container("web", ContainerOverlay::default().variable("MODE", "live"));
    let definition = shop.target().overlay(overlay).drift(&old).await.unwrap();
    assert_eq!(
        texts(&definition.definition),
        [
            "- containerDefinitions[web].dockerLabels.dev.bp.set: {\"environment\":[\"MODE\"]}",
            "- containerDefinitions[web].environment[MODE].value: live",
        ]
    );
    assert!(definition.verdict.is_success() && !definition.is_none());

    service.update(json!({ "desiredCount": 3 }));
    let count = target.drift(&old).await.unwrap();
    assert_eq!(texts(&count.service), ["~ runningCount: 3 -> 2"]);

    shop.sandbox.script(new.digest().as_str(), Behaviour::Healthy(std::time::Duration::ZERO));
    service.update(json!({ "forceNewDeployment": true }));
    let in_progress = Target::drift(&target, &old).await.unwrap();
    assert!(
        texts(&in_progress.service)[0].starts_with("~ deployment: completed -> ecs-svc/"),
        "{in_progress}"
    );
    for call in ["ecs:RegisterTaskDefinition", "ecs:UpdateService"] {
        assert_eq!(shop.calls(call), 0, "reads only");
    }
}

#[tokio::test(start_paused = true)]
async fn deregisters_old_revisions_but_none_in_use() {
    let shop = Shop::new();
    let images: Vec<_> = (1..=6).map(|n| shop.image(&n.to_string())).collect();
    let service = shop.web(&images[0]).create();
    for image in &images[1..] {
        shop.target().deploy(image).await.unwrap();
    }
    assert!(service.definition().ends_with("web:6"));
    // Another service, in another cluster, still runs the second revision; a schedule uses the third.
    shop.ecs.new_service("batch", "nightly").task_definition("web:2").create();
    let pruned = shop.target().prune(1, &["web:3".to_owned()]).await.unwrap();
    let names = |arns: Vec<&String>| -> Vec<String> {
        arns.into_iter().map(|arn| arn.rsplit('/').next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(names(pruned.deregistered.iter().collect()), ["web:4", "web:1"]);
    assert_eq!(names(pruned.kept.iter().map(|k| &k.revision).collect()), ["web:5", "web:3", "web:2"]);
    assert!(pruned.kept[0].reason.contains("rollback revision of"), "{pruned:?}");
    assert!(pruned.kept[2].reason.contains("nightly"), "{pruned:?}");
    let again = shop.target().prune(1, &["web:3".to_owned()]).await.unwrap();
    assert!(again.deregistered.is_empty(), "{again:?}");
    // The kept revision can be restored.
    assert_eq!(shop.target().rollback().await.unwrap().verdict(), Verdict::Deployed);
}

#[tokio::test(start_paused = true)]
async fn deregisters_nothing_if_not_all_uses_can_be_read() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    for n in 2..=5 {
        shop.target().deploy(&shop.image(&n.to_string())).await.unwrap();
    }
    shop.sandbox.aws().deny("ecs:ListServices");
    let error = shop.target().prune(1, &[]).await.unwrap_err();
    assert!(error.to_string().contains("ecs:ListServices"), "{error}");
    assert_eq!(shop.calls("ecs:DeregisterTaskDefinition"), 0);
}
