//! `--changed-since` and `--changed-paths`: targets whose paths have not changed are left out, and reported.
#![cfg(feature = "sandbox")]

mod common;

use std::path::Path;

use bp_artifact::deploy::Receipt;
use common::{Ended, Stage};
use serde_json::Value;

fn git(directory: &Path, arguments: &[&str]) -> String {
    let mut command = std::process::Command::new("git");
    let identity = ["-c", "user.name=bp", "-c", "user.email=bp@example.com", "-c", "commit.gpgsign=false"];
    command.args(identity).args(arguments).current_dir(directory);
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The example with paths of both services, in a git repository.
async fn stage() -> (Stage, String) {
    let stage = Stage::of_services().await;
    for service in ["web", "worker"] {
        stage.edit_config(
            &format!("repository = \"shop/{service}\"\n"),
            &format!("repository = \"shop/{service}\"\npaths = [\"services/{service}\", \"!**/*.md\"]\n"),
        );
    }
    stage.edit_config(
        "workload = \"deployment/web\"\n",
        "workload = \"deployment/web\"\npaths = [\"deploy/k8s\"]\n",
    );
    let root = stage.directory.path();
    git(root, &["init", "-q", "-b", "main"]);
    git(root, &["add", "-A"]);
    git(root, &["commit", "-q", "-m", "first"]);
    let first = git(root, &["rev-parse", "HEAD"]);
    (stage, first)
}

fn commit(stage: &Stage, path: &str) {
    let path = stage.path(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, "changed").unwrap();
    git(stage.directory.path(), &["add", "-A"]);
    git(stage.directory.path(), &["commit", "-q", "-m", "change"]);
}

async fn deploy(stage: &Stage, flags: &[&str]) -> Ended {
    stage.run("dual-deploy", &[&["--env", "staging", "--all"], flags].concat()).await
}

fn targets(stage: &Stage) -> Vec<String> {
    let receipt = Receipt::read(stage.path("receipt.json")).unwrap();
    receipt.targets.iter().map(|entry| entry.target.to_string()).collect()
}

#[tokio::test]
async fn deploys_only_what_has_changed_and_reports_the_rest() {
    let (stage, first) = stage().await;
    // Nothing: no target is touched, and no receipt is written.
    commit(&stage, "services/web/README.md");
    let end = deploy(&stage, &["--changed-since", &first]).await;
    assert_eq!((end.code, stage.changes()), (0, 0), "{end:?}");
    assert!(!stage.path("receipt.json").exists());
    assert_eq!(end.stdout.matches(": skipped, none of 1 changed path matches ").count(), 3, "{end:?}");
    assert!(end.stderr.contains("nothing to deploy"), "{end:?}");

    // One service on one of its platforms.
    commit(&stage, "services/web/main.rs");
    let end = deploy(&stage, &["--changed-since", &first]).await;
    assert_eq!(end.code, 0, "{end:?}");
    assert_eq!(targets(&stage), ["ecs/staging/shop-web"]);
    assert!(
        end.stdout
            .contains("eks/staging/shop/deployment/web: skipped, none of 2 changed paths matches deploy/k8s")
    );
    let before = stage.changes();
    let end =
        stage.run("deploy-eks", &["--env", "staging", "--service", "web", "--changed-since", &first]).await;
    assert_eq!((end.code, stage.changes()), (0, before), "{end:?}");
    assert!(end.stdout.contains("skipped"), "{end:?}");

    // The same as JSON, with the list given.
    stage.write("changed.txt", "deploy/k8s/web.yaml\n");
    let end =
        deploy(&stage, &["--changed-paths", "changed.txt", "--output", "json", "--receipt", "k8s.json"])
            .await;
    assert_eq!(end.code, 0, "{end:?}");
    let lines = end.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let skipped: Vec<String> =
        lines.filter_map(|line| Some(line["data"]["skipped"]["target"].as_str()?.to_owned())).collect();
    assert_eq!(skipped, ["ecs/staging/shop-web", "ecs/staging/shop-worker"]);
    let receipt = Receipt::read(stage.path("k8s.json")).unwrap();
    assert_eq!(receipt.targets[0].target.as_str(), "eks/staging/shop/deployment/web");

    // The first build of a branch: everything.
    let end = deploy(&stage, &["--changed-since", &"0".repeat(40), "--plan"]).await;
    assert!(
        end.code == 0 && end.stdout.contains("shop-worker") && !end.stdout.contains("skipped"),
        "{end:?}"
    );
    // An image that was not built need not exist.
    let promote = ["--to", "prod", "--all", "--changed-paths", "changed.txt"];
    let end = stage.run("promote", &promote).await;
    assert_eq!(end.code, 0, "{end:?}");
    assert!(end.stdout.contains("/shop/worker: skipped"), "{end:?}");
}

#[tokio::test]
async fn what_has_changed_is_never_guessed() {
    let (stage, first) = stage().await;
    let unknown = "a".repeat(40);
    for (flags, message) in [
        (&["--changed-since", unknown.as_str()][..], "does not contain the commit aaaa"),
        (&["--changed-since", "no-such-branch"], "does not contain the commit no-such-branch"),
        (&["--changed-since", "--output=x"], "--changed-since"),
        (&["--changed-since=--output=x"], "expected a commit"),
        (&["--changed-since", ""], "it is empty"),
        (&["--changed-since", first.as_str(), "--changed-until", "main..HEAD"], "expected a commit"),
        (&["--changed-paths", "absent.txt"], "cannot read absent.txt"),
        (&["--changed-paths", "x", "--changed-since", "HEAD"], "cannot be used with"),
        (&["--changed-until", "HEAD"], "--changed-since"),
    ] {
        let end = deploy(&stage, flags).await;
        assert!(end.code == 2 && end.stderr.contains(message), "{flags:?}: {end:?}");
    }
    // A clone without the history.
    std::fs::rename(stage.path(".git"), stage.path("origin")).unwrap();
    let root = stage.directory.path();
    git(root, &["init", "-q"]);
    let origin = format!("file://{}", stage.path("origin").display());
    commit(&stage, "x");
    git(root, &["remote", "add", "origin", &origin]);
    git(root, &["fetch", "-q", "--depth", "1", "origin", "main"]);
    let end = deploy(&stage, &["--changed-since", &unknown]).await;
    assert!(end.code == 2 && end.stderr.contains("this clone is shallow"), "{end:?}");
    assert_eq!(stage.changes(), 0);
    std::fs::remove_dir_all(stage.path(".git")).unwrap();
    let end = deploy(&stage, &["--changed-since", "HEAD"]).await;
    assert!(end.code == 2 && end.stderr.contains("git rev-parse failed"), "{end:?}");
}
