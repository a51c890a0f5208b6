//! `--rollback-on-cancel` of the commands whose change is not a rollout of their own: traffic, and Helm releases.

use bp_artifact::deploy::{Receipt, ReceiptState};

use super::{common::traffic::SITE, *};

/// Asserts how a command ended: with `--rollback-on-cancel` rolled back, without it interrupted.
fn assert_cancelled(stage: &Stage, end: &Ended, rolls_back: bool) {
    let (code, state) = if rolls_back { (3, ReceiptState::Finished) } else { (143, ReceiptState::Started) };
    assert_eq!(end.code, code, "{end:?}");
    assert_eq!(end.stderr.contains("interrupted: rolling back to"), rolls_back, "{end:?}");
    assert_eq!(Receipt::read(stage.path("receipt.json")).unwrap().state, state, "{end:?}");
}

#[tokio::test]
async fn restores_the_slot_that_had_the_traffic() {
    for rolls_back in [true, false] {
        let stage = Stage::new().await;
        stage.staged_site().await;
        let switch = [SITE, &["switch", "--bake", "1h"]].concat();
        let flag: &[&str] = if rolls_back { &["--rollback-on-cancel"] } else { &[] };
        let line = [SITE, flag, &["switch", "--bake", "1h"]].concat();
        let end = stage.signalled("switch-traffic", &line, "selector slot=green", &["-TERM"]).await;
        assert_cancelled(&stage, &end, rolls_back);
        assert_eq!(stage.live_slot(), if rolls_back { "blue" } else { "green" });
        assert_eq!(stage.files(), ["artifact.json", "bp.toml", "receipt.json"]);
        // The same command completes the switch.
        let end = stage.run("switch-traffic", &switch[..switch.len() - 2]).await;
        assert_eq!((end.code, &*stage.live_slot()), (0, "green"), "{end:?}");
    }
    let stage = Stage::new().await;
    for (command, why) in [("stage", "with stage, which moves no traffic"), ("back", "with back")] {
        let end = stage.run("switch-traffic", &[SITE, &["--rollback-on-cancel", command]].concat()).await;
        assert!(end.code == 2 && end.stderr.contains(why), "{end:?}");
    }
}

#[tokio::test]
async fn restores_the_weights_before_the_shift() {
    for rolls_back in [true, false] {
        let stage = Stage::new().await;
        stage.weighted_front();
        let shift = ["shift", "--object", "httproute/shop", "--services", "front-blue,front-green"];
        let flag: &[&str] = if rolls_back { &["--rollback-on-cancel"] } else { &[] };
        let line = [&["--env", "staging", "--take-over"][..], flag, &shift].concat();
        let steps = [&line[..], &["--steps", "25,100", "--bake", "1h"]].concat();
        let end = stage.signalled("switch-traffic", &steps, "25 %", &["-INT"]).await;
        assert_eq!(end.code, if rolls_back { 3 } else { 130 }, "{end:?}");
        let expected = if rolls_back { [100, 0] } else { [75, 25] };
        assert_eq!(stage.weights(), expected, "{end:?}");
        let end = stage.run("switch-traffic", &[&line[..], &["--steps", "100"]].concat()).await;
        assert_eq!((end.code, stage.weights()), (0, [0, 100]), "{end:?}");
    }
}

/// A helm that answers from files. An upgrade creates the file `upgrade` and waits; stopped, it marks its revision as
/// failed. A rollback creates the file `rollback` and waits for `restored`.
#[cfg(feature = "helm")]
const HELM: &str = r#"#!/bin/sh
case "$1 $*" in
'version '*) echo v4.0.0 ;;
'history '*) cat history ;;
'get get metadata'*) echo '{}' ;;
'get '*--revision=1*) cat manifest1 ;;
'get '*) cat manifest ;;
*--dry-run=server*) cat dry-run ;;
'upgrade '*)
    cp pending history
    trap 'cp failed history; exit 1' TERM
    : > upgrade
    while :; do sleep 0.02; done ;;
'rollback '*)
    : > rollback
    until [ -e restored ]; do sleep 0.02; done
    cp manifest1 manifest
    cp after history ;;
esac
"#;

#[cfg(feature = "helm")]
#[tokio::test]
async fn rolls_a_helm_release_back() {
    use serde_json::json;

    let (old, new) = digests();
    for rolls_back in [true, false] {
        let stage = Stage::new().await;
        let repository = stage.world.config.environments()[1].services()[0].repository.to_string();
        let manifest = |digest: &str| {
            format!(
                "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{ name: web }}\nspec: {{ template: {{ spec: {{ \
                 containers: [ {{ name: web, image: \"{repository}@{digest}\" }} ] }} }} }}\n"
            )
        };
        let revisions = |all: &[&str]| {
            let all = all.iter().enumerate();
            json!(all.map(|(at, status)| json!({ "revision": at + 1, "status": status })).collect::<Vec<_>>())
                .to_string()
        };
        for (name, text) in [
            ("helm", HELM.to_owned()),
            ("manifest1", manifest(&old)),
            ("manifest", manifest(&new)),
            ("dry-run", json!({ "manifest": manifest(&new) }).to_string()),
            ("history", revisions(&["deployed"])),
            ("pending", revisions(&["deployed", "pending-upgrade"])),
            ("failed", revisions(&["deployed", "failed"])),
            ("after", revisions(&["superseded", "failed", "deployed"])),
        ] {
            stage.write(name, &text);
        }
        std::fs::set_permissions(stage.path("helm"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let flag: &[&str] = if rolls_back { &["--rollback-on-cancel"] } else { &[] };
        let line =
            [&["--env", "staging", "--release", "web", "--chart", "charts/web", "--take-over"][..], flag]
                .concat();
        let mut helm = stage.command("deploy-helm", &line);
        helm.env("BP_HELM", stage.path("helm")).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = helm.spawn().unwrap();
        let pid = child.id().unwrap().to_string();
        let cluster = stage.world.sandbox.cluster("staging");
        // What helm does in the cluster.
        let apply = |digest: &str| {
            let containers = json!([{ "name": "web", "image": format!("{repository}@{digest}") }]);
            let patch = json!({ "spec": { "template": { "spec": { "containers": containers } } } });
            cluster.patch("helm", "deployments", "shop", "web", &patch);
        };
        let created = async |name: &str| {
            while !stage.path(name).exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let work = async {
            created("upgrade").await;
            apply(&new);
            assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
            created("rollback").await;
            apply(&old);
            stage.write("restored", "");
            std::future::pending::<()>().await;
        };
        let output = tokio::select! {
            output = child.wait_with_output() => output.unwrap(),
            () = work => unreachable!("it waits for the program"),
            () = tokio::time::sleep(Duration::from_secs(120)) => panic!("it does not end"),
        };
        let end = Ended {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        };
        assert_cancelled(&stage, &end, rolls_back);
        assert_eq!(stage.path("rollback").exists(), rolls_back, "{end:?}");
        let history = if rolls_back { "after" } else { "failed" };
        assert_eq!(stage.read("history"), stage.read(history), "helm was stopped, and has ended: {end:?}");
        stage.world.sandbox.clock().advance(Duration::from_secs(60));
        let expected = if rolls_back { &old } else { &new };
        let running = cluster.running("shop", "web");
        assert!(!running.is_empty() && running.iter().all(|digest| digest == expected), "{running:?}");
    }
}
