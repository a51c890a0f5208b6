//! Gates between the stages of a deployment: an HTTP check, a command, an approval, CloudWatch alarms, a Kubernetes Job.
#![cfg(feature = "sandbox")]

mod common;

use std::time::Duration;

use bp_artifact::{
    Verdict,
    deploy::{GateName, GateState, Receipt},
};
use bp_sandbox::{Behaviour, ImageBuilder, aws::AlarmState};
use common::{Ended, Stage, ended};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const ENV: &[&str] = &["--env", "staging", "--all"];

/// Adds gates to the environment `staging`.
fn gates(stage: &Stage, gates: &str) {
    stage.edit_config(
        "[[environment]]\nname = \"prod\"",
        &format!("{gates}\n[[environment]]\nname = \"prod\""),
    );
}

/// An HTTP endpoint that answers every request with this status and body.
async fn endpoint(status: &'static str, body: &'static str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/readyz", listener.local_addr().unwrap());
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

async fn deploy(stage: &Stage, arguments: &[&str]) -> Ended {
    let mut command = stage.command("dual-deploy", &[ENV, arguments].concat());
    command.env("GITHUB_ACTOR", "octocat");
    ended(command).await
}

fn state(stage: &Stage, gate: &str) -> Option<GateState> {
    let receipt = Receipt::read(stage.path("receipt.json")).unwrap();
    receipt.gate(&gate.parse::<GateName>().unwrap()).map(|gate| gate.state)
}

#[tokio::test]
async fn gates_between_two_services_block_the_second_until_they_pass() {
    let stage = Stage::of_services().await;
    let url = endpoint("200 OK", r#"{"status":"ok"}"#).await;
    gates(
        &stage,
        &format!(
            "[environment.gate.smoke]\nafter = \"worker\"\nurl = \"{url}\"\njson.\"/status\" = \"ok\"\n\
             [environment.gate.image]\nafter = \"worker/ecs\"\n\
             command = [\"sh\", \"-c\", \"test $BP_ENV = staging && echo $BP_IMAGE | grep -q shop/worker@sha256:\"]\n\
             [environment.gate.go-live]\nafter = \"worker\"\napproval = true\n"
        ),
    );
    let end = deploy(&stage, &["--plan"]).await;
    assert_eq!((end.code, stage.changes()), (0, 0), "{end:?}");
    let at = |text: &str| end.stdout.find(text).unwrap_or_else(|| panic!("{text}: {}", end.stdout));
    assert!(
        at("stage 1:\n  deploy ecs/staging/shop-worker: ") < at("gate smoke: check GET http://"),
        "{end:?}"
    );
    assert!(at("gate image: check sh") < at("gate go-live: approval"), "{end:?}");
    assert!(at("gate go-live: approval") < at("stage 2:\n  deploy ecs/staging/shop-web"), "{end:?}");

    let end = deploy(&stage, &["--approve", "go-live"]).await;
    assert!(end.code == 5 && end.stderr.contains("it was not reached"), "{end:?}");
    let end = deploy(&stage, &["--approve", "smoke"]).await;
    assert!(
        end.code == 2 && end.stderr.contains("unknown approval gate smoke; this deployment has go-live"),
        "{end:?}"
    );
    assert_eq!(stage.changes(), 0);

    let end = deploy(&stage, &[]).await;
    assert_eq!(end.code, 9, "{end:?}");
    assert!(end.stderr.contains("gate smoke: passed"), "{end:?}");
    assert!(
        end.stdout.contains("gate go-live: awaiting approval: continue with --approve go-live"),
        "{end:?}"
    );
    assert!(!end.stderr.contains("shop-web: started"), "{end:?}");
    let end = deploy(&stage, &["--approve", "go-live", "--output", "json"]).await;
    assert_eq!(end.code, 0, "{end:?}");
    assert!(end.stdout.contains(r#""event":"gate","gate":"go-live","state":"approved""#), "{}", end.stdout);
    let receipt = Receipt::read(stage.path("receipt.json")).unwrap();
    assert_eq!(receipt.verdict, Some(Verdict::Deployed));
    let approved = receipt.gate(&"go-live".parse().unwrap()).unwrap();
    assert_eq!(approved.by.as_ref().unwrap().to_string(), "octocat (by GITHUB_ACTOR, not verified)");
    // A gate after a service that this command does not deploy is skipped.
    let end = stage.run("dual-deploy", &["--env", "staging", "--service", "web", "--plan"]).await;
    assert!(end.code == 0 && !end.stdout.contains("gate"), "{end:?}");
}

#[tokio::test]
async fn a_failed_or_rejected_gate_rolls_back_and_an_unobserved_one_does_not() {
    let stage = Stage::of_services().await;
    let url = endpoint("503 Service Unavailable", "not yet").await;
    gates(
        &stage,
        &format!("[environment.gate.smoke]\nafter = \"worker\"\nurl = \"{url}\"\ntimeout = \"1s\"\n"),
    );
    let end = deploy(&stage, &[]).await;
    assert_eq!(end.code, 3, "{end:?}");
    let line = "gate smoke: failed: GET ";
    assert!(
        end.stdout.contains(line) && end.stdout.contains("status 503, expected 200 to 299: not yet"),
        "{end:?}"
    );
    assert!(!end.stderr.contains("shop-web: started"), "{end:?}");

    // Nothing listens on this port.
    let unobserved = stage.read("bp.toml").replace(&url, "http://127.0.0.1:1/readyz");
    stage.write("bp.toml", &unobserved);
    let end = deploy(&stage, &[]).await;
    assert_eq!((end.code, state(&stage, "smoke")), (7, Some(GateState::Unobserved)), "{end:?}");
    stage.write(
        "bp.toml",
        &unobserved.replace("url = \"http://127.0.0.1:1/readyz\"\ntimeout = \"1s\"", "approval = true"),
    );
    let end = deploy(&stage, &[]).await;
    assert_eq!((end.code, state(&stage, "smoke")), (9, Some(GateState::AwaitingApproval)), "{end:?}");
    let end = deploy(&stage, &["--reject", "smoke"]).await;
    assert_eq!((end.code, state(&stage, "smoke")), (3, Some(GateState::Rejected)), "{end:?}");
    let changes = stage.changes();
    let end = deploy(&stage, &["--reject", "smoke"]).await;
    assert_eq!(
        (end.code, stage.changes()),
        (3, changes),
        "a repeated rejection starts no new deployment: {end:?}"
    );
}

#[tokio::test]
async fn alarms_decide_whether_a_deployment_continues() {
    let stage = Stage::of_services().await;
    let gate = "[environment.gate.alarms]\nafter = \"worker\"\nalarms = [\"shop-5xx\", \"shop-any\"]\ntimeout = \"1s\"\n";
    gates(&stage, gate);
    let describes = || stage.world.sandbox.ledger().count_of("cloudwatch:DescribeAlarms");
    let aws = stage.world.sandbox.aws();
    let alarm = |name: &str| aws.alarm("222222222222", "eu-central-1", name);
    alarm("shop-5xx").set(AlarmState::Ok, "");
    // A missing alarm is reported before the first change.
    let end = deploy(&stage, &[]).await;
    assert_eq!((end.code, stage.changes(), describes()), (2, 0, 1), "{end:?}");
    assert!(end.stderr.contains("gate alarms: there is no CloudWatch alarm shop-any"), "{end:?}");

    alarm("shop-any").composite().set(AlarmState::Alarm, "Threshold Crossed: 17 errors\n::error::injected");
    let end = deploy(&stage, &[]).await;
    assert_eq!((end.code, state(&stage, "alarms")), (3, Some(GateState::Failed)), "{end:?}");
    assert!(end.stdout.contains("alarm shop-any is in ALARM (updated 20"), "{end:?}");
    assert!(end.stdout.contains("Threshold Crossed: 17 errors"), "{end:?}");
    assert!(!end.stdout.contains("\n::error::"), "{end:?}");
    assert!(!end.stderr.contains("shop-web: started"), "{end:?}");

    alarm("shop-any").composite().set(AlarmState::InsufficientData, "Unchecked: Initial alarm creation");
    let end = deploy(&stage, &[]).await;
    assert_eq!((end.code, state(&stage, "alarms")), (7, Some(GateState::Unobserved)), "{end:?}");

    alarm("shop-any").composite().set(AlarmState::Ok, "");
    let before = describes();
    let end = deploy(&stage, &[]).await;
    assert_eq!((end.code, state(&stage, "alarms")), (0, Some(GateState::Passed)), "{end:?}");
    assert_eq!(describes() - before, 2, "one call before the deployment, one at the gate");
}

#[tokio::test]
async fn a_job_decides_whether_a_deployment_continues() {
    let stage = Stage::of_services().await;
    gates(&stage, "[environment.gate.smoke]\nafter = \"worker\"\njob = \"smoke.yaml\"\n");
    let image = ImageBuilder::new().layer([("app/smoke", "1")]).build();
    let host = "222222222222.dkr.ecr.eu-central-1.amazonaws.com";
    stage.world.sandbox.registry(host).push(&image, "shop/smoke", "1");
    let behaves = |code: i32, line: &str| {
        let exits = Behaviour::Exits { after: Duration::from_secs(5), code, log: vec![line.to_owned()] };
        stage.world.sandbox.script(image.digest(), exits);
    };
    let end = deploy(&stage, &[]).await;
    assert!(end.code == 2 && end.stderr.contains("gate smoke: cannot read smoke.yaml: "), "{end:?}");
    let manifest = format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata: {{ name: smoke, namespace: default }}\nspec:\n  backoffLimit: 0\n  \
         template:\n    spec:\n      restartPolicy: Never\n      containers:\n      - name: smoke\n        \
         image: {host}/shop/smoke@{}\n",
        image.digest()
    );
    stage.write("smoke.yaml", &manifest);
    let end = deploy(&stage, &[]).await;
    assert!(
        end.code == 2 && end.stderr.contains("has the namespace default, but the gate runs it in shop"),
        "{end:?}"
    );
    assert_eq!(stage.changes(), 0);

    stage.write("smoke.yaml", &manifest.replace(", namespace: default", ""));
    behaves(3, "no orders");
    let end = deploy(&stage, &[]).await;
    assert_eq!((end.code, state(&stage, "smoke")), (3, Some(GateState::Failed)), "{end:?}");
    assert!(end.stdout.contains("container smoke, exit code 3: no orders"), "{end:?}");
    let created = || stage.world.sandbox.ledger().count_of("create jobs");
    assert_eq!(created(), 1);

    behaves(0, "ok");
    let end = deploy(&stage, &[]).await;
    assert_eq!((end.code, state(&stage, "smoke"), created()), (0, Some(GateState::Passed), 2), "{end:?}");
    assert_eq!(
        stage.world.sandbox.cluster("staging").objects("jobs", "shop").len(),
        1,
        "the failed Job is kept"
    );
}
