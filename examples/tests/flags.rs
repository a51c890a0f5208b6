//! A flag without effect is refused before anything is changed; a variable that a pipeline sets for all its steps is
//! ignored where it does not apply.
#![cfg(feature = "sandbox")]

mod common;

use common::{Stage, ended};

const IMAGE: &str =
    "r.example.com/web@sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

#[tokio::test]
async fn flags_without_effect_are_refused() {
    let stage = Stage::new().await;
    stage.write("shop.env", "A=ssm:/shop/a\n");
    let env = ["--env", "staging"];
    let print = ["print", "--references", "shop.env", "--form", "ecs"];
    for (name, arguments, flag) in [
        ("rollback", &["--image", IMAGE][..], "--image"),
        ("rollback", &["--artifact", "artifact.json"], "--artifact"),
        ("rollback", &["--slots", "a=b,c=d"], "--slots"),
        ("rollback", &["--no-receipt", "--receipt", "receipt.json"], "--receipt"),
        ("deploy-ecs", &["--check", "--receipt", "receipt.json"], "--receipt"),
        ("deploy-eks", &["--check", "--receipt", "receipt.json"], "--receipt"),
        ("deploy-eks", &["--check", "--accept-unproven-rollback"], "--accept-unproven-rollback"),
        ("deploy-eks", &["--check", "--force"], "--force"),
        ("deploy-manifests", &["-f", "-", "--check", "--receipt", "receipt.json"], "--receipt"),
        ("rollback", &["--revision", "1", "--all"], "--all"),
        ("rollback", &["--revision", "1", "--undo"], "--no-receipt"),
        ("rollback", &["--revision", "1", "--slots", "a=b,c=d"], "--slots"),
        ("deploy-ecs", &["--no-wait", "--rollback-on-cancel"], "--no-wait"),
        ("deploy-ecs", &["--no-wait", "--keep-revisions", "3"], "--no-wait"),
        ("deploy-eks", &["--no-wait", "--logs"], "--no-wait"),
        ("switch-traffic", &["--receipt", "receipt.json", "back"], "--receipt"),
        ("refresh-pull-secret", &["--image", IMAGE], "--image"),
        ("refresh-pull-secret", &["--artifact", "artifact.json"], "--artifact"),
        ("refresh-pull-secret", &["--timeout", "5m"], "--timeout"),
        ("refresh-pull-secret", &["--take-over"], "--take-over"),
        ("verify", &["--timeout", "5m"], "--timeout"),
        ("verify", &["--take-over"], "--take-over"),
        ("verify", &["--image", IMAGE, "--artifact", "artifact.json"], "--artifact"),
        ("dual-deploy", &["--image", IMAGE, "--artifact", "artifact.json"], "--artifact"),
        ("deploy-eks", &["--image", IMAGE, "--artifact", "artifact.json"], "--artifact"),
        ("deploy-eks", &["--log-pods", "2"], "--logs"),
        ("deploy-ecs", &["--take-over"], "--take-over"),
        ("deploy-ecs", &["--check", "--image-timeout", "1s"], "--image-timeout"),
        ("deploy-eks", &["--check", "--image-timeout", "1s"], "--image-timeout"),
        ("switch-traffic", &["--image-timeout", "1s", "back"], "--image-timeout"),
        ("verify", &["--image-timeout", "1s"], "--image-timeout"),
        ("deploy-ecs", &["--revision", "shop-web:1", "--image", IMAGE], "--image"),
        ("deploy-ecs", &["--revision", "shop-web:1", "--artifact", "artifact.json"], "--artifact"),
        ("deploy-ecs", &["--revision", "shop-web:1", "--force"], "--force"),
        ("deploy-ecs", &["--revision", "shop-web:1", "--in-flight", "wait"], "--in-flight"),
        ("switch-traffic", &["--label", "colour", "status"], "--slots"),
        ("switch-traffic", &["--image", IMAGE, "status"], "--image"),
        ("switch-traffic", &["--artifact", "artifact.json", "back"], "--artifact"),
        ("switch-traffic", &["--timeout", "5m", "clean-up"], "--timeout"),
        ("switch-traffic", &["--take-over", "clean-up"], "--take-over"),
        ("switch-traffic", &["--slots", "blue=web", "status"], "--slots"),
        ("switch-traffic", &["--kubernetes-service", "web", "shift"], "--kubernetes-service"),
        ("switch-traffic", &["shift", "--return", "--steps", "50,100"], "--steps"),
        ("switch-traffic", &["--image", IMAGE, "shift", "--return"], "--image"),
        ("switch-traffic", &["--take-over", "shift", "--show"], "--take-over"),
        ("switch-traffic", &["shift", "--object", "ingress/shop"], "--services"),
        ("switch-traffic", &["shift", "--object", "ingress/shop", "--services", "web"], "--services"),
        ("switch-traffic", &["shift", "--steps", "50,25,100"], "--steps"),
        ("switch-traffic", &["shift"], "eks.traffic.object"),
        (
            "switch-traffic",
            &["--kubernetes-service", "web", "ingress", "shop", "web", "web-2"],
            "--kubernetes-service",
        ),
    ] {
        let end = stage.run(name, &[&env[..], arguments].concat()).await;
        refused(&stage, name, &end, flag);
    }
    for (name, arguments, flag) in [
        ("promote", &["--to", "staging", "--tag", "1.0.0", "--artifact", "artifact.json"][..], "--artifact"),
        ("promote", &["--to", "staging", "--all-tags", "--artifact", "artifact.json"], "--artifact"),
        ("emit-artifact", &["--image", "r.example.com/web:1", "--set", "region=eu-west-1"], "--set"),
        ("emit-artifact", &["--image", "r.example.com/web:1", "--config", "bp.toml"], "--config"),
        ("config", &["check", "--set", "region=eu-west-1"], "--set"),
        ("secrets", &[&print[..], &["--name", "web"]].concat(), "--name"),
        ("secrets", &[&print[..], &["--namespace", "shop"]].concat(), "--namespace"),
    ] {
        let end = stage.run(name, arguments).await;
        refused(&stage, name, &end, flag);
    }
}

#[track_caller]
fn refused(stage: &Stage, name: &str, end: &common::Ended, flag: &str) {
    let error = end.stderr.split("\n\n").next().unwrap();
    assert!(end.code == 2 && error.starts_with("error: ") && error.contains(flag), "{name} {flag}: {end:?}");
    assert_eq!((stage.changes(), end.stdout.as_str()), (0, ""), "{name} {flag}: {end:?}");
}

#[tokio::test]
async fn variables_that_do_not_apply_are_ignored() {
    let stage = Stage::new().await;
    let image = format!(
        "{}@{}",
        stage.world.config.environments()[1].services()[0].repository,
        bp_artifact::Artifact::read(stage.path("artifact.json")).unwrap().resolved().unwrap().digest()
    );
    for (name, arguments) in [
        ("verify", &["--env", "staging", "--image", &image][..]),
        ("deploy-ecs", &["--env", "staging", "--revision", "shop-web:1"]),
        ("deploy-ecs", &["--env", "staging", "--check"]),
        ("wait", &["--env", "staging"]),
        ("promote", &["--to", "staging", "--tag", "1.0.0"]),
        ("config", &["check"]),
        ("switch-traffic", &["--env", "staging", "--kubernetes-service", "none", "status"]),
        ("refresh-pull-secret", &["--env", "staging"]),
    ] {
        let mut command = stage.command(name, arguments);
        for (variable, value) in
            [("BP_ARTIFACT", "artifact.json"), ("BP_CONFIG", "bp.toml"), ("BP_RECEIPT", "receipt.json")]
        {
            command.env(variable, value);
        }
        let end = ended(command).await;
        assert!(
            !end.stderr.contains("no effect") && !end.stderr.contains("cannot be used"),
            "{name}: {end:?}"
        );
        let missing = name == "switch-traffic";
        assert!(matches!((end.code, missing), (0 | 6, false) | (2, true)), "{name}: {end:?}");
    }
}
