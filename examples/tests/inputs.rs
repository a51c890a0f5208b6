//! Invalid input: one error line with the remedy, the documented exit code, and no change.
#![cfg(feature = "sandbox")]

mod common;

use common::{Ended, Stage, ended};

/// Asserts one error line that contains `parts`, the exit code `code`, and no change.
#[track_caller]
fn refused(stage: &Stage, end: &Ended, code: i32, parts: &[&str]) {
    let errors: Vec<&str> = end.stderr.lines().filter(|line| line.starts_with("error:")).collect();
    assert_eq!(errors.len(), 1, "{end:?}");
    for part in parts {
        assert!(errors[0].contains(part), "{part:?} is missing in {:?}", errors[0]);
    }
    assert_eq!(end.code, code, "{end:?}");
    assert_eq!(stage.changes(), 0, "{end:?}");
    assert!(!stage.path("receipt.json").exists(), "a receipt was left behind");
}

#[tokio::test]
async fn rejects_invalid_files_and_flags() {
    let stage = Stage::new().await;
    let deploy = ["--env", "staging"];
    refused(&stage, &stage.run("dual-deploy", &["--env", "qa"]).await, 2, &["\"qa\"", "dev, staging, prod"]);
    refused(&stage, &stage.run("deploy-ecs", &["--env", "dev"]).await, 2, &["dev", "ecs"]);
    let bad = stage.run("deploy-ecs", &["--env", "staging", "--image", "r.example.com/web@sha256:12"]).await;
    refused(&stage, &bad, 2, &["64 hex digits, found 2"]);
    let tag = stage.run("deploy-ecs", &["--env", "staging", "--image", "r.example.com/web:latest"]).await;
    refused(&stage, &tag, 2, &["resolve it"]);
    refused(
        &stage,
        &stage.run("promote", &["--to", "dev"]).await,
        2,
        &["dev is the first environment of bp.toml", "--from"],
    );
    let absent = ["--env", "staging", "--receipt", "absent.json"];
    refused(&stage, &stage.run("rollback", &absent).await, 2, &["absent.json"]);

    stage.write("artifact.json", "{\n  \"commit_sha\": 7\n}");
    refused(&stage, &stage.run("dual-deploy", &deploy).await, 2, &["artifact.json:2:"]);
    std::fs::remove_file(stage.path("artifact.json")).unwrap();
    refused(&stage, &stage.run("dual-deploy", &deploy).await, 2, &["artifact.json"]);

    stage.edit_config("cluster = \"staging\"\nservice", "clutser = \"staging\"\nservice");
    refused(&stage, &stage.run("dual-deploy", &deploy).await, 2, &["bp.toml:", "clutser"]);
    std::fs::remove_file(stage.path("bp.toml")).unwrap();
    refused(&stage, &stage.run("dual-deploy", &deploy).await, 2, &["bp.toml"]);
}

#[tokio::test]
async fn rejects_registries_that_are_not_valid_hosts() {
    let stage = Stage::new().await;
    for host in [
        "256.256.256.256",
        "1.2.3.4.5",
        "foo.1",
        "aaa.0x1",
        "0x7f.1",
        "xn--zzzzzz.com",
        "r.example.com:+5000",
        "r.example.com:0",
        "[::1%25lo]:5000",
    ] {
        let image = format!("{host}/web:1");
        let end = stage.run("emit-artifact", &["--image", &image, "--image-timeout", "2s"]).await;
        refused(&stage, &end, 2, &[host]);
    }
    stage.edit_config("registry = \"111111111111.dkr", "registry = \"foo.1\"#");
    refused(&stage, &stage.run("config", &["check"]).await, 2, &["bp.toml:", "foo.1"]);
}

/// Whatever `--commit`, `--ref` and `--source` are, the artifact reads back, and it never has another commit's branch.
#[tokio::test]
async fn the_stated_source_is_written_so_that_it_reads_back() {
    let stage = Stage::new().await;
    let registry = stage.world.config.environments()[0].registry().to_string();
    let image = format!("{registry}/shop/web:1.0.0");
    let emit = |more: &[&str]| {
        let mut command = stage.command("emit-artifact", &[&["--image", &image], more].concat());
        command
            .env("CODEBUILD_BUILD_ID", "shop:1")
            .env("CODEBUILD_RESOLVED_SOURCE_VERSION", "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d")
            .env("CODEBUILD_WEBHOOK_HEAD_REF", "refs/heads/main");
        command
    };
    let read = || serde_json::from_str::<serde_json::Value>(&stage.read("artifact.json")).unwrap();
    let other = "f".repeat(40);
    // An ambiguous event is refused until everything is stated.
    let ambiguous = |more: &[&str]| {
        let mut command = stage.command("emit-artifact", &[&["--image", &image], more].concat());
        command
            .env("JENKINS_URL", "https://jenkins.example.com/")
            .env("CHANGE_ID", "7")
            .env("GIT_COMMIT", &other);
        command
    };
    let end = ended(ambiguous(&["--ref", "refs/pull/7/head"])).await;
    refused(
        &stage,
        &end,
        2,
        &["Jenkins: of the change request 7", "pass --commit <40 hex digits>, --source"],
    );
    let all = ["--commit", &other, "--ref", "refs/pull/7/head", "--source", "https://github.com/o/r"];
    assert_eq!(ended(ambiguous(&all)).await.code, 0);
    assert_eq!(read()["build"]["system"], "jenkins");

    for (more, commit, reference) in [
        (&["--commit", &other[..]][..], &other[..], serde_json::Value::Null),
        (&["--commit", "1a2b3c4"], "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d", "refs/heads/main".into()),
        (&["--commit", &other, "--ref", "refs/tags/v1"], &other, "refs/tags/v1".into()),
    ] {
        let end = ended(emit(more)).await;
        assert_eq!(end.code, 0, "{end:?}");
        let written = read();
        assert_eq!(written["commit_sha"], commit[..7], "{written}");
        assert_eq!(written["source"]["commit"], commit, "{written}");
        assert_eq!(written["source"]["ref"], reference, "{written}");
        let read = stage.run("promote", &["--to", "staging"]).await;
        assert_eq!(read.code, 0, "{written}: {read:?}");
    }
    let clean = ended(emit(&["--source", "https://x:ghp_SECRET@github.com/o/r.git?token=ghp_SECRET"])).await;
    assert_eq!(
        (clean.code, read()["source"]["repository"].as_str()),
        (0, Some("https://github.com/o/r.git"))
    );
    let unclear = ended(emit(&["--source", "https://x:12/SECRET@github.com/o/r"])).await;
    assert_eq!(unclear.code, 2);
    assert!(unclear.stderr.contains("pass it without them"), "{unclear:?}");
}

#[tokio::test]
async fn rejects_invalid_durations() {
    let stage = Stage::new().await;
    let image = ["--image", "r.example.com/web:1"];
    for (time, message) in [
        ("9223372036854775807s", "longer than 365 days"),
        ("9999999999999999h", "longer than 365 days"),
        ("99999999999999999999999h", "longer than 365 days"),
        ("8760h1s", "longer than 365 days"),
        ("0s", "zero"),
        ("-1h", "90s, 15m or 1h30m"),
        ("15", "90s, 15m or 1h30m"),
        ("soon", "90s, 15m or 1h30m"),
    ] {
        let flag = format!("--timeout={time}");
        let image_timeout = format!("--image-timeout={time}");
        let emit = stage.run("emit-artifact", &[&image[..], &[&image_timeout]].concat()).await;
        refused(&stage, &emit, 2, &[time, message, "--image-timeout"]);
        refused(&stage, &stage.run("dual-deploy", &["--env", "staging", &flag]).await, 2, &[time, message]);
        let set = format!("deploy.timeout={time}");
        let end = stage.run("dual-deploy", &["--env", "staging", "--set", &set]).await;
        refused(&stage, &end, 2, &["--set", time, message]);
    }
    // Flags and bp.toml accept the same formats.
    let end = stage.run("config", &["show", "--env", "dev", "--set", "deploy.timeout=1h30m"]).await;
    assert_eq!(end.code, 0, "{end:?}");
    let missing = ["--image", "r.example.com/web@sha256:12", "--timeout", "1h30m"];
    refused(
        &stage,
        &stage.run("dual-deploy", &[&["--env", "staging"], &missing[..]].concat()).await,
        2,
        &["64 hex"],
    );
}

#[tokio::test]
async fn every_binary_prints_help_and_rejects_unknown_flags() {
    let stage = Stage::new().await;
    for name in [
        "config",
        "emit-artifact",
        "promote",
        "deploy-ecs",
        "deploy-eks",
        "dual-deploy",
        "rollback",
        "run-task",
        "secrets",
        "status",
        "verify",
        "wait",
        "quickstart",
    ] {
        let end = stage.run(name, &["--help"]).await;
        assert!(end.code == 0 && end.stdout.contains("--output"), "{name}: {end:?}");
        assert_eq!(stage.run(name, &["--no-such-flag"]).await.code, 2, "{name}");
    }
}

#[tokio::test]
async fn reports_objects_that_do_not_exist() {
    let stage = Stage::new().await;
    let deploy = ["--env", "staging"];
    let missing = format!(
        "{}@sha256:{}",
        stage.world.config.environments()[1].services()[0].repository,
        "0".repeat(64)
    );
    let end =
        stage.run("dual-deploy", &["--env", "staging", "--image", &missing, "--image-timeout", "1s"]).await;
    refused(&stage, &end, 7, &["does not exist", "promote --to staging"]);

    stage.edit_config("container = \"web\"", "container = \"wbe\"");
    refused(&stage, &stage.run("deploy-ecs", &deploy).await, 2, &["\"wbe\"", "web"]);
    refused(&stage, &stage.run("deploy-eks", &deploy).await, 2, &["wbe", "web"]);
    let joint = stage.run("dual-deploy", &deploy).await;
    assert_eq!((joint.code, stage.changes()), (2, 0), "{joint:?}");

    stage.edit_config("service = \"shop-web\"", "service = \"shop-wbe\"");
    refused(&stage, &stage.run("deploy-ecs", &deploy).await, 2, &["shop-wbe"]);
    stage.edit_config("workload = \"deployment/web\"", "workload = \"deployment/wbe\"");
    refused(&stage, &stage.run("deploy-eks", &deploy).await, 2, &["wbe"]);
    stage.edit_config("cluster = \"staging\"", "cluster = \"stagnig\"");
    refused(&stage, &stage.run("deploy-ecs", &deploy).await, 2, &["stagnig"]);
    refused(&stage, &stage.run("deploy-eks", &deploy).await, 2, &["stagnig"]);
}

#[tokio::test]
async fn reports_missing_credentials_and_unreachable_services() {
    let stage = Stage::new().await;
    let deploy = ["--env", "staging"];
    let mut none = stage.command("dual-deploy", &deploy);
    none.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    refused(&stage, &ended(none).await, 7, &["no AWS credentials", "AWS_PROFILE"]);

    let mut unreachable = stage.command("dual-deploy", &deploy);
    unreachable.env("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    refused(&stage, &ended(unreachable).await, 7, &["cannot assume", "refused"]);

    // The registry is unreachable: the error contains its host.
    let mut unreachable = stage.command("promote", &["--to", "prod"]);
    let hosts = stage.world.registries().into_keys().map(|host| format!("{host}=http://127.0.0.1:1"));
    unreachable.env("BP_REGISTRY_ENDPOINTS", hosts.collect::<Vec<_>>().join(","));
    refused(&stage, &ended(unreachable).await, 7, &["dkr.ecr.eu-central-1.amazonaws.com"]);

    // The account of the role differs from that of bp.toml.
    stage.edit_config("account = \"222222222222\"\n", "account = \"999999999999\"\n");
    let end = stage.run("dual-deploy", &deploy).await;
    assert_eq!(stage.changes(), 0);
    assert!(matches!(end.code, 2 | 5) && end.stderr.contains("999999999999"), "{end:?}");
}

/// An image may take minutes: whatever is wrong with the file is reported before, without a request.
#[tokio::test]
async fn emit_artifact_checks_its_file_before_it_waits_for_the_image() {
    let stage = Stage::new().await;
    let registry = stage.world.config.environments()[0].registry().to_string();
    let image = format!("{registry}/shop/web:9.9.9");
    let emit = ["--image", &image, "--image-timeout", "10m", "--artifact"];
    stage.write("other.json", "[]");
    let service = &["--service", "web"][..];
    for (file, more, code, part) in [
        ("absent/artifact.json", &[][..], 7, "cannot write absent/artifact.json"),
        (".", &[], 7, "cannot write ."),
        ("/proc/version", &[], 7, "cannot write /proc/version"),
        ("other.json", service, 2, "other.json:1:"),
    ] {
        let end = stage.run("emit-artifact", &[&emit[..], &[file], more].concat()).await;
        refused(&stage, &end, code, &[part]);
        assert!(!end.stderr.contains("waiting up to"), "{end:?}");
    }
    let path = stage.path("artifact.json");
    let held = bp_artifact::file::FileLock::acquire(&path, std::time::Duration::ZERO).await.unwrap();
    let end = stage.run("emit-artifact", &[&emit[..], &["artifact.json"]].concat()).await;
    refused(&stage, &end, 7, &["artifact.json is in use by another run (process ", "nothing was changed"]);
    drop(held);
    let image = format!("{registry}/shop/web:1.0.0");
    for (file, more) in [("/dev/stdout", service), ("artifact.json", &[])] {
        let emit = ["--image", &image, "--artifact", file];
        let end = stage.run("emit-artifact", &[&emit[..], more].concat()).await;
        assert_eq!(end.code, 0, "{end:?}");
        assert_eq!(end.stdout.contains("\"schema\""), file == "/dev/stdout", "{end:?}");
    }
}
