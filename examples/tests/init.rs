//! `init` writes a `bp.toml` that `config` accepts, from flags alone and from what runs; it replaces nothing unasked.
#![cfg(feature = "sandbox")]

mod common;

use bp_artifact::{Config, config::EksObject};
use common::{Ended, Stage, ended};
use serde_json::Value;

const OFFLINE: &[&str] = &[
    "--offline",
    "--project",
    "shop",
    "--repository",
    "shop/web",
    "--region",
    "eu-central-1",
    "--env",
    "staging",
    "--env",
    "prod",
    "--setting",
    "staging.account=222222222222",
    "--setting",
    "prod.account=333333333333",
    "--ecs-service",
    "shop-web",
    "--setting",
    "staging.ecs.cluster=staging",
    "--setting",
    "prod.ecs.cluster=prod",
    "--setting",
    "deploy.timeout=20m",
];

/// The role of the example in an account of the sandbox.
fn role(account: &str) -> String {
    format!("arn:aws:iam::{account}:role/deliver")
}

fn written(stage: &Stage) -> Config {
    Config::parse(&stage.read("new.toml"), "new.toml").unwrap()
}

async fn init(stage: &Stage, arguments: &[&str]) -> Ended {
    stage.run("init", &[&["--config", "new.toml"], arguments].concat()).await
}

#[tokio::test]
async fn flags_alone_are_enough_without_network() {
    let stage = Stage::new().await;
    let before = stage.world.sandbox.ledger().count(|_| true);
    let first = init(&stage, OFFLINE).await;
    assert_eq!(first.code, 0, "{first:?}");
    assert_eq!(stage.world.sandbox.ledger().count(|_| true), before, "a request was sent");
    for text in ["not known: staging: role: ", "not known: prod: role: "] {
        assert!(first.stderr.contains(text), "{first:?}");
    }
    let names: Vec<String> = written(&stage).environments().iter().map(|e| e.name.to_string()).collect();
    assert_eq!(names, ["staging", "prod"]);
    let check = stage.run("config", &["check", "--config", "new.toml"]).await;
    assert_eq!((check.code, check.stdout.trim()), (0, "shop: staging -> prod"), "{check:?}");
    let show = stage.run("config", &["show", "--config", "new.toml", "--env", "prod"]).await;
    let row = |key: &str| show.stdout.lines().find(|line| line.split_whitespace().next() == Some(key));
    assert!(row("ecs.cluster").is_some_and(|row| row.contains("prod")), "{show:?}");
    assert!(
        row("registry").is_some_and(|row| row.contains("333333333333.dkr.ecr.eu-central-1.amazonaws.com")),
        "{show:?}"
    );
    assert!(row("deploy.timeout").is_some_and(|row| row.contains("20m")), "{show:?}");

    // A second run changes nothing; another content is not written over it unasked.
    let text = stage.read("new.toml");
    let again = init(&stage, OFFLINE).await;
    assert!(again.code == 0 && again.stdout.contains("unchanged"), "{again:?}");
    let other = [OFFLINE, &["--project", "other"]].concat();
    let mut other: Vec<&str> = other.into_iter().filter(|word| *word != "shop").collect();
    other.retain({
        let mut seen = false;
        move |word| *word != "--project" || std::mem::replace(&mut seen, true)
    });
    let refused = init(&stage, &other).await;
    assert!(refused.code == 5 && refused.stderr.contains("--overwrite"), "{refused:?}");
    assert_eq!(stage.read("new.toml"), text);
    let plan = init(&stage, &[&other[..], &["--plan"]].concat()).await;
    assert!(plan.code == 0 && plan.stdout.contains("name = \"other\""), "{plan:?}");
    assert_eq!(stage.read("new.toml"), text);
    let replaced = init(&stage, &[&other[..], &["--overwrite"]].concat()).await;
    assert_eq!((replaced.code, written(&stage).project.name.as_str()), (0, "other"), "{replaced:?}");
}

#[tokio::test]
async fn what_is_required_and_not_known_is_listed() {
    let stage = Stage::new().await;
    std::fs::remove_file(stage.path("artifact.json")).unwrap();
    let mut command = stage
        .command("init", &["--config", "new.toml", "--offline", "--env", "prod", "--eks-cluster", "prod"]);
    command
        .env_remove("AWS_REGION")
        .env_remove("AWS_DEFAULT_REGION")
        .env("GITHUB_REPOSITORY", "example/shop");
    let end = ended(command).await;
    assert_eq!(end.code, 2, "{end:?}");
    for text in ["project.repository", "prod: region", "prod: registry", "--eks-namespace", "--eks-workload"]
    {
        assert!(end.stderr.contains(text), "{text}: {end:?}");
    }
    assert!(!end.stderr.contains("project.name") && !stage.path("new.toml").exists(), "{end:?}");
    for (arguments, text) in [
        (&["--setting", "ecs.clutser=x"][..], "unknown setting \"ecs.clutser\""),
        (&["--setting", "prod.regoin=x"], "unknown setting"),
        (&["--setting", "region"], "[ENV.]KEY=VALUE"),
        (&["--setting", "limits.transfers=many"], "limits.transfers"),
        (&["--region", "eu_central"], "--region"),
        (&["--env", "staging"], "given twice"),
        (&["--context", "none"], "--context"),
    ] {
        let end = init(&stage, &[OFFLINE, arguments].concat()).await;
        assert!(end.code == 2 && end.stderr.contains(text), "{text}: {end:?}");
        assert!(!stage.path("new.toml").exists());
    }
}

#[tokio::test]
async fn an_ecs_service_and_a_workload_reveal_registry_repository_and_container() {
    let stage = Stage::new().await;
    std::fs::remove_file(stage.path("artifact.json")).unwrap();
    let role = role("222222222222");
    let own = ["--project", "shop", "--env", "staging", "--role", &role];
    let ecs = ["--ecs-cluster", "staging", "--ecs-service", "shop-web"];
    let end = init(&stage, &[&own[..], &ecs, &["--output", "json"]].concat()).await;
    assert_eq!(end.code, 0, "{end:?}");
    let result: Value = serde_json::from_str(end.stdout.trim()).unwrap();
    assert_eq!(
        (result["data"]["written"].as_bool(), &result["data"]["unknown"]),
        (Some(true), &Value::Array(vec![]))
    );
    let config = written(&stage);
    let environment = config.environment("staging").unwrap();
    let service = environment.service(None).unwrap();
    assert_eq!(service.repository.to_string(), "222222222222.dkr.ecr.eu-central-1.amazonaws.com/shop/web");
    assert_eq!(service.ecs().unwrap().container.as_deref(), Some("web"));
    assert!(
        stage.read("new.toml").contains("# the image of ECS service shop-web"),
        "{}",
        stage.read("new.toml")
    );

    // What it writes works.
    stage.built(&bp_examples::world::shop("1.0.0").build(), "1.0.0");
    let deployed = stage.run("deploy-ecs", &["--config", "new.toml", "--env", "staging", "--check"]).await;
    assert_eq!(deployed.code, 0, "{deployed:?}");

    let eks = ["--eks-cluster", "staging", "--eks-namespace", "shop", "--eks-workload", "deployment/web"];
    let plan = init(&stage, &[&own[..], &eks, &["--plan"]].concat()).await;
    let config = Config::parse(&plan.stdout, "plan").unwrap_or_else(|error| panic!("{error}: {plan:?}"));
    let eks = config.environment("staging").unwrap().service(None).unwrap().eks().unwrap().clone();
    assert!(
        matches!(eks.object, EksObject::Workload(_)) && eks.container.as_deref() == Some("web"),
        "{plan:?}"
    );

    // With kubectl's context, the cluster and the namespace need no flag.
    let (_, kubeconfig) = stage.world.kubeconfigs().into_iter().find(|(name, _)| name == "staging").unwrap();
    stage.write("kubeconfig", &kubeconfig);
    let arguments = [
        &own[..],
        &[
            "--config",
            "new.toml",
            "--plan",
            "--eks-namespace",
            "shop",
            "--eks-workload",
            "deployment/web",
            "--eks-cluster",
            "staging",
        ],
    ]
    .concat();
    let mut command = stage.command("init", &arguments);
    command.env("KUBECONFIG", stage.path("kubeconfig"));
    let end = ended(command).await;
    assert!(end.code == 0 && end.stdout.contains("eks.container = \"web\""), "{end:?}");
}

#[tokio::test]
async fn what_does_not_exist_is_an_error_and_what_cannot_be_read_is_not_known() {
    let stage = Stage::new().await;
    let role = role("222222222222");
    let own = ["--project", "shop", "--repository", "shop/web", "--env", "staging", "--role", &role];
    for (arguments, text) in [
        (&["--ecs-cluster", "staging", "--ecs-service", "shop-wbe"][..], "shop-wbe"),
        (
            &["--eks-cluster", "staging", "--eks-namespace", "shop", "--eks-workload", "deployment/wbe"],
            "deployment/wbe does not exist",
        ),
    ] {
        let end = init(&stage, &[&own[..], arguments].concat()).await;
        assert!(
            end.code == 2 && end.stderr.contains(text) && end.stderr.contains("nothing was written"),
            "{end:?}"
        );
        assert!(!stage.path("new.toml").exists());
    }
    let arguments = [
        &own[..],
        &["--config", "new.toml", "--ecs-cluster", "staging", "--ecs-service", "shop-web", "--timeout", "5s"],
    ]
    .concat();
    let mut command = stage.command("init", &arguments);
    command.env("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    let end = ended(command).await;
    assert!(end.code == 0 && end.stderr.contains("staging: ecs.container: not read: "), "{end:?}");
    assert!(stage.read("new.toml").contains("# ecs.container: not read: "));
    // Without the answer the file would be invalid.
    std::fs::remove_file(stage.path("new.toml")).unwrap();
    std::fs::remove_file(stage.path("artifact.json")).unwrap();
    let arguments: Vec<&str> =
        arguments.into_iter().filter(|word| !["--repository", "shop/web"].contains(word)).collect();
    let mut command = stage.command("init", &arguments);
    command.env("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    let end = ended(command).await;
    assert!(end.code == 7 && end.stderr.contains("project.repository"), "{end:?}");
    assert!(!stage.path("new.toml").exists());
}
