//! `deploy-manifests`: files, standard input and bp.toml; its receipt; `rollback --revision` and `deploy-eks --force`.
#![cfg(feature = "sandbox")]

mod common;

use std::{fs::File, process::Stdio};

use bp_examples::world::shop;
use common::{Stage, ended};

const ENV: &[&str] = &["--env", "staging"];

const API: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: api }
spec:
  replicas: 1
  selector: { matchLabels: { app: api } }
  template:
    metadata: { labels: { app: api } }
    spec: { containers: [{ name: api, image: shop/web }] }
---
apiVersion: v1
kind: Secret
metadata: { name: api }
stringData: { PASSWORD: hunter2 }
"#;

fn image(stage: &Stage, name: &str) -> String {
    let deployment = stage.world.sandbox.cluster("staging").object("deployments", "shop", name).unwrap();
    deployment["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn manifests_are_planned_created_changed_and_rolled_back() {
    let stage = Stage::new().await;
    std::fs::create_dir(stage.path("deploy")).unwrap();
    stage.write("deploy/api.yaml", API);
    let deploy = [ENV, &["-f", "deploy"]].concat();
    let end = stage.run("deploy-manifests", &[&deploy[..], &["--check"]].concat()).await;
    assert_eq!(end.code, 0, "{end:?}");
    assert!(end.stdout.contains("\ndeployment/api: created"), "{end:?}");
    let cluster = stage.world.sandbox.cluster("staging");
    assert!(cluster.object("deployments", "shop", "api").is_none(), "a plan changes nothing");
    let end = stage.run("deploy-manifests", &deploy).await;
    assert_eq!(end.code, 0, "{end:?}");
    assert!(end.stderr.contains("no receipt is written"), "{end:?}");
    assert!(!format!("{end:?}").contains("hunter2"), "{end:?}");
    let first = image(&stage, "api");
    assert!(first.contains("@sha256:"), "{first}");

    stage.built(&shop("1.1.0").build(), "1.1.0");
    let stream = File::open(stage.path("deploy/api.yaml")).unwrap();
    let mut command =
        stage.command("deploy-manifests", &[ENV, &["--manifests", "-", "--output", "json"]].concat());
    command.stdin(Stdio::from(stream));
    let end = ended(command).await;
    assert_eq!(end.code, 0, "{end:?}");
    assert!(!format!("{end:?}").contains("aHVudGVyMg"), "{end:?}");
    assert_ne!(image(&stage, "api"), first);
    let end = stage.run("rollback", &[ENV, &["--check"]].concat()).await;
    assert!(end.stdout.starts_with("eks/staging/shop/manifests/web: deployment:api=2"), "{end:?}");
    let end = stage.run("rollback", ENV).await;
    assert_eq!(end.code, 0, "{end:?}");
    assert_eq!(image(&stage, "api"), first);

    // As a target of bp.toml.
    stage.edit_config("workload = \"deployment/web\"\ncontainer = \"web\"", "manifests = \"deploy\"");
    let end = stage.run("status", ENV).await;
    assert!(end.stdout.contains("eks/staging/shop/deployment/api"), "{end:?}");
    let end = stage.run("dual-deploy", ENV).await;
    assert_eq!(end.code, 0, "{end:?}");
    assert_ne!(image(&stage, "api"), first);
    let end = stage.run("verify", ENV).await;
    assert_eq!(end.code, 0, "{end:?}");
    for (arguments, message) in [
        (&["-f", "deploy", "-f", "-"][..], "cannot be combined"),
        (&["-f", "absent"], "cannot read the manifests in absent"),
        (&["--set", "eks.namespace=other", "--check"], "the namespace \"other\" does not exist"),
    ] {
        let end = stage.run("deploy-manifests", &[ENV, arguments].concat()).await;
        assert_eq!(end.code, 2, "{arguments:?}: {end:?}");
        assert!(end.stderr.contains(message), "{arguments:?}: {end:?}");
    }
}

#[tokio::test]
async fn a_revision_is_restored_by_its_number_and_pods_are_replaced_on_request() {
    let stage = Stage::new().await;
    let first = image(&stage, "web");
    for name in ["deploy-ecs", "deploy-eks"] {
        let end = stage.run(name, ENV).await;
        assert_eq!(end.code, 0, "{end:?}");
    }
    let annotations = |stage: &Stage| {
        let cluster = stage.world.sandbox.cluster("staging");
        cluster.object("deployments", "shop", "web").unwrap()["spec"]["template"]["metadata"]["annotations"]
            .clone()
    };
    assert!(annotations(&stage).is_null());
    let end = stage.run("deploy-eks", &[ENV, &["--force"]].concat()).await;
    assert_eq!(end.code, 0, "{end:?}");
    assert!(annotations(&stage)["bp-eks/restarted-at"].is_string());
    let end = stage.run("rollback", &[ENV, &["--revision", "1", "--check"]].concat()).await;
    assert!(end.code == 0 && end.stdout.contains(&first), "{end:?}");
    let end = stage.run("rollback", &[ENV, &["--revision", "1"]].concat()).await;
    assert_eq!((end.code, image(&stage, "web")), (0, first), "{end:?}");
    let end = stage.run("rollback", &[ENV, &["--revision", "99"]].concat()).await;
    assert!(end.code == 2 && end.stderr.contains("has no revision 99"), "{end:?}");
    let end = stage.run("rollback", &[ENV, &["--undo"]].concat()).await;
    assert_eq!(end.code, 0, "{end:?}");
}
