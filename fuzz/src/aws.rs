//! Responses of Amazon ECS, through the real SDK client.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_sdk_ecs::config::{BehaviorVersion, Credentials, Region, retry::RetryConfig};
use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn},
        orchestrator::{HttpRequest, HttpResponse},
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use bp_ecs::{Cluster, EcsTarget, Options};

use super::replay::Target;

/// The targets of this file.
pub const TARGETS: &[Target] = &[("ecs", ecs)];

/// The responses of each operation in their order; the last one is repeated.
#[derive(Debug, Clone)]
struct Responses(Arc<Mutex<Vec<Answers>>>);

/// The name of an operation and its responses.
type Answers = (String, VecDeque<String>);

impl Responses {
    /// Blocks of an operation's name and a body, separated by lines of two percent signs. A body that begins with an
    /// exclamation mark is the one of an error.
    fn read(text: &str) -> Self {
        let mut all: Vec<(String, VecDeque<String>)> = Vec::new();
        for block in text.split("\n%%\n").take(32) {
            let (operation, body) = block.split_once(' ').unwrap_or((block, ""));
            match all.iter_mut().find(|(known, _)| known == operation) {
                Some((_, bodies)) => bodies.push_back(body.to_owned()),
                None => all.push((operation.to_owned(), VecDeque::from([body.to_owned()]))),
            }
        }
        Responses(Arc::new(Mutex::new(all)))
    }

    fn next(&self, operation: &str) -> Option<String> {
        let mut all = self.0.lock().expect("not poisoned");
        let (_, bodies) = all.iter_mut().find(|(known, _)| known == operation)?;
        if bodies.len() > 1 { bodies.pop_front() } else { bodies.front().cloned() }
    }
}

impl HttpConnector for Responses {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default();
        let next = self.next(operation);
        let none = r#"{"__type":"ClientException","message":"no response"}"#;
        let (status, body) = match next.as_deref() {
            Some(body) => body.strip_prefix('!').map_or((200, body), |error| (400, error)),
            None => (400, none),
        };
        let status = StatusCode::try_from(status).expect("a status");
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status, SdkBody::from(body))))
    }
}

/// A service of which ECS gives these responses.
pub fn service(text: &str) -> EcsTarget {
    let responses = Responses::read(text);
    let config = aws_sdk_ecs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(Credentials::for_tests())
        .retry_config(RetryConfig::disabled())
        .http_client(http_client_fn(move |_, _| SharedHttpConnector::new(responses.clone())))
        .build();
    let options = Options::new(Duration::from_secs(60)).expect("options");
    Cluster::new(aws_sdk_ecs::Client::from_conf(config), "shop").service("web", options)
}

/// The responses to `status`, the definition and a deployment.
pub fn ecs(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let image = format!("registry.example.com/shop/web@{}", bp_artifact::Digest::sha256("x"));
    let image: bp_artifact::ResolvedImage = image.parse::<bp_artifact::DigestRef>().expect("an image").into();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let work = async {
            let _ = service(&text).status().await;
            if let Ok(definition) = service(&text).definition().await {
                let _ = definition.secrets();
            }
            let _ = service(&text).container("web").deploy(&image).await;
        };
        let day = Duration::from_secs(24 * 3600);
        tokio::time::timeout(day, work).await.expect("a deployment ends");
    });
}
