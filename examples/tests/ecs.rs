//! `deploy-ecs`: preflight checks, the overlay of bp.toml, earlier revisions, and Ctrl-C.
#![cfg(feature = "sandbox")]

mod common;

use std::{process::Stdio, time::Duration};

use bp_examples::world::shop;
use common::Stage;
use tokio::io::{AsyncBufReadExt, BufReader};

const STAGING: (&str, &str) = ("222222222222", "eu-central-1");

/// A stage whose environment staging has an overlay, with version 2.0.0 built.
async fn stage() -> Stage {
    let stage = Stage::new().await;
    stage.built(&shop("2.0.0").build(), "2.0.0");
    let overlay = "service = \"shop-web\"\ncontainer = \"web\"\nmemory = \"1GB\"\n[environment.ecs.environment]\nMODE = \"staging\"\nDEPLOY_PLATFORM = \"ecs\"\n[environment.ecs.secrets]\nDB = \"/shop/db\"\n\n[environment.eks]\ncluster = \"staging\"";
    stage.edit_config(
        "service = \"shop-web\"\ncontainer = \"web\"\n\n[environment.eks]\ncluster = \"staging\"",
        overlay,
    );
    stage
}

#[tokio::test]
async fn checks_deploys_and_restores_an_earlier_revision() {
    let stage = stage().await;
    let before = stage.changes();
    let end = stage.run("deploy-ecs", &["--env", "staging", "--check"]).await;
    assert_eq!(end.code, 5, "the secret is missing: {} {}", end.stdout, end.stderr);
    for part in [
        "would fail",
        "~ memory: 512 -> 1024",
        "environment[MODE].value: staging",
        "MISSING: secret DB of web: /shop/db",
    ] {
        assert!(end.stdout.contains(part), "{part}: {}", end.stdout);
    }
    assert_eq!(stage.changes(), before, "nothing was changed");

    stage.world.sandbox.aws().ssm(STAGING.0, STAGING.1).put("/shop/db", "x");
    let end = stage.run("deploy-ecs", &["--env", "staging", "--check", "--output", "json"]).await;
    assert_eq!(end.code, 0, "{} {}", end.stdout, end.stderr);
    let found: serde_json::Value = serde_json::from_str(end.stdout.trim()).unwrap();
    assert_eq!(found["data"]["preflight"]["secrets"][0]["valueFrom"], "/shop/db");

    let mut artifact = bp_artifact::Artifact::read(stage.path("artifact.json")).unwrap();
    artifact.version = Some("2.0.0".to_owned());
    artifact.write(stage.path("artifact.json")).unwrap();
    stage.world.sandbox.ledger().clear();
    let end = stage.run("deploy-ecs", &["--env", "staging"]).await;
    assert_eq!(end.code, 0, "{}", end.stderr);
    let ecs = stage.world.sandbox.aws().ecs(STAGING.0, STAGING.1);
    let definition = ecs.definition(&ecs.service("staging", "shop-web").definition()).unwrap();
    assert_eq!(definition["taskDefinition"]["memory"], "1GB");
    let tags: Vec<_> =
        definition["tags"].as_array().unwrap().iter().map(|tag| (&tag["key"], &tag["value"])).collect();
    for tag in [("App", "web"), ("Environment", "staging"), ("ManagedBy", "bp"), ("Version", "2.0.0")] {
        assert!(tags.iter().any(|(key, value)| (*key, *value) == (&tag.0.into(), &tag.1.into())), "{tags:?}");
    }
    let count = |operation: &str| stage.world.sandbox.ledger().count_of(operation);
    assert_eq!(
        count("ecr:BatchGetImage") + count("HEAD manifest") + count("GET manifest"),
        1,
        "one request to the registry"
    );

    let end = stage.run("deploy-ecs", &["--env", "staging", "--revision", "shop-web:1"]).await;
    assert_eq!(end.code, 0, "{}", end.stderr);
    let end = stage.run("verify", &["--env", "staging", "--output", "json"]).await;
    assert_eq!(end.code, 6, "{}", end.stderr);
    assert!(end.stdout.contains("containerDefinitions[web].environment[MODE].value"), "{}", end.stdout);
}

#[tokio::test]
async fn ctrl_c_detaches_or_rolls_back() {
    let stage = stage().await;
    stage.world.sandbox.aws().ssm(STAGING.0, STAGING.1).put("/shop/db", "x");
    for (flags, code, message) in [
        (&["--env", "staging", "--rollback-on-cancel"][..], 3, "interrupted: rolling back"),
        (&["--env", "staging"][..], 130, "continues in ECS: run the same command again"),
    ] {
        let mut command = stage.command("deploy-ecs", flags);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (mut all, mut is_sent) = (String::new(), false);
        while let Some(line) = lines.next_line().await.unwrap() {
            all.push_str(&line);
            all.push('\n');
            // The rollback starts a deployment too; a second signal would stop it.
            if line.contains("started ecs-svc/") && !std::mem::replace(&mut is_sent, true) {
                let id = child.id().unwrap().to_string();
                assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
            }
        }
        let end = tokio::time::timeout(Duration::from_secs(60), child.wait()).await.unwrap().unwrap();
        assert_eq!(end.code(), Some(code), "{all}");
        assert!(all.contains(message), "{all}");
    }
    // A rerun resumes the detached deployment.
    let end = stage.run("deploy-ecs", &["--env", "staging"]).await;
    assert_eq!(end.code, 0, "{}", end.stderr);
}
