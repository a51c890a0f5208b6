//! Configuration layers of the binaries: `bp.toml`, overlays, variables and flags, their precedence and origins.
#![cfg(feature = "sandbox")]

mod common;

use common::{Stage, ended};
use serde_json::Value;

/// The JSON result of `config show`.
fn result(stdout: &str) -> Value {
    let line: Value = serde_json::from_str(stdout.trim()).unwrap();
    assert_eq!(line["type"], "result");
    line["data"].clone()
}

fn setting<'a>(environment: &'a Value, key: &str) -> (&'a str, &'a str) {
    let settings = environment["settings"].as_array().unwrap();
    let setting = settings.iter().find(|setting| setting["key"] == key).unwrap();
    (setting["value"].as_str().unwrap(), setting["origin"].as_str().unwrap())
}

#[tokio::test]
async fn shows_effective_settings_and_their_origins() {
    let stage = Stage::new().await;
    stage.write("blue.toml", "version = 1\n[[environment]]\nname = \"staging\"\necs.cluster = \"blue\"\n");
    let arguments = ["show", "--env", "staging", "--overlay", "blue.toml", "--set", "ecs.service=front"];
    let mut text = stage.command("config", &arguments);
    text.env("BP_STAGING_EKS_NAMESPACE", "shop2");
    let text = ended(text).await;
    assert_eq!(text.code, 0, "{text:?}");
    let row = |key: &str| {
        let row = text.stdout.lines().find(|line| line.split_whitespace().next() == Some(key));
        row.unwrap_or_else(|| panic!("{key}: {}", text.stdout)).split_whitespace().skip(1).collect::<Vec<_>>()
    };
    assert_eq!(row("account"), ["222222222222", "bp.toml:18:11"]);
    assert_eq!(row("ecs.cluster"), ["blue", "blue.toml:4:15"]);
    assert_eq!(row("eks.namespace"), ["shop2", "$BP_STAGING_EKS_NAMESPACE"]);
    assert_eq!(row("ecs.service"), ["front", "--set"]);
    assert_eq!(row("deploy.timeout"), ["15m", "default"]);

    let json = stage.run("config", &["show", "--output", "json"]).await;
    let all = result(&json.stdout);
    let names: Vec<&str> =
        all.as_array().unwrap().iter().map(|e| e["environment"].as_str().unwrap()).collect();
    assert_eq!(names, ["dev", "staging", "prod"]);
    assert_eq!(setting(&all[2], "tags.Environment"), ("prod", "default"));
    assert_eq!(setting(&all[1], "repository"), ("shop/web", "bp.toml:7:14"));
}

#[tokio::test]
async fn reports_the_location_of_an_invalid_setting() {
    let stage = Stage::new().await;
    let good = stage.run("config", &["check"]).await;
    assert_eq!((good.code, good.stdout.trim()), (0, "shop: dev -> staging -> prod"));
    let schema = stage.run("config", &["schema"]).await;
    assert_eq!(serde_json::from_str::<Value>(&schema.stdout).unwrap(), bp_artifact::config::config_schema());

    for (arguments, variable, message) in [
        (&["show", "--env", "qa"][..], "", "bp.toml has no environment \"qa\"; it has dev, staging, prod"),
        (&["show", "--set", "region=eu-west-1"], "", "--set applies to one environment: add --env"),
        (&["show", "--env", "dev", "--set", "regoin=x"], "", "--set: unknown setting \"regoin\""),
        (&["show", "--env", "dev", "--set", "region=mars"], "", "--set: \"mars\" is not an AWS region"),
        (&["check", "--overlay", "none.toml"], "", "cannot read none.toml"),
        (&["check"], "mars", "$BP_PROD_REGION: \"mars\" is not an AWS region"),
    ] {
        let mut command = stage.command("config", arguments);
        command.env("BP_PROD_REGION", variable);
        let end = ended(command).await;
        assert_eq!(end.code, 2, "{arguments:?}: {end:?}");
        assert!(end.stderr.contains(message), "{arguments:?}: {}", end.stderr);
    }
    stage.edit_config("region = \"eu-central-1\"", "region = 7");
    let bad = stage.run("config", &["check"]).await;
    assert!(bad.stderr.contains("error: bp.toml:12:10: `region` is a string, found a number"), "{bad:?}");
    assert_eq!(bad.code, 2);
}

/// In every binary, variables win over the file, and flags win over both.
#[tokio::test]
async fn flags_win_over_variables_and_variables_over_the_file() {
    let stage = Stage::new().await;
    let digest = "0".repeat(64);
    let image = format!("222222222222.dkr.ecr.eu-central-1.amazonaws.com/shop/web:1.0.0@sha256:{digest}");
    for (name, arguments) in [
        ("deploy-ecs", &["--env", "staging"][..]),
        ("deploy-eks", &["--env", "staging"]),
        ("dual-deploy", &["--env", "staging"]),
        ("rollback", &["--env", "staging"]),
        ("verify", &["--env", "staging"]),
        ("promote", &["--to", "staging"]),
        ("emit-artifact", &["--env", "staging", "--image", &image]),
    ] {
        let mut command = stage.command(name, arguments);
        command.env("BP_STAGING_ACCOUNT", "444444444444");
        let variable = ended(command).await;
        assert!(
            variable.code == 2 && variable.stderr.contains("not to 444444444444"),
            "{name}: {variable:?}"
        );
        let mut command = stage.command(name, &[arguments, &["--set", "account=555555555555"]].concat());
        command.env("BP_STAGING_ACCOUNT", "444444444444");
        let flag = ended(command).await;
        assert!(flag.code == 2 && flag.stderr.contains("not to 555555555555"), "{name}: {flag:?}");
    }
    assert_eq!(stage.changes(), 0);

    // With `deploy.on-failure = "leave"`, the failed revision is kept.
    let broken = bp_examples::world::shop("1.0.1").label("dev.bp-sandbox.behaviour", "exit:1");
    stage.built(&broken.build(), "1.0.1");
    let set = ["--env", "staging", "--set", "deploy.on-failure=leave", "--set", "limits.failures=1"];
    let left = stage.run("deploy-eks", &set).await;
    assert_eq!(left.code, 4, "{left:?}");
    assert!(left.stdout.contains("failed and not rolled back"), "{left:?}");
}
