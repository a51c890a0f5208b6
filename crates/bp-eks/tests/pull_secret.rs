//! The ECR image pull Secret on the sandbox in memory.

mod common;

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use bp_artifact::{
    error::{Classified, ErrorClass},
    time::TimeSource,
};
use bp_eks::pull_secret::RegistryToken;
use serde_json::{Value, json};

use common::World;

const HOST: &str = "111111111111.dkr.ecr.eu-central-1.amazonaws.com";

#[tokio::test(start_paused = true)]
async fn creates_renews_and_keeps_foreign_labels() {
    let world = World::new().await;
    let clock = world.sandbox.clock().clone();
    let now = clock.now();
    let secret = world.namespace().pull_secret("ecr").time_source(TimeSource::from_fn(move || clock.now()));
    let secret = secret.annotation("bp-eks/Owner", "shop-team");
    let margin = Duration::from_secs(6 * 3600);
    assert_eq!(secret.expires_at().await.unwrap(), None);
    assert!(secret.is_due(margin).await.unwrap(), "does not exist yet");

    let expires = now + Duration::from_secs(12 * 3600);
    let token = |text: &str| {
        let authorization = STANDARD.encode(format!("AWS:{text}"));
        RegistryToken::new(format!("https://{HOST}"), authorization, expires).also("other.example.com/")
    };
    let made = secret.refresh(&token("one")).await.unwrap();
    assert_eq!((made.changed, made.expires_at), (true, expires));
    assert_eq!(secret.expires_at().await.unwrap(), Some(expires));
    assert!(!secret.is_due(margin).await.unwrap());
    assert!(secret.is_due(Duration::MAX).await.unwrap(), "every token expires");
    let stored = || world.cluster.object("secrets", "prod", "ecr").unwrap();
    assert_eq!(stored()["type"], "kubernetes.io/dockerconfigjson");
    assert_eq!(stored()["metadata"]["annotations"]["bp-eks/Owner"], "shop-team");
    let config = STANDARD.decode(stored()["data"][".dockerconfigjson"].as_str().unwrap()).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    let auth = json!({ "auth": STANDARD.encode("AWS:one") });
    assert_eq!(config, json!({ "auths": { (HOST): auth, "other.example.com": auth } }));

    assert!(!secret.refresh(&token("one")).await.unwrap().changed, "an equal Secret is not changed");
    let labels =
        json!({ "metadata": { "labels": { "team": "shop" } }, "data": { ".dockerconfigjson": "e30=" } });
    world.cluster.patch("kubectl", "secrets", "prod", "ecr", &labels);
    assert!(secret.refresh(&token("two")).await.unwrap().changed);
    assert_eq!(stored()["metadata"]["labels"]["team"], "shop");
    tokio::time::sleep(Duration::from_secs(7 * 3600)).await;
    assert!(secret.is_due(margin).await.unwrap(), "five hours are left");

    world.cluster.deny("patch", "secrets");
    let error = secret.refresh(&token("three")).await.unwrap_err();
    assert!(error.to_string().contains("\"patch\" on secrets"), "{error}");
    assert_eq!(error.class(), ErrorClass::Unavailable);
    assert!(!format!("{error:?} {secret:?} {:?}", token("three")).contains(&STANDARD.encode("AWS:three")));
}
