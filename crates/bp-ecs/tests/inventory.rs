//! Inventory of overlays: settings that left the overlay are removed, those of others are kept.

mod common;

use bp_artifact::{Verdict, deploy::Change};
use bp_ecs::{ContainerOverlay, Overlay, TaskDefinition};
use common::{Shop, definition};
use serde_json::{Value, json};

fn web(variables: &[&str]) -> ContainerOverlay {
    variables.iter().fold(ContainerOverlay::default(), |web, name| web.variable(*name, "ours"))
}

fn overlay(variables: &[&str]) -> Overlay {
    Overlay::default().container("web", web(variables))
}

/// The container `web` of the revision that the service runs.
fn container(shop: &Shop) -> Value {
    let described = shop.ecs.definition(&shop.service().definition()).unwrap();
    described["taskDefinition"]["containerDefinitions"][0].clone()
}

fn names(shop: &Shop) -> Vec<String> {
    let container = container(shop);
    let items = container["environment"].as_array().unwrap().iter();
    items.map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

/// Another client registers the revision with `change` and deploys it.
fn changed_by_hand(shop: &Shop, change: impl FnOnce(&mut Value)) {
    let mut described = shop.ecs.definition(&shop.service().definition()).unwrap();
    change(&mut described["taskDefinition"]["containerDefinitions"][0]);
    let arn = shop.ecs.register(described["taskDefinition"].take());
    shop.service().update(json!({ "taskDefinition": arn }));
}

#[tokio::test(start_paused = true)]
async fn removes_a_variable_that_left_the_overlay_and_keeps_foreign_ones() {
    let shop = Shop::new();
    let image = shop.image("1");
    shop.web(&image).create();
    assert_eq!(
        shop.target().overlay(overlay(&["A", "B"])).deploy(&image).await.unwrap().verdict(),
        Verdict::Deployed
    );
    assert_eq!(names(&shop), ["EMPTY", "A", "B"]);
    changed_by_hand(&shop, |web| {
        web["environment"].as_array_mut().unwrap().push(json!({ "name": "C", "value": "theirs" }));
    });
    shop.drained().await;

    let target = shop.target().overlay(overlay(&["A"]));
    let (before, wanted) =
        (target.definition().await.unwrap(), target.planned_definition(&image.reference).await.unwrap());
    let plan: Vec<String> = before.changes(&wanted).iter().map(Change::to_string).collect();
    assert!(plan.contains(&"- containerDefinitions[web].environment[B].value: ours".to_owned()), "{plan:?}");
    let drift = target.drift(&image).await.unwrap();
    let drift: Vec<String> = drift.definition.iter().map(Change::to_string).collect();
    assert!(
        drift.contains(&"+ containerDefinitions[web].environment[B].value: ours".to_owned()),
        "{drift:?}"
    );

    target.deploy(&image).await.unwrap();
    assert_eq!(names(&shop), ["EMPTY", "A", "C"]);
    let revisions = shop.ecs.revisions("web");
    assert!(!target.deploy(&image).await.unwrap().changed);
    assert_eq!(shop.ecs.revisions("web"), revisions, "the same overlay registers no other revision");
    assert!(target.drift(&image).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn reports_a_manual_change_as_drift_and_corrects_it() {
    let shop = Shop::new();
    let image = shop.image("1");
    shop.web(&image).create();
    let target = shop.target().overlay(overlay(&["A"]));
    target.deploy(&image).await.unwrap();
    changed_by_hand(&shop, |web| web["environment"][1]["value"] = json!("theirs"));
    shop.drained().await;
    let drift = target.drift(&image).await.unwrap();
    let drift: Vec<String> = drift.definition.iter().map(Change::to_string).collect();
    assert_eq!(drift, ["~ containerDefinitions[web].environment[A].value: ours -> theirs"]);
    target.deploy(&image).await.unwrap();
    assert!(target.drift(&image).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn removes_secrets_log_options_and_tags_that_left_the_overlay() {
    let shop = Shop::new();
    let image = shop.image("1");
    shop.sandbox.aws().ssm(common::ACCOUNT, common::REGION).put("/shop/db", "x");
    let mut json = definition(&image);
    let options = json!({ "awslogs-group": "shop", "awslogs-region": "eu-central-1", "mode": "theirs" });
    json["containerDefinitions"][0]["logConfiguration"] =
        json!({ "logDriver": "awslogs", "options": options });
    shop.ecs.new_service("shop", "web").task_definition(json).create();
    let full = web(&["A"])
        .secret("DB", "/shop/db")
        .log_option("awslogs-group", "ours")
        .log_option("max-buffer-size", "4m");
    let full = Overlay::default().tag("Owner", "shop-team").container("web", full);
    shop.target().overlay(full).deploy(&image).await.unwrap();

    shop.target().overlay(Overlay::default()).deploy(&image).await.unwrap();
    let found = container(&shop);
    assert_eq!((names(&shop), &found["secrets"]), (vec!["EMPTY".to_owned()], &json!([])));
    // The driver requires its log group, so that option is kept.
    let options = json!({ "awslogs-group": "ours", "awslogs-region": "eu-central-1", "mode": "theirs" });
    assert_eq!(found["logConfiguration"]["options"], options);
    assert_eq!(found["dockerLabels"], Value::Null, "the inventory is empty");
    let described = shop.ecs.definition(&shop.service().definition()).unwrap();
    assert_eq!(described["tags"], json!([{ "key": "Team", "value": "shop" }]));
}

#[tokio::test(start_paused = true)]
async fn removes_nothing_without_a_readable_inventory() {
    let shop = Shop::new();
    let image = shop.image("1");
    for label in [None, Some("no JSON"), Some("{\"environment\":7}")] {
        let mut json = definition(&image);
        if let Some(label) = label {
            json["containerDefinitions"][0]["dockerLabels"] = json!({ "dev.bp.set": label });
        }
        let name = format!("web-{}", label.map_or(0, str::len));
        shop.ecs.new_service("shop", &name).task_definition(json).create();
        let target =
            bp_ecs::Cluster::new(shop.client(), "shop").service(&*name, common::options()).container("web");
        target.overlay(overlay(&["A"])).deploy(&image).await.unwrap();
        let described = shop.ecs.definition(&shop.ecs.service("shop", &name).definition()).unwrap();
        let web = &described["taskDefinition"]["containerDefinitions"][0];
        assert_eq!(web["environment"][0], json!({ "name": "EMPTY", "value": "" }), "{label:?}");
        assert_eq!(web["dockerLabels"]["dev.bp.set"], "{\"environment\":[\"A\"]}", "names without values");
    }
}

#[tokio::test(start_paused = true)]
async fn keeps_overlay_settings_without_an_overlay() {
    let shop = Shop::new();
    let (old, new) = (shop.image("1"), shop.image("2"));
    shop.web(&old).create();
    shop.target().overlay(overlay(&["A"])).deploy(&old).await.unwrap();
    shop.target().deploy(&new).await.unwrap();
    assert_eq!(names(&shop), ["EMPTY", "A"]);
    // Its inventory was copied.
    shop.target().overlay(overlay(&["B"])).deploy(&new).await.unwrap();
    assert_eq!(names(&shop), ["EMPTY", "B"]);
}

#[tokio::test(start_paused = true)]
async fn a_rollback_restores_the_inventory() {
    let shop = Shop::new();
    let image = shop.image("1");
    shop.web(&image).create();
    shop.target().overlay(overlay(&["A", "B"])).deploy(&image).await.unwrap();
    shop.target().overlay(overlay(&["A"])).deploy(&image).await.unwrap();
    shop.drained().await;
    shop.target().rollback().await.unwrap();
    assert_eq!(names(&shop), ["EMPTY", "A", "B"]);
    shop.drained().await;
    shop.target().overlay(overlay(&["A"])).deploy(&image).await.unwrap();
    assert_eq!(names(&shop), ["EMPTY", "A"]);
}

#[tokio::test(start_paused = true)]
async fn removes_nothing_from_a_definition_from_a_file() {
    let shop = Shop::new();
    let image = shop.image("1");
    shop.web(&image).create();
    shop.target().overlay(overlay(&["A", "B"])).deploy(&image).await.unwrap();
    // A file that was exported from the service contains its inventory.
    let described = shop.ecs.definition(&shop.service().definition()).unwrap();
    let file = TaskDefinition::from_json("web.json", &described.to_string()).unwrap();
    shop.target().base(file).overlay(overlay(&["A"])).deploy(&image).await.unwrap();
    assert_eq!(names(&shop), ["EMPTY", "A", "B"]);
}
