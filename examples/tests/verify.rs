//! `verify`: one table of checks with a result each, the exit code, the report, and repeated checks.
#![cfg(feature = "sandbox")]

mod common;

use std::time::Duration;

use bp_artifact::check::{CheckKind, CheckResult, Verification};
use bp_sandbox::{Fault, Sandbox, aws::AlarmState};
use common::{Ended, Stage, ended};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const STAGING: &str = "222222222222";
const REGION: &str = "eu-central-1";
const GROUP: &str = "arn:aws:elasticloadbalancing:eu-central-1:222222222222:targetgroup/web/0123456789abcdef";

/// An HTTP endpoint that answers every request with this status and body.
async fn endpoint(status: &'static str, body: &'static str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/readyz?token=not-shown", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = socket.read(&mut request).await;
            let length = body.len();
            let answer =
                format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    });
    url
}

/// A stage in which shop 1.0.0 is deployed to staging.
async fn deployed() -> Stage {
    let stage = Stage::new().await;
    let end = stage.run("dual-deploy", &["--env", "staging"]).await;
    assert_eq!(end.code, 0, "{end:?}");
    stage.world.sandbox.clock().advance(Duration::from_secs(120));
    stage
}

async fn verify(stage: &Stage, arguments: &[&str]) -> Ended {
    stage.run("verify", &[&["--env", "staging", "--report", "report.json"], arguments].concat()).await
}

/// The results in the report: the target, the check, the result.
fn report(stage: &Stage) -> Vec<(String, CheckKind, CheckResult)> {
    let report = Verification::read(stage.path("report.json")).unwrap();
    report.checks.into_iter().map(|row| (row.target, row.check, row.result)).collect()
}

fn result(stage: &Stage, check: CheckKind) -> Vec<CheckResult> {
    report(stage).into_iter().filter(|row| row.1 == check).map(|row| row.2).collect()
}

/// The detail of the only row of a check.
fn detail(stage: &Stage, check: CheckKind) -> String {
    let report = Verification::read(stage.path("report.json")).unwrap();
    let mut rows = report.checks.into_iter().filter(|row| row.check == check);
    let only = rows.next().unwrap_or_else(|| panic!("no row of {check}"));
    assert!(rows.next().is_none(), "several rows of {check}");
    only.detail
}

#[tokio::test]
async fn one_table_of_all_checks_and_a_report() {
    use CheckKind::{Definition, Digest, Http, Image, Rollout};
    let stage = deployed().await;
    let url = endpoint("200 OK", r#"{"platform":"ecs","build":{"version":"1.0.0"}}"#).await;
    let expected =
        ["--url", &url, "--expect", "200", "--expect", "/build/version=1.0.0", "--expect", "platform"];
    let end = verify(&stage, &expected).await;
    assert_eq!(end.code, 0, "{end:?}");
    let lines: Vec<&str> = end.stdout.lines().collect();
    assert!(lines[0].starts_with("TARGET ") && lines[0].contains(" CHECK ") && lines[0].ends_with("DETAIL"));
    assert_eq!(lines.last(), Some(&"staging: 8 checks: 8 passed, 0 failed, 0 unknown"), "{end:?}");
    let (ecs, eks) = ("ecs/staging/shop-web".to_owned(), "eks/staging/shop/deployment/web".to_owned());
    let rows = report(&stage);
    let checks: Vec<_> = rows.iter().map(|(target, check, _)| (target.as_str(), *check)).collect();
    let of = |target| [Rollout, Digest, Definition].map(|check| (target, check));
    assert_eq!(checks[0].1, Image);
    assert_eq!(checks[1..7], [of(ecs.as_str()), of(eks.as_str())].concat());
    assert_eq!(checks[7].1, Http);
    assert!(!format!("{end:?} {rows:?}").contains("not-shown"), "{end:?}");

    // The same as JSON.
    let end = verify(&stage, &[&expected[..], &["--output", "json"]].concat()).await;
    let line: serde_json::Value = serde_json::from_str(end.stdout.trim()).unwrap();
    assert_eq!((end.code, &line["type"], &line["data"]["result"]), (0, &json!("result"), &json!("pass")));
    assert_eq!(line["data"]["checks"][7]["check"], "http");

    // Each expectation that is not met is a failure, a failed connection is not.
    for (expect, reason) in [
        ("204", "status 200, expected 204"),
        ("/build/version=2.0.0", "/build/version is \"1.0.0\", expected \"2.0.0\""),
        ("text=eks", "\"eks\" is not in the body"),
    ] {
        let end = verify(&stage, &["--only", "http", "--url", &url, "--expect", expect]).await;
        assert!(end.code == 6 && end.stdout.contains(reason), "{expect}: {end:?}");
    }
    let end = verify(&stage, &["--only", "http", "--url", "http://127.0.0.1:1/"]).await;
    assert_eq!((end.code, result(&stage, Http)), (7, vec![CheckResult::Unknown]), "{end:?}");
    let end = verify(&stage, &["--only", "http,image", "--url", &url, "--url", "http://127.0.0.1:1/"]).await;
    assert_eq!((end.code, report(&stage).len()), (7, 3), "{end:?}");
    let end = verify(&stage, &["--skip", "rollout,digest,definition", "--skip", "image"]).await;
    assert!(end.code == 2 && end.stderr.contains("no target to verify"), "{end:?}");
    let end = verify(&stage, &["--only", "tsl"]).await;
    assert!(end.code == 2 && end.stderr.contains("expected one of rollout"), "{end:?}");
}

#[tokio::test]
async fn failures_are_not_confused_with_what_cannot_be_observed() {
    use CheckKind::{Definition, Digest, Image, Rollout, Secrets};
    let stage = deployed().await;
    let staging = stage.world.config.environment("staging").unwrap().clone();
    let registry = stage.world.sandbox.registry(staging.registry().as_str());
    let digest = registry.tags("shop/web")["1.0.0"].clone();

    // Archived in the registry, while it runs.
    registry.archive("shop/web", &digest);
    let end = verify(&stage, &[]).await;
    assert_eq!((end.code, result(&stage, Image)), (6, vec![CheckResult::Fail]), "{end:?}");
    assert!(detail(&stage, Image).contains("archived"), "{end:?}");
    assert_eq!(result(&stage, Digest), [CheckResult::Pass; 2]);

    // Changed on ECS; and its API cannot be read.
    let end = stage.run("deploy-ecs", &["--env", "staging", "--revision", "shop-web:1"]).await;
    assert_eq!(end.code, 0, "{end:?}");
    let end = verify(&stage, &["--skip", "image"]).await;
    assert_eq!(end.code, 6, "{end:?}");
    assert_eq!(result(&stage, Digest), [CheckResult::Fail, CheckResult::Pass]);
    assert_eq!(result(&stage, Definition), [CheckResult::Fail, CheckResult::Pass]);
    let denied = json!({ "__type": "AccessDeniedException", "message": "no\n::error::injected" });
    let answer = bp_sandbox::Effect::Answer {
        status: 400,
        headers: vec![("content-type".into(), "application/x-amz-json-1.1".into())],
        body: denied.to_string(),
    };
    stage.world.sandbox.faults().inject(Fault::new(answer).on("ecs:DescribeServices").times(u32::MAX));
    let end = verify(&stage, &["--skip", "image"]).await;
    assert_eq!(end.code, 7, "{end:?}");
    assert_eq!(result(&stage, Rollout), [CheckResult::Unknown, CheckResult::Pass]);
    // EKS was verified nevertheless.
    assert_eq!(result(&stage, Digest), [CheckResult::Pass]);
    assert!(!end.stdout.contains("\n::error::"), "{end:?}");
    stage.world.sandbox.faults().clear();

    // A secret without the JSON key, one that is missing, and one that must not be read.
    let secrets = stage.world.sandbox.aws().secretsmanager(STAGING, REGION);
    let arn = secrets.create("shop/db", r#"{"password": "kanarie"}"#);
    let service = "cluster = \"staging\"\nservice = \"shop-web\"\n";
    stage.edit_config(service, &format!("{service}secrets.PASSWORD = \"{arn}:password::\"\n"));
    let only = ["--only", "secrets,secret-keys"];
    let end = verify(&stage, &only).await;
    assert_eq!((end.code, result(&stage, Secrets)), (0, vec![CheckResult::Pass]), "{end:?}");
    assert_eq!(detail(&stage, Secrets), "1 secret exists, 1 with their JSON key");
    stage.edit_config(":password::", ":pasword::");
    let end = verify(&stage, &only).await;
    assert_eq!((end.code, result(&stage, Secrets)), (6, vec![CheckResult::Fail]), "{end:?}");
    assert!(detail(&stage, Secrets).contains("without the key \"pasword\""), "{end:?}");
    assert!(!format!("{end:?}").contains("kanarie"));
    let end = verify(&stage, &["--only", "secrets"]).await;
    assert_eq!(
        (end.code, result(&stage, Secrets)),
        (0, vec![CheckResult::Pass]),
        "keys are not read: {end:?}"
    );
    secrets.deny("shop/db", "secretsmanager:GetSecretValue");
    let end = verify(&stage, &only).await;
    assert_eq!((end.code, result(&stage, Secrets)), (7, vec![CheckResult::Unknown]), "{end:?}");
    assert!(detail(&stage, Secrets).contains("--skip secret-keys"), "{end:?}");
    secrets.delete("shop/db");
    let end = verify(&stage, &["--only", "secrets"]).await;
    assert_eq!((end.code, result(&stage, Secrets)), (6, vec![CheckResult::Fail]), "{end:?}");
}

#[tokio::test]
async fn load_balancers_ingresses_and_their_targets() {
    use CheckKind::{Address, Dns, Targets, Tls};
    let stage = deployed().await;
    let sandbox = &stage.world.sandbox;
    let aws = sandbox.aws();
    aws.target_group(GROUP, "ip", true);
    let image = stage.world.config.environment("staging").unwrap().services()[0].repository.clone();
    let definition = json!({
        "family": "balanced", "networkMode": "awsvpc", "requiresCompatibilities": ["FARGATE"],
        "cpu": "256", "memory": "512",
        "containerDefinitions": [{ "name": "web", "image": format!("{image}:0.9.0"), "essential": true,
            "healthCheck": { "command": ["CMD-SHELL", "true"] } }],
    });
    let balancers = json!([{ "targetGroupArn": GROUP, "containerName": "web", "containerPort": 8080 }]);
    aws.ecs(STAGING, REGION)
        .new_service("staging", "balanced")
        .task_definition(definition)
        .with("launchType", json!("FARGATE"))
        .with("loadBalancers", balancers)
        .create();
    let ecs = ["--only", "targets,address", "--set", "ecs.service=balanced"];
    aws.targets(GROUP, &[("10.0.0.1", "healthy"), ("10.0.0.2", "initial")]);
    aws.load_balancer("shop-1.eu-central-1.elb.amazonaws.com", "active");
    let end = verify(&stage, &ecs).await;
    assert_eq!(end.code, 7, "a target that is being registered is neither: {end:?}");
    assert_eq!(
        (result(&stage, Targets), result(&stage, Address)),
        (vec![CheckResult::Unknown], vec![CheckResult::Pass])
    );
    assert_eq!(detail(&stage, Address), "shop-1.eu-central-1.elb.amazonaws.com");
    aws.targets(GROUP, &[("10.0.0.1", "healthy"), ("10.0.0.2", "unhealthy")]);
    aws.load_balancer("shop-1.eu-central-1.elb.amazonaws.com", "provisioning");
    let end = verify(&stage, &ecs).await;
    assert_eq!(end.code, 6, "{end:?}");
    assert!(detail(&stage, Targets).starts_with("1 of 2 targets in web are healthy: 10.0.0.2 "), "{end:?}");
    assert_eq!(result(&stage, Address), [CheckResult::Unknown]);
    aws.targets(GROUP, &[("10.0.0.1", "healthy"), ("10.0.0.2", "draining")]);
    aws.deny("elasticloadbalancing:DescribeTargetGroups");
    let end = verify(&stage, &ecs).await;
    assert_eq!((end.code, result(&stage, Targets)), (7, vec![CheckResult::Pass]), "{end:?}");
    assert!(detail(&stage, Address).contains("elasticloadbalancing:DescribeTargetGroups"), "{end:?}");

    // On EKS: found by the pods that run, through their Service.
    let cluster = sandbox.cluster("staging");
    let pods = cluster.objects("pods", "shop");
    let labels = pods[0]["metadata"]["labels"].as_object().unwrap();
    let (name, value) = labels.iter().find(|(name, _)| *name != "pod-template-hash").unwrap();
    for object in [
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web", "namespace": "shop" },
            "spec": { "selector": { name: value }, "ports": [{ "port": 80 }] } }),
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "other", "namespace": "shop" },
            "spec": { "type": "LoadBalancer", "selector": { "app": "other" }, "ports": [{ "port": 80 }] } }),
        json!({ "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
            "metadata": { "name": "alb" }, "spec": { "controller": "ingress.k8s.aws/alb" } }),
    ] {
        cluster.create(object);
    }
    let ingress = |name: &str, class: &str| {
        json!({ "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": { "name": name, "namespace": "shop" },
            "spec": { "ingressClassName": class, "rules": [{ "host": "localhost", "http": { "paths": [{
                "path": "/", "pathType": "Prefix",
                "backend": { "service": { "name": "web", "port": { "number": 80 } } },
            }] } }] } })
    };
    cluster.stop_load_balancing();
    cluster.create(ingress("shop", "alb"));
    let eks = ["--only", "targets,address,dns,tls", "--set", "ecs.service=shop-web"];
    let end = verify(&stage, &eks).await;
    assert_eq!(end.code, 6, "the controller reports no address: {end:?}");
    assert_eq!(detail(&stage, Address), "ingress/shop: its controller has reported no address");
    assert_eq!((result(&stage, Dns), result(&stage, Tls)), (vec![CheckResult::Pass], vec![]), "{end:?}");
    cluster.start_load_balancing();
    sandbox.clock().advance(Duration::from_secs(60));
    aws.targets(
        "arn:aws:elasticloadbalancing:eu-central-1:111111111111:targetgroup/k8s-shop-web/0123456789abcdef",
        &[("10.0.0.1", "healthy")],
    );
    let end = verify(&stage, &eks).await;
    assert_eq!(end.code, 0, "{end:?}");
    assert!(detail(&stage, Address).starts_with("ingress/shop: k8s-shop-shop-"), "{end:?}");
    assert_eq!(result(&stage, Targets), [CheckResult::Pass]);
    // Another controller need not report an address.
    cluster.create(ingress("inside", "nginx"));
    let end = verify(&stage, &eks).await;
    assert_eq!(
        (end.code, result(&stage, Address)),
        (7, vec![CheckResult::Unknown, CheckResult::Pass]),
        "{end:?}"
    );
}

#[tokio::test]
async fn tls_and_dns_of_a_host() {
    use CheckKind::{Dns, Tls};
    let stage = Stage::new().await;
    let address = stage.world.served.address(stage.world.sandbox.cluster("staging").host()).unwrap();
    let url = format!("https://localhost:{}/", address.port());
    let run = async |authority: &str, url: &str| {
        stage.write("ca.pem", authority);
        let arguments = ["--env", "staging", "--only", "dns,tls", "--report", "report.json", "--url", url];
        let mut command = stage.command("verify", &arguments);
        command.env("SSL_CERT_FILE", "ca.pem");
        ended(command).await
    };
    let ours = stage.world.sandbox.ca_pem();
    let end = run(ours, &url).await;
    assert_eq!((end.code, result(&stage, Tls)), (0, vec![CheckResult::Pass]), "{end:?}");
    assert!(detail(&stage, Tls).starts_with("valid until 4096-01-01 ("), "{end:?}");
    assert!(end.stdout.contains(&format!("localhost:{}", address.port())), "{end:?}");
    // Issued by somebody else, and an endpoint without TLS.
    let end = run(Sandbox::builder().build().ca_pem(), &url).await;
    assert_eq!((end.code, result(&stage, Tls)), (6, vec![CheckResult::Fail]), "{end:?}");
    assert!(detail(&stage, Tls).contains("UnknownIssuer"), "{end:?}");
    let plain = stage.world.served.address("aws").unwrap().port();
    let end = run(ours, &format!("https://localhost:{plain}/")).await;
    assert_eq!((end.code, result(&stage, Tls)), (6, vec![CheckResult::Fail]), "{end:?}");
    // Nobody listens: whether TLS works is unknown.
    let end = run(ours, "https://localhost:1/").await;
    assert_eq!((end.code, result(&stage, Tls)), (7, vec![CheckResult::Unknown]), "{end:?}");
    assert_eq!(result(&stage, Dns), [CheckResult::Pass]);
    // Whether this name does not exist, or no name server can be reached, depends on the machine; it never passes.
    let end = run(ours, "http://no-such-host.invalid/").await;
    assert!(matches!(end.code, 6 | 7) && result(&stage, Tls).is_empty(), "{end:?}");
}

#[tokio::test]
async fn the_checks_of_gates_are_those_of_verify() {
    use CheckKind::{Alarms, Command, Http};
    let stage = deployed().await;
    let url = endpoint("200 OK", "Platform: ecs").await;
    let gates = format!(
        "[environment.gate.banner]\nurl = \"{url}\"\ncontains = \"Platform: ecs\"\ndeploy = \"off\"\n\
         [environment.gate.errors]\nalarms = [\"shop-5xx\"]\ntimeout = \"1s\"\n\
         [environment.gate.internal]\nurl = \"{url}\"\nverify = \"off\"\n\
         [environment.gate.script]\ncommand = [\"sh\", \"-c\", \"echo $BP_IMAGE >> ran; exit 3\"]\ndeploy = \"off\"\n"
    );
    let prod = "[[environment]]\nname = \"prod\"";
    stage.edit_config(prod, &format!("{gates}\n{prod}"));
    let alarm = || stage.world.sandbox.aws();
    alarm().alarm(STAGING, REGION, "shop-5xx").set(AlarmState::Ok, "");
    let plan = stage.run("dual-deploy", &["--env", "staging", "--plan"]).await;
    assert!(
        plan.code == 0 && plan.stdout.contains("gate internal") && !plan.stdout.contains("gate banner"),
        "{plan:?}"
    );

    let end = verify(&stage, &["--only", "http,alarms"]).await;
    assert_eq!(end.code, 0, "{end:?}");
    assert!(end.stdout.contains("http (banner)") && end.stdout.contains("alarms (errors)"), "{end:?}");
    assert!(!end.stdout.contains("internal"), "{end:?}");
    alarm().alarm(STAGING, REGION, "shop-5xx").set(AlarmState::Alarm, "17 errors");
    let end = verify(&stage, &[]).await;
    assert_eq!(
        (end.code, result(&stage, Alarms), result(&stage, Http)),
        (6, vec![CheckResult::Fail], vec![CheckResult::Pass]),
        "{end:?}"
    );
    alarm().alarm(STAGING, REGION, "shop-5xx").set(AlarmState::InsufficientData, "no data");
    let end = verify(&stage, &["--only", "alarms"]).await;
    assert_eq!((end.code, result(&stage, Alarms)), (7, vec![CheckResult::Unknown]), "{end:?}");
    // A command runs only if it is selected.
    assert!(!stage.path("ran").exists());
    let end = verify(&stage, &["--only", "command"]).await;
    assert_eq!((end.code, result(&stage, Command)), (6, vec![CheckResult::Fail]), "{end:?}");
    assert!(stage.read("ran").contains("/shop/web@sha256:"), "{}", stage.read("ran"));

    // Left out by bp.toml.
    let before = stage.read("bp.toml");
    stage.edit_config(
        "[environment.gate.banner]",
        "[environment.verify]\nskip = \"alarms, http\"\n[environment.gate.banner]",
    );
    let end = verify(&stage, &[]).await;
    assert_eq!((end.code, result(&stage, Alarms), result(&stage, Http)), (0, vec![], vec![]), "{end:?}");
    stage.write("bp.toml", &before);
}

#[tokio::test]
async fn repeats_the_checks_and_prints_changes() {
    let stage = deployed().await;
    let aws = stage.world.sandbox.aws();
    let prod = "[[environment]]\nname = \"prod\"";
    stage.edit_config(prod, &format!("[environment.gate.errors]\nalarms = [\"shop-5xx\"]\n\n{prod}"));
    aws.alarm(STAGING, REGION, "shop-5xx").set(AlarmState::Alarm, "17 errors");
    let watch = ["--only", "alarms", "--watch", "--interval", "50ms"];
    let tables = |end: &Ended| end.stdout.lines().filter(|line| line.starts_with("TARGET")).count();
    let end = verify(&stage, &[&watch[..], &["--for", "1s"]].concat()).await;
    assert_eq!((end.code, tables(&end)), (6, 1), "{end:?}");
    assert!(stage.world.sandbox.ledger().count_of("cloudwatch:DescribeAlarms") > 4, "it was repeated");

    let until = [&watch[..], &["--for", "60s", "--until-passed"]].concat();
    let run = verify(&stage, &until);
    let recover = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        aws.alarm(STAGING, REGION, "shop-5xx").set(AlarmState::Ok, "");
    };
    let (end, ()) = tokio::join!(run, recover);
    assert_eq!((end.code, tables(&end)), (0, 2), "{end:?}");
    let end = verify(&stage, &["--for", "60s"]).await;
    assert!(end.code == 2 && end.stderr.contains("--watch"), "{end:?}");
}

/// The checks of gates as smoke tests before a switch, and as checks after it.
#[tokio::test]
async fn a_switch_is_checked_before_and_after_the_traffic_moves() {
    let stage = Stage::new().await;
    let environment = stage.world.config.environment("staging").unwrap().clone();
    let earlier = bp_examples::world::shop("0.9.0").build();
    let running = format!("{}@{}", environment.services()[0].repository, earlier.digest());
    let cluster = stage.world.sandbox.cluster("staging");
    let labels = json!({ "app": "site", "slot": "blue" });
    cluster.create(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "site-blue", "namespace": "shop" },
        "spec": { "replicas": 2, "selector": { "matchLabels": labels }, "template": {
            "metadata": { "labels": labels },
            "spec": { "containers": [{ "name": "web", "image": running }] },
        } },
    }));
    cluster.create(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "site", "namespace": "shop" },
        "spec": { "ports": [{ "port": 80 }], "selector": labels },
    }));
    stage.world.sandbox.clock().advance(Duration::from_secs(120));
    let gates = "[environment.gate.smoke]\ncommand = [\"test\", \"-e\", \"green-works\"]\ndeploy = \"off\"\ntimeout = \"1s\"\n\
                 [environment.gate.errors]\ncommand = [\"test\", \"!\", \"-e\", \"errors\"]\ndeploy = \"off\"\ntimeout = \"1s\"\n\
                 [environment.gate.lost]\ncommand = [\"./no-such-program\"]\ndeploy = \"off\"\ntimeout = \"1s\"\n";
    let prod = "[[environment]]\nname = \"prod\"";
    stage.edit_config(prod, &format!("{gates}\n{prod}"));
    let traffic = ["--env", "staging", "--take-over", "--kubernetes-service", "site"];
    let switch = async |flags: &[&str]| {
        stage.run("switch-traffic", &[&traffic[..], &["switch"], flags].concat()).await
    };
    let live = || cluster.object("services", "shop", "site").unwrap()["spec"]["selector"]["slot"].clone();
    let end = stage.run("switch-traffic", &[&traffic[..], &["stage"]].concat()).await;
    assert_eq!(end.code, 0, "{end:?}");

    let end = switch(&["--smoke", "smoke"]).await;
    assert_eq!((end.code, live()), (5, json!("blue")), "{end:?}");
    assert!(
        end.stderr.contains("gate smoke: test: failed: ") && end.stderr.contains("no traffic was moved"),
        "{end:?}"
    );
    let end = switch(&["--smoke", "lost"]).await;
    assert_eq!((end.code, live()), (7, json!("blue")), "{end:?}");
    let end = switch(&["--smoke", "absent"]).await;
    assert!(end.code == 2 && end.stderr.contains("the gate absent does not exist"), "{end:?}");

    stage.write("green-works", "");
    stage.write("errors", "17");
    let end = switch(&["--smoke", "smoke", "--checks", "errors"]).await;
    assert_eq!((end.code, live()), (3, json!("blue")), "{end:?}");
    assert!(end.stderr.contains("switching the traffic back"), "{end:?}");
    // Neither passed nor failed: the traffic stays.
    let end = switch(&["--smoke", "smoke", "--checks", "lost"]).await;
    assert_eq!((end.code, live()), (7, json!("green")), "{end:?}");
    std::fs::remove_file(stage.path("errors")).unwrap();
    let end = switch(&["--smoke", "smoke", "--checks", "errors"]).await;
    assert_eq!((end.code, live()), (0, json!("green")), "{end:?}");
}
