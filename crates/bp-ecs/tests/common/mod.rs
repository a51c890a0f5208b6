//! Fixture: a sandbox with one registry, one cluster and one service.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod replay;
pub(crate) mod scene;

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_ecs::{
    Client,
    config::{BehaviorVersion, Region, SharedHttpClient, retry::RetryConfig},
};
use bp_artifact::{Outcome, ResolvedImage, deploy::DeployEvent};
use bp_ecs::{Cluster, Deployment, EcsTarget, Error, Options};
use bp_sandbox::{
    Behaviour, Effect, Fault, ImageBuilder, Sandbox,
    aws::ecs::{EcsHandle, NewService, ServiceHandle},
    registry::RegistryOptions,
};
use serde_json::{Value, json};

pub(crate) const ACCOUNT: &str = "111111111111";
pub(crate) const REGION: &str = "eu-central-1";
pub(crate) const HOST: &str = "111111111111.dkr.ecr.eu-central-1.amazonaws.com";

pub(crate) struct Shop {
    pub(crate) sandbox: Sandbox,
    pub(crate) ecs: EcsHandle,
}

impl Shop {
    pub(crate) fn new() -> Shop {
        let sandbox = Sandbox::builder().registry(HOST, RegistryOptions::ecr()).build();
        sandbox.registry(HOST).create_repository("shop/web");
        let ecs = sandbox.aws().ecs(ACCOUNT, REGION);
        Shop { sandbox, ecs }
    }

    /// Pushes an image for amd64 and arm64 with different contents for each `name`.
    pub(crate) fn image(&self, name: &str) -> ResolvedImage {
        self.image_for(name, &["linux/amd64", "linux/arm64"])
    }

    pub(crate) fn image_for(&self, name: &str, platforms: &[&str]) -> ResolvedImage {
        let builder = platforms.iter().fold(ImageBuilder::new(), |b, platform| b.platform(platform));
        let image = builder.layer([("app/name", name)]).build();
        self.sandbox.registry(HOST).push(&image, "shop/web", name);
        let platform = |text: &&str| {
            bp_artifact::resolve::PlatformImage::new(
                text.parse().unwrap(),
                image.platform(text).parse().unwrap(),
            )
        };
        ResolvedImage {
            platforms: platforms.iter().map(platform).collect(),
            ..reference(image.digest()).into()
        }
    }

    /// Pushes an image whose container behaves like this.
    pub(crate) fn image_that(&self, name: &str, behaviour: Behaviour) -> ResolvedImage {
        let image = self.image(name);
        self.sandbox.script(image.digest().as_str(), behaviour);
        image
    }

    /// An image that was never pushed.
    pub(crate) fn missing_image(&self) -> ResolvedImage {
        reference(bp_artifact::Digest::sha256("never pushed").as_str()).into()
    }

    /// The service `shop/web`, running `image` in its container `web`.
    pub(crate) fn web(&self, image: &ResolvedImage) -> NewService {
        self.ecs.new_service("shop", "web").task_definition(definition(image))
    }

    pub(crate) fn service(&self) -> ServiceHandle {
        self.ecs.service("shop", "web")
    }

    pub(crate) fn client(&self) -> Client {
        self.client_over(self.sandbox.http_client())
    }

    pub(crate) fn client_over(&self, http: SharedHttpClient) -> Client {
        let config = aws_sdk_ecs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .credentials_provider(Credentials::for_tests())
            .retry_config(RetryConfig::disabled())
            .http_client(http)
            .build();
        Client::from_conf(config)
    }

    pub(crate) fn target(&self) -> EcsTarget {
        self.target_with(options())
    }

    pub(crate) fn target_with(&self, options: Options) -> EcsTarget {
        Cluster::new(self.client(), "shop").service("web", options).container("web")
    }

    /// Waits until the tasks of earlier deployments have stopped, which is after the end of a deployment.
    pub(crate) async fn drained(&self) {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }

    /// Returns a fault: the operation returns this AWS error, for the next `times` calls.
    pub(crate) fn refuse(&self, operation: &str, code: &str, message: &str, times: u32) -> Fault {
        self.refuse_all(code, message).on(operation).times(times)
    }

    /// Returns a fault: every call to AWS returns this error.
    pub(crate) fn refuse_all(&self, code: &str, message: &str) -> Fault {
        let body = json!({ "__type": code, "message": message }).to_string();
        let headers = vec![("content-type".to_owned(), "application/x-amz-json-1.1".to_owned())];
        Fault::new(Effect::Answer { status: 400, headers, body }).at("aws").times(u32::MAX)
    }

    pub(crate) fn deny(&self, action: &str) -> Fault {
        let message = format!(
            "User: arn:aws:iam::{ACCOUNT}:user/ci is not authorized to perform: {action} on resource: * because no \
             identity-based policy allows the {action} action"
        );
        self.refuse(action, "AccessDeniedException", &message, u32::MAX)
    }

    pub(crate) fn inject(&self, fault: Fault) {
        self.sandbox.faults().inject(fault);
    }

    pub(crate) fn calls(&self, operation: &str) -> usize {
        self.sandbox.ledger().count_of(operation)
    }
}

pub(crate) fn reference(digest: &str) -> bp_artifact::DigestRef {
    format!("{HOST}/shop/web@{digest}").parse().unwrap()
}

/// The definition of `web` with a sidecar that runs the same image.
pub(crate) fn definition(image: &ResolvedImage) -> Value {
    json!({
        "family": "web",
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"],
        "cpu": "256",
        "memory": "512",
        "executionRoleArn": "arn:aws:iam::111111111111:role/web",
        "tags": [{ "key": "Team", "value": "shop" }],
        "containerDefinitions": [
            {
                "name": "web",
                "image": image.reference.to_string(),
                "portMappings": [{ "containerPort": 8080 }],
                "environment": [{ "name": "EMPTY", "value": "" }],
                "healthCheck": { "command": ["CMD", "true"] },
            },
            { "name": "proxy", "image": image.reference.to_string(), "essential": false },
        ],
    })
}

pub(crate) fn options() -> Options {
    Options::new(Duration::from_secs(600)).unwrap()
}

/// Runs a deployment to its end; returns its events and its result.
pub(crate) async fn run(mut deployment: Deployment) -> (Vec<DeployEvent>, Result<Outcome, Error>) {
    let mut events = Vec::new();
    while let Some(event) = deployment.next_event().await {
        events.push(event);
    }
    (events, deployment.await)
}
