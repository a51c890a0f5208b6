//! Simulated Kubernetes cluster: API server, workload controllers, scheduler and a scripted kubelet.
//!
//! Objects are stored as the JSON that clients send. Get, list, watch, create, update, delete and all patches are
//! supported for every kind in `kubectl api-resources`; the controllers and the kubelet advance Deployments,
//! ReplicaSets and pods with the sandbox's clock. Server-side apply tracks `managedFields` and reports conflicts like a
//! real server.

mod access;
mod api;
mod apply;
mod auth;
mod container;
mod controllers;
mod daemon_set;
mod defaults;
mod deployment;
mod discovery;
mod endpoints;
mod fields;
mod job;
mod kubelet;
mod log;
mod native;
mod openapi;
mod options;
mod patch;
mod pods;
mod resource;
mod revisions;
mod selector;
mod stateful_set;
mod status;
mod store;
mod table;
mod validate;
mod watch;
mod world;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard},
};

use futures_core::future::BoxFuture;
use http::{Request, Response, request};
use serde_json::{Value, json};

#[cfg_attr(not(feature = "aws"), allow(unused_imports))]
pub(crate) use self::access::PodIdentity;
use self::{
    api::Call,
    resource::{Resource, Target},
    status::{Answer, Failure, json_response},
    world::World,
};
pub use self::{
    auth::{SECRET_ACCESS_KEY, verify_token},
    options::ClusterOptions,
};
#[cfg(feature = "aws")]
use crate::aws::Identities;
use crate::{body::Body, clock::Clock, endpoint::Endpoint, runtime::Runtime, sync::lock};

/// The Kubernetes API of one EKS cluster.
pub struct Cluster {
    name: String,
    host: String,
    options: ClusterOptions,
    clock: Clock,
    #[cfg(feature = "aws")]
    identities: Arc<Identities>,
    world: Mutex<World>,
    rules: Mutex<Rules>,
    /// The store's version: watches wait for it to change.
    changed: tokio::sync::watch::Sender<u64>,
    /// Open watches end when this changes.
    restarted: tokio::sync::watch::Sender<()>,
}

/// Access rules of a cluster.
#[derive(Debug, Default)]
struct Rules {
    /// Denied pairs of verb and plural.
    denied: BTreeSet<(String, String)>,
    /// Admission webhooks that deny changes: plural, webhook, reason.
    webhooks: Vec<(String, String, String)>,
    access: access::Access,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("name", &self.name).field("host", &self.host).finish_non_exhaustive()
    }
}

impl Cluster {
    pub(crate) fn new(
        name: &str,
        options: ClusterOptions,
        clock: Clock,
        runtime: Arc<Runtime>,
        #[cfg(feature = "aws")] identities: Arc<Identities>,
    ) -> Self {
        let host = format!("{name}.gr7.{}.eks.amazonaws.com", options.region);
        let world = World::new(runtime, options.architecture.clone(), clock.now());
        let cluster = Cluster {
            name: name.to_owned(),
            host,
            clock,
            #[cfg(feature = "aws")]
            identities,
            world: Mutex::new(world),
            rules: Mutex::default(),
            changed: tokio::sync::watch::Sender::new(0),
            restarted: tokio::sync::watch::Sender::new(()),
            options,
        };
        cluster.create_defaults();
        cluster
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The host of the cluster's endpoint.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The options that it was built with.
    pub fn options(&self) -> &ClusterOptions {
        &self.options
    }

    /// The state as of now.
    fn enter(&self) -> MutexGuard<'_, World> {
        let mut world = lock(&self.world);
        world.step(self.clock.now());
        world
    }

    /// Changes the state as of now, and wakes the watches.
    fn write<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.enter();
        let result = change(&mut world);
        self.changed.send_replace(world.store.version());
        result
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        lock(&self.rules)
    }

    /// The user of a request.
    fn authenticate(&self, parts: &request::Parts) -> Answer<String> {
        let header = parts.headers.get("authorization").and_then(|header| header.to_str().ok());
        let Some(token) = header.and_then(|header| header.strip_prefix("Bearer ")) else {
            return Ok("system:anonymous".to_owned());
        };
        if token == self.static_token() {
            return Ok("kubernetes-admin".to_owned());
        }
        let key = match verify_token(token, &self.name, self.clock.client_now()) {
            Ok(key) => key,
            Err(reason) => {
                tracing::debug!(cluster = self.name, reason, "token rejected");
                return Err(Failure::unauthorized());
            }
        };
        let (account, arn) = self.principal(&key);
        if self.has_access(&account, &arn) { Ok(arn) } else { Err(Failure::unauthorized()) }
    }

    /// The account and ARN of an access key.
    #[cfg(feature = "aws")]
    fn principal(&self, access_key_id: &str) -> (String, String) {
        let identity = self.identities.of(access_key_id);
        (identity.account, identity.arn)
    }

    #[cfg(not(feature = "aws"))]
    fn principal(&self, access_key_id: &str) -> (String, String) {
        (self.options.account.clone(), format!("arn:aws:iam::{}:user/{access_key_id}", self.options.account))
    }

    fn authorize(&self, user: &str, verb: &str, target: &Target) -> Answer<()> {
        let plural = match &target.subresource {
            Some(sub) => format!("{}/{sub}", target.resource.plural),
            None => target.resource.plural.to_owned(),
        };
        let denied = self.rules().denied.contains(&(verb.to_owned(), plural));
        if user != "system:anonymous" && !denied {
            return Ok(());
        }
        Err(Failure::forbidden(user, verb, target))
    }

    /// Rejects a change that an admission webhook denies.
    fn admit(&self, resource: &Resource) -> Answer<()> {
        match self.rules().webhooks.iter().find(|(plural, ..)| plural == resource.plural) {
            Some((_, webhook, why)) => Err(Failure::webhook(webhook, why)),
            None => Ok(()),
        }
    }

    /// Answers a SelfSubjectAccessReview.
    fn review(&self, mut review: Value) -> Value {
        let requested = &review["spec"]["resourceAttributes"];
        let text = |field: &str| requested[field].as_str().unwrap_or_default().to_owned();
        let plural = match text("subresource").as_str() {
            "" => text("resource"),
            sub => format!("{}/{sub}", text("resource")),
        };
        let allowed = !self.rules().denied.contains(&(text("verb"), plural));
        review["status"] = json!({ "allowed": allowed });
        review
    }

    fn respond(self: &Arc<Self>, parts: &request::Parts, body: &[u8]) -> Answer<Response<Body>> {
        let user = self.authenticate(parts)?;
        let path = parts.uri.path();
        if matches!(path, "/healthz" | "/livez" | "/readyz") {
            return Ok(Response::new(Body::from("ok")));
        }
        if let Some(document) = discovery::answer(path, &self.options.version) {
            return Ok(json_response(200, &document));
        }
        let call = Call::read(parts, &user).ok_or_else(Failure::no_such_path)?;
        if call.verb.is_empty() {
            return Err(Failure::method());
        }
        self.authorize(call.user, call.verb, &call.target)?;
        let content_type =
            parts.headers.get("content-type").and_then(|c| c.to_str().ok()).unwrap_or_default();
        api::answer(self, &call, content_type, body)
    }
}

impl Endpoint for Cluster {
    fn name(&self) -> String {
        self.host.clone()
    }

    /// `list pods`, `patch deployments`, `get pods/log`; for a path that is not a resource, `GET /version`.
    fn operation(&self, parts: &request::Parts, _: &[u8]) -> String {
        match Call::read(parts, "") {
            Some(call) => {
                let sub = call.target.subresource.map(|sub| format!("/{sub}")).unwrap_or_default();
                format!("{} {}{sub}", call.verb, call.target.resource.plural)
            }
            None => format!("{} {}", parts.method, parts.uri.path()),
        }
    }

    fn handle(self: Arc<Self>, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let answer = match body.bytes().await {
                Ok(body) => self.respond(&parts, &body),
                Err(_) => Err(Failure::bad_request("the request body ended before it was complete")),
            };
            answer.unwrap_or_else(|failure| failure.response())
        })
    }
}
