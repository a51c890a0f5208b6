//! Where a chart comes from, its values, helm's own flags, and the login to the chart's registry.

use std::time::Duration;

use bp_artifact::{
    Verdict,
    error::{Classified, ErrorClass},
};
use bp_eks::{
    Error, HelmError, HelmRelease, Options,
    helm::{HelmFlags, VariablesForm},
    pull_secret::RegistryToken,
};
use serde_json::{Value, json};

use crate::{
    common::chain,
    fixture::{Release, manifest},
};

const ECR: &str = "111111111111.dkr.ecr.eu-central-1.amazonaws.com";

fn options() -> Options {
    Options::new(Duration::from_secs(60)).unwrap()
}

/// Upgrades to the second image, which helm applies immediately.
async fn upgrade(it: &Release, release: &HelmRelease) -> Verdict {
    let (_, outcome) = it
        .run(release.upgrade(&it.second), "upgrade", |it| {
            it.apply(&it.second);
            it.write("done", "0");
        })
        .await;
    outcome.unwrap().verdict()
}

fn token(registry: &str) -> RegistryToken {
    RegistryToken::new(registry, "QVdTOmh1c2gtaHVzaA==", jiff::Timestamp::MAX)
}

#[tokio::test]
async fn a_chart_in_ecr_gets_a_login_for_its_registry_only_which_is_deleted() {
    let it = Release::new(options()).await;
    // Helm prints first what it has pulled.
    let rendered = json!({ "manifest": manifest(&it.second) });
    it.write("dry-run", &format!("Pulled: {ECR}/charts/web:1.2.0\nDigest: sha256:ab\n{rendered}\n"));
    let chart = format!("oci://{ECR}/charts/web");
    let other = token("222222222222.dkr.ecr.eu-central-1.amazonaws.com").also(ECR);
    let release = it.release.clone().chart(&chart).chart_version("1.2.0").chart_login(move |registry| {
        assert_eq!(registry.as_str(), ECR);
        let token = other.clone();
        async { Ok(Some(token)) }
    });
    assert_eq!(upgrade(&it, &release).await, Verdict::Deployed);
    let logins: Value = serde_json::from_str(&it.read("logins")).unwrap();
    assert_eq!(logins, json!({ "auths": { ECR: { "auth": "QVdTOmh1c2gtaHVzaA==" } } }));
    assert_eq!(it.read("mode").trim(), "600");
    assert!(!std::path::Path::new(it.read("path").trim()).exists(), "the login is deleted");
    let arguments = it.read("arguments");
    assert!(!arguments.contains("QVdTOmh1c2gtaHVzaA"), "{arguments}");
    let upgrades = arguments.lines().filter(|line| line.starts_with("upgrade"));
    assert_eq!(upgrades.filter(|line| line.contains("--version=1.2.0")).count(), 2, "{arguments}");
    assert!(arguments.contains(&format!("-- web {chart}")), "{arguments}");
}

#[tokio::test]
async fn charts_elsewhere_use_the_users_own_logins_and_a_failed_login_changes_nothing() {
    let it = Release::new(options()).await;
    let none = it.release.clone().chart("oci://ghcr.io/shop/web").chart_login(|_| async { Ok(None) });
    assert_eq!(upgrade(&it, &none).await, Verdict::Deployed);
    assert!(!it.read("path").contains("registry.json"), "{}", it.read("path"));

    let it = Release::new(options()).await;
    let denied = it
        .release
        .clone()
        .chart(format!("oci://{ECR}/web"))
        .chart_login(|_| async { Err("ecr:GetAuthorizationToken is denied".into()) });
    let error = denied.upgrade(&it.second).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unavailable);
    assert!(chain(&error).contains(ECR) && chain(&error).contains("is denied"), "{}", chain(&error));
    assert!(!it.has("upgrade"), "helm was not started");
    // A chart on disk requires no login.
    let local = it.release.clone().chart_login(|_| async { panic!("no login") });
    assert_eq!(upgrade(&it, &local).await, Verdict::Deployed);
}

#[tokio::test]
async fn values_and_flags_are_passed_on_and_the_image_wins() {
    let it = Release::new(options()).await;
    let release = it
        .release
        .clone()
        .chart("--post-renderer=x")
        .chart_repository("https://charts.example.com")
        .values_file("-prod,eu.yaml")
        .set("replicas=3,image.digest=none")
        .set_string("release=007")
        .set_file("ca=ca.pem")
        .set_json("limits={\"cpu\":2}")
        .flags(HelmFlags::parse(["--skip-crds", "--labels=team=shop"]).unwrap());
    assert_eq!(upgrade(&it, &release).await, Verdict::Deployed);
    let arguments = it.read("arguments");
    let last = arguments.lines().rfind(|line| line.starts_with("upgrade")).unwrap();
    for expected in [
        "--repo=https://charts.example.com",
        "--values=\"-prod,eu.yaml\"",
        "--set=replicas=3,image.digest=none",
        "--set-string=release=007",
        "--set-file=ca=ca.pem",
        "--set-json=limits={\"cpu\":2}",
        "--skip-crds --labels=team=shop",
        &format!("--set-literal=image.digest={}", it.second.digest()),
        "--wait=watcher",
        "-- web --post-renderer=x",
    ] {
        assert!(last.contains(expected), "{expected}: {last}");
    }
    let at = |text: &str| last.find(text).unwrap();
    assert!(at("--set=") < at("--set-literal=") && at("--namespace=prod") < at(" -- "), "{last}");
}

#[tokio::test]
async fn invalid_names_of_releases_are_refused_before_anything_is_read() {
    let it = Release::new(options()).await;
    for name in ["", "Web", "--post-renderer=x", "../secrets/x", "web_1", &"w".repeat(54), "web.-x"] {
        let release = it.world.namespace().helm(name, options()).chart("c").program("helm");
        let error = release.upgrade(&it.second).await.unwrap_err();
        assert!(matches!(error, HelmError::Name { .. }), "{name}: {error}");
        assert!(matches!(release.history().await, Err(HelmError::Name { .. })), "{name}");
    }
    assert!(!it.has("arguments"), "helm was not started");
}

#[tokio::test]
async fn variables_must_reach_the_container_or_the_upgrade_is_refused() {
    let it = Release::new(options()).await;
    let pairs = [("MODE", "prod"), ("DEPLOY_PLATFORM", "eks")];
    let release = it.release.clone().variables("env", VariablesForm::List, pairs);
    let error = release.upgrade(&it.second).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Refused);
    let text = error.to_string();
    assert!(text.contains("the chart ignores env") && text.contains("MODE, DEPLOY_PLATFORM"), "{text}");
    assert!(!it.has("upgrade"), "helm was not started");

    // One is set in the container, the other one by a ConfigMap.
    let rendered = manifest(&it.second).replace("image:", "env: [ { name: MODE, value: prod } ], image:");
    let map =
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: { name: web }\ndata: { DEPLOY_PLATFORM: eks }\n";
    let rendered = format!("{rendered}{map}");
    it.write("dry-run", &json!({ "manifest": rendered }).to_string());
    it.write("manifest", &rendered);
    assert_eq!(upgrade(&it, &release).await, Verdict::Deployed);
}

#[tokio::test]
async fn a_missing_namespace_is_created_on_request_before_helm_is_started() {
    let it = Release::new(options()).await;
    it.write("history", "[]");
    let fresh = it.world.namespace_called("fresh").helm("web", options()).chart("charts/web");
    let fresh = fresh.program(it.home.path().join("helm"));
    let error = fresh.upgrade(&it.second).await.unwrap_err();
    assert!(matches!(error, HelmError::Rollout(Error::NamespaceNotFound { .. })), "{error:?}");
    let (_, outcome) = it
        .run(fresh.create_namespace(true).upgrade(&it.second), "upgrade", |it| {
            assert!(it.world.cluster.object("namespaces", "", "fresh").is_some());
            it.world.cluster.deployment("fresh", "web", &[("web", &it.second.reference.to_string())]);
            it.write("done", "0");
        })
        .await;
    let outcome = outcome.unwrap();
    assert_eq!((outcome.verdict(), outcome.previous), (Verdict::Deployed, None));
}
