//! Secrets at run time: new versions are pinned and rolled out, values go into a Kubernetes Secret or the environment of a
//! command.
#![cfg(feature = "sandbox")]

mod common;

use std::{process::Stdio, time::Duration};

use bp_artifact::{Verdict, deploy::Receipt};
use common::{Ended, Stage, ended};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

const STAGING: &str = "222222222222";
const REGION: &str = "eu-central-1";
/// A value that must not appear in any output.
const CANARY: &str = "kanarie-5Zq7Wx2LpT9v-x";

/// The secrets of the ECS service in the running definition.
fn running(stage: &Stage) -> Vec<String> {
    let ecs = stage.world.sandbox.aws().ecs(STAGING, REGION);
    let definition = ecs.definition(&ecs.service("staging", "shop-web").definition()).unwrap();
    let secrets = definition["containerDefinitions"][0]["secrets"].as_array().cloned().unwrap_or_default();
    secrets.iter().map(|secret| secret["valueFrom"].as_str().unwrap().to_owned()).collect()
}

fn assert_hidden(ends: &[&Ended]) {
    for end in ends {
        assert!(!format!("{}{}", end.stdout, end.stderr).contains("kanarie"), "{end:?}");
    }
}

/// A stage with a pinned secret and a parameter, both deployed.
async fn pinned() -> (Stage, String) {
    let stage = Stage::new().await;
    let aws = stage.world.sandbox.aws();
    let arn =
        aws.secretsmanager(STAGING, REGION).create("shop/db", &format!(r#"{{"password": "{CANARY}"}}"#));
    aws.ssm(STAGING, REGION).put("/shop/host", "one");
    let service = "cluster = \"staging\"\nservice = \"shop-web\"\n";
    let lines = format!(
        "pin-secrets = \"on\"\nsecrets.HOST = \"/shop/host\"\nsecrets.PASSWORD = \"{arn}:password::\"\n"
    );
    stage.edit_config(service, &format!("{service}{lines}"));
    let end = stage.run("dual-deploy", &["--env", "staging"]).await;
    assert_eq!(end.code, 0, "{end:?}");
    stage.world.sandbox.clock().advance(Duration::from_secs(120));
    (stage, arn)
}

#[tokio::test]
async fn a_new_version_is_pinned_and_rolled_out_once() {
    let (stage, arn) = pinned().await;
    let first = running(&stage);
    assert_eq!(first[0], "/shop/host:1");
    assert!(
        first[1].starts_with(&format!("{arn}:password::")) && first[1].len() > arn.len() + 40,
        "{first:?}"
    );
    let watch = ["watch", "--env", "staging"];
    let verify = ["--env", "staging", "--only", "definition"];
    let none = stage.run("secrets", &watch).await;
    assert_eq!((none.code, none.stdout.as_str()), (0, ""), "{none:?}");
    assert!(!stage.path("secrets-receipt.json").exists());

    let aws = stage.world.sandbox.aws();
    let second = aws.secretsmanager(STAGING, REGION).rotate("shop/db", r#"{"password": "kanarie-2"}"#);
    let drifted = stage.run("verify", &verify).await;
    assert!(drifted.code == 6 && drifted.stdout.contains("secrets[PASSWORD]"), "{drifted:?}");
    let plan = stage.run("secrets", &[&watch[..], &["--plan"]].concat()).await;
    assert!(plan.code == 0 && plan.stdout.contains(&second) && running(&stage) == first, "{plan:?}");
    let end = stage.run("secrets", &watch).await;
    assert_eq!(end.code, 0, "{end:?}");
    assert_eq!(running(&stage), ["/shop/host:1".to_owned(), format!("{arn}:password::{second}")]);
    let receipt = Receipt::read(stage.path("secrets-receipt.json")).unwrap();
    assert_eq!((receipt.verdict, receipt.targets.len()), (Some(Verdict::Deployed), 1));
    assert!(receipt.targets[0].previous.id.ends_with("shop-web:2"), "{receipt:?}");
    stage.world.sandbox.clock().advance(Duration::from_secs(120));
    let again = stage.run("secrets", &watch).await;
    assert_eq!((again.code, again.stdout.as_str()), (0, ""), "{again:?}");
    assert_eq!(stage.run("verify", &verify).await.code, 0);
    // A deployment keeps the pins.
    let changes = stage.changes();
    let end = stage.run("deploy-ecs", &["--env", "staging"]).await;
    assert_eq!((end.code, stage.changes()), (0, changes), "{end:?}");

    // The next one: the rollback revision is the one before it, not that of the first rotation.
    aws.ssm(STAGING, REGION).put("/shop/host", "two");
    let end = stage.run("secrets", &watch).await;
    assert_eq!(end.code, 0, "{end:?}");
    assert_eq!(running(&stage)[0], "/shop/host:2");
    let receipt = Receipt::read(stage.path("secrets-receipt.json")).unwrap();
    assert!(receipt.targets[0].previous.id.ends_with("shop-web:3"), "{receipt:?}");
    let back = stage.run("rollback", &["--env", "staging", "--receipt", "secrets-receipt.json"]).await;
    assert_eq!(back.code, 0, "{back:?}");
    assert_hidden(&[&none, &drifted, &plan, &end, &again, &back]);
}

#[tokio::test]
async fn only_secrets_are_rolled_out() {
    let (stage, _) = pinned().await;
    let watch = ["watch", "--env", "staging"];
    let before = running(&stage);
    // Other changes of bp.toml that are not deployed.
    stage.edit_config("pin-secrets = \"on\"\n", "pin-secrets = \"on\"\ncpu = \"512\"\nmemory = \"1024\"\n");
    let unchanged = stage.run("secrets", &watch).await;
    assert_eq!(unchanged.code, 0, "without a new version they do not matter: {unchanged:?}");
    stage.world.sandbox.aws().ssm(STAGING, REGION).put("/shop/host", "two");
    let refused = stage.run("secrets", &watch).await;
    assert!(refused.code == 5 && refused.stderr.contains("deploy them first"), "{refused:?}");
    assert_eq!(running(&stage), before);
    stage.edit_config("cpu = \"512\"\nmemory = \"1024\"\n", "");
    // A version that cannot be read is neither new nor old.
    stage.world.sandbox.aws().deny("ssm:GetParameters");
    let unknown = stage.run("secrets", &watch).await;
    assert!(unknown.code == 7 && unknown.stderr.contains("ecs.secrets.HOST"), "{unknown:?}");
    stage.world.sandbox.aws().allow("ssm:GetParameters");
    // Without pins there is nothing to compare with.
    stage.edit_config("pin-secrets = \"on\"\n", "");
    let end = stage.run("secrets", &watch).await;
    assert!(end.stderr.contains("not watched: ecs.pin-secrets is off"), "{end:?}");
    assert_eq!(running(&stage), before);
}

#[tokio::test]
async fn pods_are_replaced_when_their_secret_has_changed() {
    let stage = Stage::new().await;
    let cluster = stage.world.sandbox.cluster("staging");
    let secret = |value: &str| {
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "db", "namespace": "shop" },
            "data": { "url": value } })
    };
    cluster.create(secret("b25l"));
    cluster.apply(
        "kubectl",
        &json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web", "namespace": "shop" },
            "spec": { "template": { "spec": { "containers": [{ "name": "web", "env": [
                { "name": "DB", "valueFrom": { "secretKeyRef": { "name": "db", "key": "url" } } },
            ] }] } } } }),
    );
    stage.world.sandbox.clock().advance(Duration::from_secs(600));
    let end = stage.run("dual-deploy", &["--env", "staging"]).await;
    assert_eq!(end.code, 0, "{end:?}");
    stage.world.sandbox.clock().advance(Duration::from_secs(120));
    let annotation = || {
        let deployment = cluster.object("deployments", "shop", "web").unwrap();
        deployment["spec"]["template"]["metadata"]["annotations"]["bp-eks/config-checksum"].clone()
    };
    let watch = ["watch", "--env", "staging"];
    // The first run records the checksum.
    let end = stage.run("secrets", &watch).await;
    assert_eq!(end.code, 0, "{end:?}");
    let first = annotation();
    assert!(first.is_string(), "{end:?}");
    let again = stage.run("secrets", &watch).await;
    assert_eq!((again.code, again.stdout.as_str(), annotation()), (0, "", first.clone()), "{again:?}");
    cluster.apply("operator", &secret("dHdv"));
    let end = stage.run("secrets", &watch).await;
    assert_eq!(end.code, 0, "{end:?}");
    assert_ne!(annotation(), first);
    let receipt = Receipt::read(stage.path("secrets-receipt.json")).unwrap();
    assert_eq!(receipt.targets[0].target.as_str(), "eks/staging/shop/deployment/web");
}

#[tokio::test]
async fn values_go_into_a_kubernetes_secret_without_being_printed() {
    let stage = Stage::new().await;
    let secrets = stage.world.sandbox.aws().secretsmanager(STAGING, REGION);
    secrets.create("shop/tls", &format!(r#"{{"crt": "{CANARY}", "key": "{CANARY}"}}"#));
    stage.write("tls.env", "tls.crt=secretsmanager:shop/tls:crt::\ntls.key=secretsmanager:shop/tls:key::\n");
    let apply = [
        "apply",
        "--env",
        "staging",
        "--references",
        "tls.env",
        "--name",
        "tls",
        "--type",
        "kubernetes.io/tls",
    ];
    let end = stage.run("secrets", &apply).await;
    assert_eq!(end.code, 0, "{end:?}");
    assert!(end.stdout.contains("secret/tls in shop: created, 2 keys"), "{end:?}");
    let object = stage.world.sandbox.cluster("staging").object("secrets", "shop", "tls").unwrap();
    assert_eq!(
        (&object["type"], object["data"].as_object().unwrap().len()),
        (&json!("kubernetes.io/tls"), 2)
    );
    let again = stage.run("secrets", &apply).await;
    assert!(again.code == 0 && again.stdout.contains("unchanged"), "{again:?}");
    secrets.rotate("shop/tls", r#"{"crt": "kanarie-2", "key": "kanarie-3"}"#);
    let updated = stage.run("secrets", &[&apply[..], &["--output", "json"]].concat()).await;
    let line: Value = serde_json::from_str(updated.stdout.trim()).unwrap();
    assert_eq!((updated.code, &line["data"]["change"]), (0, &json!("updated")), "{updated:?}");
    // Before anything is read or changed.
    stage.write("half.env", "tls.crt=secretsmanager:shop/tls:crt::\n");
    let half = [&apply[..4], &["half.env"], &apply[5..]].concat();
    let half = stage.run("secrets", &half).await;
    assert!(half.code == 2 && half.stderr.contains("tls.crt and tls.key"), "{half:?}");
    assert_hidden(&[&end, &again, &updated, &half]);
}

#[tokio::test]
async fn a_command_gets_the_values_and_passes_its_exit_code_and_signals() {
    let stage = Stage::new().await;
    let secrets = stage.world.sandbox.aws().secretsmanager(STAGING, REGION);
    secrets.create("shop/db", &format!(r#"{{"password": "{CANARY}"}}"#));
    secrets.create_binary("shop/key", &[0, 159, 146, 150]);
    stage.write("shop.env", "PASSWORD=secretsmanager:shop/db:password::\n");
    let with = |file: &'static str, script: &'static str| {
        ["--env", "staging", "--references", file, "--", "sh", "-c", script]
    };
    let check = format!("test \"$PASSWORD\" = '{CANARY}' && test \"$CI\" = true && exit 7");
    let mut command = stage.command("with-secrets", &with("shop.env", "exit 1")[..5]);
    command.args(["sh", "-c", &check]);
    let end = ended(command).await;
    assert_eq!(end.code, 7, "{end:?}");
    assert_hidden(&[&end]);
    let end = stage.run("with-secrets", &with("shop.env", "echo from the command")).await;
    assert_eq!((end.code, end.stdout.trim(), end.stderr.as_str()), (0, "from the command", ""), "{end:?}");

    // The command gets the signal, and may ignore it.
    let script = "trap 'echo got it; exit 42' TERM; echo ready; while :; do sleep 0.05; done";
    let mut command = stage.command("with-secrets", &with("shop.env", script));
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("ready"));
    let pid = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("got it"));
    assert_eq!(child.wait().await.unwrap().code(), Some(42));

    // Its own failures.
    for (file, text, message) in [
        ("missing.env", "X=secretsmanager:no/such::: \n", "X: "),
        ("binary.env", "KEY=secretsmanager:shop/key\n", "the value is binary"),
        ("name.env", "tls.key=secretsmanager:shop/db:password::\n", "not a valid shell variable"),
    ] {
        stage.write(file, text);
        let arguments = ["--env", "staging", "--references", file, "--", "touch", "ran"];
        let end = stage.run("with-secrets", &arguments).await;
        assert!(end.code == 125 && end.stderr.contains(message), "{file}: {end:?}");
    }
    assert!(!stage.path("ran").exists());
    let arguments = ["--env", "staging", "--references", "shop.env", "--", "/no/such/program"];
    let end = stage.run("with-secrets", &arguments).await;
    assert!(end.code == 125 && end.stderr.contains("cannot run /no/such/program"), "{end:?}");
    let end = stage.run("with-secrets", &["--env", "staging"]).await;
    assert_eq!(end.code, 2, "{end:?}");
}
