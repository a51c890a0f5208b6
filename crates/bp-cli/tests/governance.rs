//! Promotion with rules through `bp`: an image reaches prod only with its evidence, each command reports what is missing,
//! and a deployment refuses an image that was copied past the gates, or recalled.

use std::process::Stdio;

use bp_artifact::{Artifact, ResolvedImage};
use bp_examples::world::{ONE_SERVICE, World, shop, stable_for};
use bp_sandbox::Image;
use serde_json::Value;
use tokio::process::Command;

const RULES: &str = r#"
[environment.policy]
branches = "main"
approvals = 1
keys = "prod.pub"
require-record = "on"

[environment.policy.approver.alice]
key = "alice.pub"
aliases = "alice@example.com"
"#;

struct Stage {
    world: World,
    directory: tempfile::TempDir,
}

#[derive(Debug)]
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Stage {
    async fn new() -> Self {
        let text = stable_for(ONE_SERVICE, "0s");
        let text = text.replacen(
            "[[environment]]\nname = \"staging\"",
            "[environment.policy]\nkeys = \"dev.pub\"\n\n[[environment]]\nname = \"staging\"",
            1,
        );
        let text = text.replacen(
            "[[environment]]\nname = \"prod\"",
            "[environment.policy]\nkeys = \"staging.pub\"\n\n[[environment]]\nname = \"prod\"",
            1,
        );
        let config = bp_artifact::Config::parse(&text, "bp.toml").unwrap();
        let world = World::of(config, 50).await.unwrap();
        let stage = Stage { world, directory: tempfile::tempdir().unwrap() };
        stage.write("bp.toml", &format!("{text}{RULES}"));
        for name in ["dev", "staging", "prod", "alice"] {
            let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
            stage.write(&format!("{name}.key"), &key.serialize_pem());
            stage.write(&format!("{name}.pub"), &key.public_key_pem());
        }
        stage
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.directory.path().join(name), text).unwrap();
    }

    /// Pushes an image to dev, as a build of main, and writes its artifact.
    fn built(&self, version: &str, reference: &str) -> Image {
        let image = shop(version).build();
        let dev = &self.world.config.environments()[0];
        self.world.sandbox.registry(dev.registry().as_str()).push(&image, "shop/web", version);
        let repository = &dev.services()[0].repository;
        let manifest = image
            .manifests()
            .iter()
            .find(|(_, bytes)| bp_artifact::Digest::sha256(bytes).as_str() == image.digest());
        let (media_type, bytes) = manifest.unwrap();
        let resolved = ResolvedImage::from_manifest(
            repository.at(image.digest().parse().unwrap()),
            Some(media_type),
            bytes,
        );
        let mut artifact = Artifact::default();
        artifact.set_image(&resolved.unwrap(), Some(version.parse().unwrap()));
        let mut document: Value = serde_json::from_str(&artifact.to_json()).unwrap();
        document["source"] = serde_json::json!({ "ref": reference, "fork": false });
        document["build"] = serde_json::json!({ "system": "github-actions", "initiator": "ben" });
        self.write("artifact.json", &document.to_string());
        image
    }

    async fn bp(&self, arguments: &[&str]) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bp"));
        command
            .args(arguments)
            .current_dir(self.directory.path())
            .env_clear()
            .env("CI", "true")
            .env("HOME", self.directory.path())
            .env("GITHUB_ACTOR", "rita")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .envs(self.world.variables())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = tokio::time::timeout(std::time::Duration::from_secs(120), command.output());
        let output = output.await.expect("bp did not exit within 120 s").unwrap();
        Ended {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn tags(&self, account: &str) -> Vec<String> {
        let host = format!("{account}.dkr.ecr.eu-central-1.amazonaws.com");
        self.world.sandbox.registry(&host).tags("shop/web").into_keys().collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_reaches_prod_only_with_its_evidence() {
    let stage = Stage::new().await;
    let image = stage.built("1.0.0", "refs/heads/main");

    // Without a record of dev, staging is closed; without a key to sign with, nothing begins.
    let end = stage.bp(&["promote", "--to", "staging"]).await;
    assert!(end.code == 2 && end.stderr.contains("--sign"), "{end:?}");
    let end = stage.bp(&["promote", "--to", "staging", "--sign", "staging.key"]).await;
    assert!(end.code == 5 && end.stderr.contains("no valid record of dev"), "{end:?}");
    let end = stage.bp(&["promote", "--to", "dev", "--sign", "prod.key"]).await;
    assert!(end.code == 5 && end.stderr.contains("none of those that sign records of dev"), "{end:?}");
    for (environment, key) in [("dev", "dev.key"), ("staging", "staging.key")] {
        let end = stage.bp(&["promote", "--to", environment, "--sign", key]).await;
        assert_eq!(end.code, 0, "{environment}: {end:?}");
    }

    // Prod requires an approval, of an approver.
    let prod = ["promote", "--to", "prod", "--sign", "prod.key"];
    let end = stage.bp(&prod).await;
    assert!(end.code == 5 && end.stderr.contains("0 of 1 approvals"), "{end:?}");
    assert!(!stage.tags("333333333333").contains(&"1.0.0".to_owned()), "nothing was copied");
    let end = stage.bp(&["promote", "--to", "prod", "--from", "dev", "--sign", "prod.key"]).await;
    assert!(end.code == 5 && end.stderr.contains("images enter prod from staging"), "{end:?}");
    let end = stage.bp(&["approve", "--env", "prod", "--sign", "staging.key"]).await;
    assert!(end.code == 5 && end.stderr.contains("no approver of prod"), "{end:?}");
    let end = stage.bp(&["approve", "--env", "prod", "--sign", "alice.key", "--comment", "looks good"]).await;
    assert!(end.code == 0 && end.stdout.contains("alice approved"), "{end:?}");
    let end = stage.bp(&[&prod[..], &["--explain", "--output", "json"]].concat()).await;
    assert_eq!(end.code, 0, "{end:?}");
    let decision: Value = serde_json::from_str(end.stdout.lines().last().unwrap()).unwrap();
    let decision = &decision["data"];
    assert!(end.code == 0 && decision["gates"].as_array().unwrap().len() == 5, "{end:?}");

    // Copied past the gates, it is not deployed.
    let reference = format!("333333333333.dkr.ecr.eu-central-1.amazonaws.com/shop/web@{}", image.digest());
    let staging = format!("222222222222.dkr.ecr.eu-central-1.amazonaws.com/shop/web@{}", image.digest());
    let end = stage.bp(&["copy", &staging, &format!("{}:past", reference.split('@').next().unwrap())]).await;
    assert_eq!(end.code, 0, "{end:?}");
    let deploy = ["deploy-ecs", "--env", "prod", "--image", &reference];
    let end = stage.bp(&deploy).await;
    assert!(end.code == 5 && end.stderr.contains("no valid record of prod"), "{end:?}");

    // By the rules, it is; a second run writes no second record.
    for _ in 0..2 {
        let end = stage.bp(&prod).await;
        assert_eq!(end.code, 0, "{end:?}");
    }
    let end = stage.bp(&deploy).await;
    assert_eq!(end.code, 0, "{end:?}");
    let end = stage.bp(&["audit", &reference]).await;
    assert_eq!(end.code, 0, "{end:?}");
    assert_eq!(end.stdout.matches("valid   ").count(), 3, "{end:?}");

    // Also in a layout, without network.
    let end = stage.bp(&["copy", &reference, "oci:saved:web"]).await;
    assert_eq!(end.code, 0, "{end:?}");
    let end = stage.bp(&["audit", "oci:saved:web"]).await;
    assert!(end.code == 0 && end.stdout.matches("valid   ").count() == 3, "{end:?}");

    // A recall closes everything.
    let end = stage.bp(&["recall", image.digest(), "--because", "CVE-2026-1", "--sign", "alice.key"]).await;
    assert!(end.code == 5, "{end:?}");
    let end = stage.bp(&["recall", image.digest(), "--because", "CVE-2026-1", "--sign", "dev.key"]).await;
    assert!(end.code == 0 && end.stdout.matches("recalled in").count() == 3, "{end:?}");
    for arguments in [&deploy[..], &prod[..], &["dual-deploy", "--env", "prod"]] {
        let end = stage.bp(arguments).await;
        assert!(end.code == 5 && end.stderr.contains("CVE-2026-1"), "{arguments:?}: {end:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_branch_that_may_not_enter_is_refused_unless_the_glass_is_broken() {
    let stage = Stage::new().await;
    let image = stage.built("1.1.0", "refs/heads/feature");
    for (environment, key) in [("dev", "dev.key"), ("staging", "staging.key")] {
        let end = stage.bp(&["promote", "--to", environment, "--sign", key]).await;
        assert_eq!(end.code, 0, "{environment}: {end:?}");
    }
    let prod = ["promote", "--to", "prod", "--sign", "prod.key"];
    let end = stage.bp(&prod).await;
    assert!(end.code == 5 && end.stderr.contains("refs/heads/feature"), "{end:?}");
    let end = stage.bp(&[&prod[..], &["--break-glass", "INC-42"]].concat()).await;
    assert_eq!(end.code, 0, "{end:?}");
    let reference = format!("333333333333.dkr.ecr.eu-central-1.amazonaws.com/shop/web@{}", image.digest());
    let end = stage.bp(&["audit", &reference]).await;
    assert!(end.code == 0 && end.stdout.contains("break glass by rita: INC-42; closed: "), "{end:?}");
    let end = stage.bp(&["deploy-ecs", "--env", "prod", "--image", &reference]).await;
    assert_eq!(end.code, 0, "{end:?}");
}
