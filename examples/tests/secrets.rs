//! References to secrets: check and print them, and assert that no binary prints a secret value or writes it to a file.
#![cfg(feature = "sandbox")]

mod common;

use std::{fs, path::Path};

use bp_examples::world::shop;
use common::{Ended, Stage, ended};
use serde_json::{Value, json};

const STAGING: &str = "222222222222";
const REGION: &str = "eu-central-1";

/// The secret value. Neither a part of it nor its base64 form may appear in output.
const CANARY: &str = "kanarie-5Zq7Wx2LpT9v-x";
const PIECES: [&str; 4] = ["kanarie", "5Zq7Wx", "2LpT9v", "a2FuYXJpZS01WnE3V3gyTHBUOXYteA"];

/// Creates secrets that all contain the canary; returns their references.
fn seed(stage: &Stage) -> Vec<String> {
    let aws = stage.world.sandbox.aws();
    let secrets = aws.secretsmanager(STAGING, REGION);
    let whole = secrets.create("shop/token", CANARY);
    let keyed = secrets.create("shop/db", &format!(r#"{{"password": "{CANARY}", "limit": 2000000}}"#));
    let broken = secrets.create("shop/broken", &format!(r#"{{"password": "{CANARY}"#));
    let binary = secrets.create_binary("shop/key", CANARY.as_bytes());
    let parameters = aws.ssm(STAGING, REGION);
    parameters.put("/shop/host", CANARY);
    parameters.put_secure("/shop/sealed", CANARY);
    let mut all = vec![whole, format!("{keyed}:password::"), "/shop/host".into(), "/shop/sealed".into()];
    all.extend([format!("{keyed}:limit::"), format!("{broken}:password::"), binary]);
    all
}

/// Creates a service with these references as secrets of its container.
fn service(stage: &Stage, name: &str, references: &[String]) {
    let secrets: Vec<Value> = references
        .iter()
        .enumerate()
        .map(|(n, reference)| json!({ "name": format!("SECRET_{n}"), "valueFrom": reference }))
        .collect();
    service_with(stage, name, "secrets", json!(secrets));
}

/// Creates a service whose container has this member.
fn service_with(stage: &Stage, name: &str, member: &str, value: Value) {
    let image =
        format!("{}:0.9.0", stage.world.config.environment("staging").unwrap().services()[0].repository);
    let definition = json!({
        "family": name,
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"],
        "cpu": "256",
        "memory": "512",
        "executionRoleArn": format!("arn:aws:iam::{STAGING}:role/execution"),
        // Without a health check, ECS considers a task healthy as soon as it runs.
        "containerDefinitions": [{
            "name": "web",
            "image": image,
            "essential": true,
            member: value,
            "healthCheck": { "command": ["CMD-SHELL", "true"] },
        }],
    });
    let ecs = stage.world.sandbox.aws().ecs(STAGING, REGION);
    ecs.new_service("staging", name)
        .task_definition(definition)
        .with("launchType", json!("FARGATE"))
        .create();
}

#[tokio::test]
async fn checks_the_references_of_the_service() {
    let stage = Stage::new().await;
    let all = seed(&stage);
    service(&stage, "sealed", &all[..4]);
    let set = ["check", "--env", "staging", "--set", "ecs.service=sealed", "--policy"];
    let good = stage.run("secrets", &set).await;
    assert_eq!(good.code, 0, "{good:?}");
    assert!(good.stdout.contains("web.SECRET_2: /shop/host is valid"), "{good:?}");
    let (_, document) = good.stdout.split_once("\n{").unwrap();
    let document: Value = serde_json::from_str(&format!("{{{document}")).unwrap();
    let parameters = format!("arn:aws:ssm:{REGION}:{STAGING}:parameter");
    assert_eq!(
        document["Statement"][1],
        json!({ "Effect": "Allow", "Action": ["ssm:GetParameters"],
                "Resource": [format!("{parameters}/shop/host"), format!("{parameters}/shop/sealed")] })
    );

    let lines: Vec<String> = all.iter().enumerate().map(|(n, text)| format!("S{n}={text}\n")).collect();
    stage.write("references.env", &lines.concat());
    let file = ["check", "--env", "staging", "--references", "references.env"];
    let bad = stage.run("secrets", &file).await;
    assert_eq!(bad.code, 2, "{bad:?}");
    for message in [
        "S5: ",
        "is not a JSON object (line 1",
        "S4: ",
        "warning: the ECS agent formats this number as a Go float",
    ] {
        assert!(bad.stdout.contains(message), "{message}: {}", bad.stdout);
    }
    // Denied access ends with another exit code than a missing secret.
    stage
        .world
        .sandbox
        .aws()
        .secretsmanager(STAGING, REGION)
        .deny("shop/token", "secretsmanager:DescribeSecret");
    stage.write("references.env", &lines[0]);
    let denied = stage.run("secrets", &file).await;
    assert!(
        denied.code == 7 && denied.stdout.contains("allow secretsmanager:DescribeSecret on"),
        "{denied:?}"
    );
}

/// Adds settings to the ECS service of staging in bp.toml.
fn configure(stage: &Stage, lines: &str) {
    let service = "cluster = \"staging\"\nservice = \"shop-web\"\n";
    stage.edit_config(service, &format!("{service}{lines}\n"));
}

/// References of bp.toml that no revision has yet, down to the JSON key, in `secrets check` and in `--check`.
#[tokio::test]
async fn checks_the_references_of_bp_toml_before_they_are_deployed() {
    let stage = Stage::new().await;
    let keyed = stage.world.sandbox.aws().secretsmanager(STAGING, REGION);
    let arn = keyed.create("shop/db", &format!(r#"{{"password": "{CANARY}"}}"#));
    let secret = |key: &str| format!("secrets.PASSWORD = \"{arn}:{key}::\"");
    configure(&stage, &secret("password"));
    let check = ["check", "--env", "staging"];
    let good = stage.run("secrets", &check).await;
    assert_eq!(good.code, 0, "{good:?}");
    assert!(good.stdout.contains("web.PASSWORD: ") && good.stdout.contains(" is valid"), "{good:?}");
    let deploy = ["--env", "staging", "--check"];
    let ready = stage.run("deploy-ecs", &deploy).await;
    assert_eq!(ready.code, 0, "{ready:?}");
    assert!(ready.stdout.contains("secret PASSWORD of web"), "{ready:?}");

    stage.edit_config(":password::", ":pasword::");
    let bad = stage.run("secrets", &check).await;
    assert_eq!(bad.code, 2, "{bad:?}");
    assert!(bad.stdout.contains("web.PASSWORD: "), "{bad:?}");
    let refused = stage.run("deploy-ecs", &deploy).await;
    assert_eq!(refused.code, 5, "{refused:?}");
    assert!(refused.stdout.contains("INVALID: secret PASSWORD of web"), "{refused:?}");

    // Without the permission to read values, the existence is checked, and the key is unknown.
    keyed.deny("shop/db", "secretsmanager:GetSecretValue");
    let unknown = stage.run("deploy-ecs", &deploy).await;
    assert_eq!(unknown.code, 0, "{unknown:?}");
    assert!(unknown.stdout.contains("whether it has the JSON key is unknown"), "{unknown:?}");
    assert!(unknown.stdout.contains("allow secretsmanager:GetSecretValue on"), "{unknown:?}");
    keyed.delete("shop/db");
    assert_eq!(stage.run("deploy-ecs", &deploy).await.code, 5);
    assert_eq!(canary_in_output(&[good, ready, bad, refused, unknown]), None);
}

/// The execution role also reads the credentials of a private registry.
#[tokio::test]
async fn checks_the_credentials_of_a_private_registry() {
    let stage = Stage::new().await;
    let secrets = stage.world.sandbox.aws().secretsmanager(STAGING, REGION);
    let arn = secrets.create("pull", CANARY);
    for (name, parameter) in [("by-arn", arn.as_str()), ("by-name", "pull"), ("missing", "no-such-secret")] {
        let credentials = json!({ "credentialsParameter": parameter });
        service_with(&stage, name, "repositoryCredentials", credentials);
        let set = format!("ecs.service={name}");
        let end = stage.run("secrets", &["check", "--env", "staging", "--set", &set, "--policy"]).await;
        assert_eq!(end.code, if name == "missing" { 2 } else { 0 }, "{end:?}");
        assert!(end.stdout.contains("web.repositoryCredentials.credentialsParameter: "), "{end:?}");
        assert!(end.stdout.contains("\"secretsmanager:GetSecretValue\""), "{end:?}");
    }
}

#[tokio::test]
async fn prints_references_in_every_format() {
    let stage = Stage::new().await;
    stage.write("references.env", "HOST=/shop/host:3\nPASSWORD=secretsmanager:shop/db:pass-word::\n");
    let print = async |form: &str| {
        let mut arguments = vec!["print", "--references", "references.env", "--form", form];
        if form != "ecs" {
            arguments.extend(["--namespace", "shop"]);
        }
        stage.run("secrets", &arguments).await
    };
    for (form, kind) in [
        ("external-secret", "ExternalSecret"),
        ("secret-provider-class", "SecretProviderClass"),
        ("config-map", "ConfigMap"),
    ] {
        let end = print(form).await;
        let object: Value = serde_json::from_str(&end.stdout).unwrap_or_else(|e| panic!("{e}: {end:?}"));
        assert_eq!(
            (object["kind"].as_str(), object["metadata"]["namespace"].as_str()),
            (Some(kind), Some("shop"))
        );
        let warned = end.stderr.contains("warning: PASSWORD: JMESPath requires quotes around this key");
        assert_eq!(warned, kind == "SecretProviderClass", "{end:?}");
    }
    stage.write("tls.env", "tls.crt=secretsmanager:shop/tls:crt::\ntls.key=secretsmanager:shop/tls:key::\n");
    let tls =
        ["print", "--references", "tls.env", "--form", "external-secret", "--type", "kubernetes.io/tls"];
    let end = stage.run("secrets", &tls).await;
    let object: Value = serde_json::from_str(&end.stdout).unwrap_or_else(|e| panic!("{e}: {end:?}"));
    assert_eq!(object["spec"]["target"]["template"]["type"], "kubernetes.io/tls");
    assert_eq!(object["spec"]["data"][0]["secretKey"], "tls.crt");
    let refused = print("ecs").await;
    assert!(
        refused.code == 2 && refused.stderr.contains("PASSWORD cannot be written for ECS"),
        "{refused:?}"
    );
    // An .env file that contains a secret value: the error reports the line, not its content.
    stage.write("references.env", &format!("A=/a\nPASSWORD={CANARY}!\n"));
    let wrong = print("ecs").await;
    assert_eq!(wrong.code, 2, "{wrong:?}");
    assert_eq!(canary_in_output(&[wrong]), None);
}

/// The objects around references, with names as options.
#[tokio::test]
async fn prints_stores_service_accounts_associations_and_volumes() {
    let stage = Stage::new().await;
    let print = async |arguments: &[&str]| {
        let end = stage.run("secrets", &[&["print", "--form"], arguments].concat()).await;
        assert_eq!(end.code, 0, "{arguments:?}: {end:?}");
        serde_json::from_str::<Value>(&end.stdout).unwrap_or_else(|error| panic!("{error}: {end:?}"))
    };
    let store = ["cluster-secret-store", "--store-region", "eu-west-1", "--secrets-store", "team-secrets"];
    let stores = print(&[&store[..], &["--service-account", "external-secrets/reader"]].concat()).await;
    assert_eq!(stores["kind"], "List");
    let first = &stores["items"][0];
    assert_eq!(
        (&first["kind"], &first["metadata"]["name"]),
        (&json!("ClusterSecretStore"), &json!("team-secrets"))
    );
    let aws = &first["spec"]["provider"]["aws"];
    assert_eq!(
        aws["auth"]["jwt"]["serviceAccountRef"],
        json!({ "name": "reader", "namespace": "external-secrets" })
    );
    assert_eq!(stores["items"][1]["metadata"]["name"], "aws-parameter-store");
    let own = print(&store).await;
    assert_eq!(
        own["items"][0]["spec"]["provider"]["aws"],
        json!({ "service": "SecretsManager", "region": "eu-west-1" })
    );

    let role = "arn:aws:iam::222222222222:role/web";
    let account =
        print(&["service-account", "--name", "web", "--namespace", "shop", "--iam-role", role]).await;
    assert_eq!(account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"], role);
    let account = print(&["service-account", "--name", "web", "--namespace", "shop"]).await;
    assert_eq!(account["metadata"], json!({ "name": "web", "namespace": "shop" }));
    let association = print(&[
        "pod-identity",
        "--name",
        "web",
        "--namespace",
        "shop",
        "--pod-identity-cluster",
        "prod",
        "--iam-role",
        role,
    ])
    .await;
    assert_eq!(
        association,
        json!({ "clusterName": "prod", "namespace": "shop", "serviceAccount": "web", "roleArn": role })
    );
    let volume = print(&["volume", "--name", "db", "--mount-path", "/run/db"]).await;
    assert_eq!(volume["volumes"][0]["csi"]["volumeAttributes"]["secretProviderClass"], "db");
    assert_eq!(volume["volumeMounts"][0], json!({ "name": "db", "mountPath": "/run/db", "readOnly": true }));

    stage.write("db.env", "USER=secretsmanager:shop/db:user::\nHOST=/shop/host\n");
    let references = ["--references", "db.env"];
    let class =
        [&["secret-provider-class", "--use-pod-identity", "--sync-secret", "db"], &references[..]].concat();
    let class = print(&class).await;
    assert_eq!(class["spec"]["parameters"]["usePodIdentity"], "true");
    assert_eq!(class["spec"]["secretObjects"][0]["secretName"], "db");
    let secret = [
        "external-secret",
        "--secrets-store",
        "team-secrets",
        "--immutable",
        "--template",
        "URL=x://{{ .USER }}@y",
    ];
    let secret = print(&[&secret[..], &references].concat()).await;
    assert_eq!(secret["spec"]["data"][0]["sourceRef"]["storeRef"]["name"], "team-secrets");
    assert_eq!(secret["spec"]["target"]["template"]["data"]["URL"], "x://{{ .USER }}@y");
    assert_eq!(secret["spec"]["target"]["immutable"], true);
    let variables = print(&[&["variables"], &references[..]].concat()).await;
    assert_eq!(variables, json!({ "USER": "secretsmanager:shop/db:user::", "HOST": "ssm:/shop/host" }));

    for (arguments, message) in [
        (&["--form", "cluster-secret-store"][..], "requires --store-region"),
        (&["--form", "pod-identity", "--namespace", "shop"], "requires --pod-identity-cluster"),
        (&["--form", "ecs"], "requires --references"),
        (&["--form", "volume", "--iam-role", role], "--iam-role has no effect with --form volume"),
        (&["--form", "volume", "--template", "A=b"], "--template has no effect with --form volume"),
        (
            &["--form", "cluster-secret-store", "--store-region", "r", "--service-account", "reader"],
            "NAMESPACE/NAME",
        ),
        (
            &["--form", "external-secret", "--references", "db.env", "--type", "kubernetes.io/tls"],
            "requires the names tls.crt and tls.key",
        ),
    ] {
        let end = stage.run("secrets", &[&["print"], arguments].concat()).await;
        assert!(end.code == 2 && end.stderr.contains(message), "{arguments:?}: {end:?}");
    }
}

/// The output around the canary, if any process printed it.
fn canary_in_output(ends: &[Ended]) -> Option<String> {
    ends.iter().flat_map(|end| [&end.stdout, &end.stderr]).find_map(|text| found(text.as_bytes()))
}

/// The file content around the canary, if any file below the directory contains it.
fn canary_in_files(directory: &Path) -> Option<String> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).find_map(|path| {
        if path.is_dir() {
            canary_in_files(&path)
        } else {
            found(&fs::read(&path).unwrap()).map(|found| format!("{}: {found}", path.display()))
        }
    })
}

fn found(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let at = PIECES.iter().find_map(|piece| text.find(piece))?;
    Some(text.chars().skip(text[..at].chars().count().saturating_sub(120)).take(240).collect())
}

/// Every binary that handles secrets, with full logging, in success and failure.
#[tokio::test]
async fn no_output_or_file_contains_the_canary() {
    let stage = Stage::new().await;
    let all = seed(&stage);
    service(&stage, "sealed", &all[..5]);
    let lines: Vec<String> = all.iter().enumerate().map(|(n, text)| format!("S{n}={text}\n")).collect();
    stage.write("references.env", &lines.concat());
    // A build that fails, so that causes and evidence are printed.
    stage.built(&shop("1.0.1").label("dev.bp-sandbox.behaviour", "exit:3").build(), "1.0.1");

    let mut ends = Vec::new();
    let mut run = async |codes: &[i32], name: &str, arguments: &[&str]| {
        for output in ["lines", "json"] {
            let mut command = stage.command(name, arguments);
            command.env("RUST_LOG", "trace").env("RUST_BACKTRACE", "full").env("BP_OUTPUT", output);
            let end = ended(command).await;
            let last: Vec<&str> = end.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
            assert!(codes.contains(&end.code), "{name} {arguments:?}: {} {last:?} {}", end.code, end.stdout);
            ends.push(end);
        }
    };
    let target = ["--env", "staging", "--set", "ecs.service=sealed"];
    let with = |more: &[&'static str]| [&target[..], more].concat();
    let file = ["--references", "references.env"];
    run(&[0], "secrets", &[&["check"], &target[..]].concat()).await;
    run(&[2], "secrets", &[&["check"], &target[..], &file].concat()).await;
    run(&[0], "secrets", &[&["check", "--describe"], &target[..], &file].concat()).await;
    for form in ["ecs", "external-secret", "secret-provider-class", "config-map"] {
        run(&[0], "secrets", &[&["print", "--form", form], &file[..]].concat()).await;
    }
    run(&[0], "config", &[&["show"], &target[..]].concat()).await;
    run(&[3], "deploy-ecs", &with(&["--timeout", "2m"])).await;
    run(&[3], "deploy-eks", &with(&["--timeout", "2m"])).await;
    run(&[3], "dual-deploy", &with(&["--timeout", "2m"])).await;
    run(&[0], "promote", &["--to", "prod"]).await;
    run(&[0, 6], "verify", &with(&[])).await;
    run(&[0], "rollback", &with(&[])).await;
    // A deleted secret and a denied one: the tasks do not start, and the cause is reported.
    let secrets = stage.world.sandbox.aws().secretsmanager(STAGING, REGION);
    secrets.deny("shop/token", "secretsmanager:GetSecretValue");
    secrets.delete("shop/db");
    run(&[2], "secrets", &[&["check"], &target[..]].concat()).await;
    run(&[2, 3, 4, 5, 7], "deploy-ecs", &with(&["--timeout", "30s"])).await;

    let logged: usize = ends.iter().map(|end| end.stderr.len()).sum();
    assert!(logged > 100_000, "trace logging was enabled: {logged} bytes");
    assert_eq!(canary_in_output(&ends), None);
    assert!(stage.path("receipt.json").exists(), "the receipt exists and is searched");
    assert_eq!(canary_in_files(stage.directory.path()), None);
}

/// The search finds an existing canary.
#[test]
fn the_search_finds_the_canary_in_files_and_output() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("below")).unwrap();
    fs::write(directory.path().join("below/log"), format!("x {CANARY}")).unwrap();
    assert!(canary_in_files(directory.path()).unwrap().contains("below/log"));
    let end = Ended { code: 0, stdout: String::new(), stderr: PIECES[3].to_owned() };
    assert!(canary_in_output(&[end]).is_some());
}

#[tokio::test]
async fn a_service_without_secrets_is_reported() {
    let stage = Stage::new().await;
    let end = stage.run("secrets", &["check", "--env", "staging"]).await;
    assert_eq!((end.code, end.stdout.trim()), (0, "there are no references to secrets"), "{end:?}");
}
