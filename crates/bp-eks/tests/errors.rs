//! Errors contain the object of the API server's message, and who refused: RBAC, admission, or a proxy in front.

mod common;

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use bp_artifact::error::{Classified, ErrorClass};
use bp_eks::{Options, PullSecret, pull_secret::RegistryToken, traffic::Slots};
use bp_sandbox::{Behaviour, Effect, Fault};
use serde_json::{Value, json};

use common::{World, chain, deploy};

/// An error response of the API server.
fn status(code: u16, reason: &str, message: &str, details: Value) -> Effect {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "code": code, "reason": reason, "message": message, "details": details,
    });
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    Effect::Answer { status: code, headers, body: body.to_string() }
}

fn html(code: u16) -> Effect {
    let body = "<html><head><title>403 Forbidden</title></head></html>".to_owned();
    Effect::Answer { status: code, headers: vec![("content-type".to_owned(), "text/html".to_owned())], body }
}

fn secret(world: &World, namespace: &str) -> (PullSecret, RegistryToken) {
    let expires = world.sandbox.clock().now() + Duration::from_secs(12 * 3600);
    let token = RegistryToken::new("registry.example.com", STANDARD.encode("AWS:x"), expires);
    (world.namespace_called(namespace).pull_secret("ecr"), token)
}

#[tokio::test(start_paused = true)]
async fn reports_the_refused_secret_not_a_deployment() {
    let world = World::new().await;
    let (secret, token) = secret(&world, "prod");
    let message = "Secret \"ecr\" is invalid: type: Invalid value: \"kubernetes.io/dockerconfigjson\": field is immutable";
    let invalid = status(422, "Invalid", message, json!({ "name": "ecr", "kind": "Secret" }));
    world.sandbox.faults().inject(Fault::new(invalid).on("patch secrets"));
    let error = secret.refresh(&token).await.unwrap_err();
    assert!(error.to_string().contains("secret/ecr"), "{error}");
    assert!(!chain(&error).contains("deployment"), "{}", chain(&error));
    assert_eq!(error.class(), ErrorClass::Refused);
}

#[tokio::test(start_paused = true)]
async fn reports_a_missing_namespace_for_every_object() {
    let world = World::new().await;
    let (secret, token) = secret(&world, "nowhere");
    let error = secret.refresh(&token).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the namespace \"nowhere\" does not exist in the cluster; check the cluster and the name"
    );
    assert_eq!(error.class(), ErrorClass::BadInput);

    let options = Options::new(Duration::from_secs(60)).unwrap();
    let slots = Slots::of_service("web");
    let shop = world.namespace_called("nowhere").blue_green("web", slots, options);
    let error = shop.traffic().await.unwrap_err();
    assert!(error.to_string().contains("the namespace \"nowhere\" does not exist"), "{error}");
    assert_eq!(error.class(), ErrorClass::BadInput);
}

#[tokio::test(start_paused = true)]
async fn reports_which_object_is_missing() {
    let world = World::new().await;
    let second = world.image("second", Behaviour::default());
    let details = json!({ "name": "web-quota", "kind": "resourcequotas" });
    let missing = status(404, "NotFound", "resourcequotas \"web-quota\" not found", details);
    world.sandbox.faults().inject(Fault::new(missing).on("patch deployments").times(2));
    let error = deploy(&world.target(), &second).await.1.unwrap_err();
    assert!(chain(&error).contains("resourcequotas/web-quota"), "{}", chain(&error));
    assert!(!error.to_string().contains("deployment/web"), "{error}");
}

/// A proxy or a firewall in front of the endpoint answers with HTML.
#[tokio::test(start_paused = true)]
async fn detects_a_403_of_a_proxy() {
    let world = World::new().await;
    let second = world.image("second", Behaviour::default());
    for operation in ["get deployments", "patch deployments"] {
        world.sandbox.faults().inject(Fault::new(html(403)).on(operation).times(u32::MAX));
        let error = deploy(&world.target(), &second).await.1.unwrap_err();
        assert!(!chain(&error).contains("admission"), "{operation}: {}", chain(&error));
        assert!(error.to_string().contains("proxy"), "{operation}: {error}");
        assert_eq!(error.class(), ErrorClass::Unavailable, "{operation}");
        world.sandbox.faults().clear();
    }
}

#[tokio::test(start_paused = true)]
async fn read_is_never_refused_at_admission() {
    let world = World::new().await;
    for (message, expected) in [
        ("forbidden: User \"system:anonymous\" cannot get path \"/apis/apps/v1\"", "system:anonymous"),
        (
            "deployments.apps \"web\" is forbidden: authorization webhook: context deadline exceeded",
            "\"get\"",
        ),
    ] {
        let refused = status(403, "Forbidden", message, json!({}));
        world.sandbox.faults().inject(Fault::new(refused).on("get deployments"));
        let error = world.target().current().await.unwrap_err();
        assert!(!chain(&error).contains("refused the change"), "{}", chain(&error));
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.class(), ErrorClass::Unavailable);
    }
}

/// `uid` may be a part of a name.
#[tokio::test(start_paused = true)]
async fn conflict_on_a_name_containing_uid_is_not_not_found() {
    let world = World::with(|deployment| deployment["metadata"]["name"] = json!("fluid")).await;
    let second = world.image("second", Behaviour::default());
    let message = "Operation cannot be fulfilled on deployments.apps \"fluid\": the object has been modified; please \
                   apply your changes to the latest version and try again";
    let conflict = status(409, "Conflict", message, json!({ "name": "fluid", "kind": "deployments" }));
    world.sandbox.faults().inject(Fault::new(conflict).on("patch deployments").times(u32::MAX));
    let options = Options::new(Duration::from_secs(300)).unwrap().take_over(true);
    let error = deploy(&world.of("fluid", "web", options), &second).await.1.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unavailable, "{error}");
}
