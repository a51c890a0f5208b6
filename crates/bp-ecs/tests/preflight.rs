//! Preflight checks: missing prerequisites are reported before any change.

mod common;

use std::sync::Arc;

use bp_artifact::{
    ImageRef, ResolvedImage,
    resolve::{Resolve, ResolveError},
};
use bp_ecs::{ContainerOverlay, Error, Finding, FindingState, Lookups, Overlay};
use common::Shop;
use futures_core::future::BoxFuture;
use serde_json::json;

/// A registry with these images.
struct Registry(Vec<ResolvedImage>);

impl Resolve for Registry {
    fn resolve<'a>(&'a self, image: &'a ImageRef) -> BoxFuture<'a, Result<ResolvedImage, ResolveError>> {
        let found = self.0.iter().find(|known| ImageRef::from(known.reference.clone()) == *image);
        let missing = || ResolveError::ImageNotFound { image: image.clone(), request_id: None };
        Box::pin(async move { found.cloned().ok_or_else(missing) })
    }
}

fn finding(findings: &[Finding], subject: &str) -> (FindingState, String) {
    let finding = findings.iter().find(|f| f.subject.starts_with(subject));
    let finding = finding.unwrap_or_else(|| panic!("nothing about {subject}: {findings:?}"));
    (finding.state, finding.message.clone())
}

#[tokio::test(start_paused = true)]
async fn everything_exists_and_nothing_is_changed() {
    let shop = Shop::new();
    let (old, new) = (shop.image("1"), shop.image("2"));
    shop.web(&old).create();
    shop.sandbox.ledger().clear();
    let registry = Arc::new(Registry(vec![old, new.clone()]));
    let found = shop.target().preflight(&new, &Lookups::default().registry(registry)).await.unwrap();
    assert!(found.is_ready(), "{found:?}");
    assert_eq!(found.changes.len(), 1, "{:?}", found.changes);
    assert_eq!(finding(&found.findings, "image"), (FindingState::Present, "for linux/amd64".to_owned()));
    // No client is configured for it.
    assert_eq!(finding(&found.findings, "role").0, FindingState::Unknown);
    let calls = shop.sandbox.ledger().operations("aws");
    assert!(calls.iter().all(|call| call.contains("Describe") || call.contains("List")), "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn reports_an_image_that_is_missing_or_for_another_platform() {
    let shop = Shop::new();
    let (old, new) = (shop.image("1"), shop.image_for("2", &["linux/arm64"]));
    shop.web(&old).create();
    let registry = Arc::new(Registry(vec![new.clone()]));
    let found = shop.target().preflight(&new, &Lookups::default().registry(registry)).await.unwrap();
    assert!(!found.is_ready());
    let (state, message) = finding(&found.findings, &format!("image {} (web)", new.reference));
    assert_eq!(state, FindingState::Invalid);
    assert!(
        message.starts_with("built for linux/arm64, but the definition runs on linux/amd64"),
        "{message}"
    );
    let (state, message) = finding(&found.findings, &format!("image {} (proxy)", old.reference));
    assert_eq!(state, FindingState::Missing);
    assert!(message.contains("does not exist"), "{message}");
}

/// A registry in which every image is archived.
struct Archive;

impl Resolve for Archive {
    fn resolve<'a>(&'a self, image: &'a ImageRef) -> BoxFuture<'a, Result<ResolvedImage, ResolveError>> {
        Box::pin(async { Err(ResolveError::Archived { image: image.clone(), restoring: false }) })
    }
}

#[tokio::test(start_paused = true)]
async fn an_archived_image_cannot_be_deployed() {
    let shop = Shop::new();
    let image = shop.image("1");
    shop.web(&image).create();
    let lookups = Lookups::default().registry(Arc::new(Archive));
    let found = shop.target().preflight(&shop.image("2"), &lookups).await.unwrap();
    assert!(!found.is_ready(), "{found:?}");
    let (state, message) = finding(&found.findings, "image");
    assert_eq!(state, FindingState::Missing);
    assert!(message.contains("is archived and cannot be pulled: restore it"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn lists_secrets_and_requires_an_execution_role() {
    let shop = Shop::new();
    let image = shop.image("1");
    let mut definition = common::definition(&image);
    definition.as_object_mut().unwrap().remove("executionRoleArn");
    shop.ecs.new_service("shop", "web").task_definition(definition).create();
    let web = ContainerOverlay::default().secret("DB", "/shop/db");
    let target = shop.target().overlay(Overlay::default().container("web", web));
    let found = target.preflight(&image, &Lookups::default()).await.unwrap();
    let (state, message) = finding(&found.findings, "executionRoleArn");
    assert_eq!(state, FindingState::Missing);
    assert!(message.starts_with("secrets require it"), "{message}");
    assert_eq!(found.secrets.len(), 1);
    assert_eq!((found.secrets[0].name.as_str(), found.secrets[0].value_from.as_str()), ("DB", "/shop/db"));
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!(json["secrets"][0]["valueFrom"], "/shop/db");
}

#[tokio::test(start_paused = true)]
async fn warns_about_a_deployment_in_progress() {
    let shop = Shop::new();
    let (old, new) = (shop.image("1"), shop.image("2"));
    let service = shop.web(&old).create();
    service.update(json!({ "forceNewDeployment": true }));
    let found = shop.target().preflight(&new, &Lookups::default()).await.unwrap();
    let (state, message) = finding(&found.findings, "service web");
    assert!(state == FindingState::Warning && message.contains("is in progress"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn returns_the_errors_that_a_deployment_returns() {
    let shop = Shop::new();
    let image = shop.image("1");
    shop.web(&image).with("deploymentController", json!({ "type": "CODE_DEPLOY" })).create();
    let error = shop.target().preflight(&image, &Lookups::default()).await.unwrap_err();
    assert!(matches!(error, Error::UnsupportedController { .. }), "{error}");
}
