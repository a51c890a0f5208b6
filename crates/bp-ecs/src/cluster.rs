//! A cluster: what the services of one run share, so that they ask together and register one by one.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};
use std::time::Duration;

use aws_sdk_ecs::{
    Client,
    types::{Service, ServiceDeployment},
};
use tokio::time::Instant;

use crate::{
    api::Api, batch::Batch, definition::TaskDefinition, error::Error, options::Options, target::EcsTarget,
};

/// How many services one call describes.
const SERVICES: usize = 10;
/// How many service deployments one call describes.
const DEPLOYMENTS: usize = 20;

/// An ECS cluster, reached through one client. Cheap to clone.
///
/// Services of one run that come from one `Cluster` look at the same moments and in joint calls, ten services or
/// twenty deployments each, and register their definitions one by one, so that two that share a family share the
/// revision too.
///
/// ```no_run
/// # use std::{sync::Arc, time::Duration};
/// # use bp_artifact::{ResolvedImage, Saga, Target};
/// # use bp_ecs::{Cluster, Options};
/// # async fn run(client: aws_sdk_ecs::Client, image: ResolvedImage) -> Result<(), Box<dyn std::error::Error>> {
/// let shop = Cluster::new(client, "shop");
/// let options = Options::new(Duration::from_secs(900))?;
/// let targets = ["web", "worker", "mail"].map(|service| -> Arc<dyn Target> {
///     Arc::new(shop.service(service, "app", options.clone()))
/// });
/// let receipt = Saga::new(targets.to_vec(), image, "receipt.json").run().await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Cluster(Arc<Shared>);

impl Cluster {
    /// The cluster `name` (a name or an ARN), reached through `client`.
    pub fn new(client: Client, name: impl Into<String>) -> Self {
        Cluster(Arc::new(Shared {
            client,
            name: name.into(),
            services: Batch::new(SERVICES),
            deployments: Batch::new(DEPLOYMENTS),
            registering: tokio::sync::Mutex::default(),
            at_work: AtomicUsize::new(0),
            next: Mutex::default(),
        }))
    }

    /// The container `container` of the service `service` (a name or an ARN).
    pub fn service(
        &self,
        service: impl Into<String>,
        container: impl Into<String>,
        options: Options,
    ) -> EcsTarget {
        EcsTarget::of(Arc::clone(&self.0), service.into(), container.into(), options)
    }

    /// A task definition by its family (the latest active one), `family:revision` or ARN, whole and with its tags.
    ///
    /// # Errors
    /// When there is none, or it has members that could be lost.
    ///
    /// # Permissions
    /// `ecs:DescribeTaskDefinition`.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn definition(&self, reference: &str) -> Result<TaskDefinition, Error> {
        self.api(Duration::ZERO).definition(reference).await
    }

    /// Registers a definition, or gives the family's latest active revision when that is the same. An overloaded API is
    /// tried again, for about as long as `patience`.
    ///
    /// # Errors
    /// When AWS refuses, or is overloaded for longer.
    ///
    /// # Permissions
    /// `ecs:DescribeTaskDefinition`, `ecs:RegisterTaskDefinition`, `ecs:TagResource` when the definition has tags,
    /// `iam:PassRole` on its roles.
    ///
    /// # Cancel safety
    /// Dropped before its end it may or may not have registered; the next call finds what it left.
    pub async fn register(
        &self,
        definition: &TaskDefinition,
        patience: Duration,
    ) -> Result<TaskDefinition, Error> {
        self.api(patience).register(definition).await
    }

    fn api(&self, patience: Duration) -> Api {
        Api::new(Arc::clone(&self.0), String::new(), patience)
    }
}

/// What the services of a cluster share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) name: String,
    pub(crate) services: Batch<Service>,
    pub(crate) deployments: Batch<ServiceDeployment>,
    /// Registrations go one by one, so that equal ones meet; the API takes about one a second anyway.
    pub(crate) registering: tokio::sync::Mutex<()>,
    /// How many operations are at work.
    at_work: AtomicUsize,
    /// The next common look, at the brisk and at the calm pace.
    next: Mutex<[Option<Instant>; 2]>,
}

impl Shared {
    /// Counts an operation as long as what is returned lives.
    pub(crate) fn at_work(self: &Arc<Self>) -> AtWork {
        self.at_work.fetch_add(1, Ordering::SeqCst);
        AtWork(Arc::clone(self))
    }

    /// Whether several operations could ask together.
    pub(crate) fn is_shared(&self) -> bool {
        self.at_work.load(Ordering::SeqCst) > 1
    }

    /// When to look next: with the others of this pace, or after `pause` when none has set a time.
    pub(crate) fn next_look(&self, calm: bool, pause: Duration) -> Instant {
        let now = Instant::now();
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let set = &mut next[usize::from(calm)];
        match *set {
            Some(at) if at > now => at,
            _ => *set.insert(bp_artifact::time::after(now, pause)),
        }
    }
}

/// An operation at work.
#[derive(Debug)]
pub(crate) struct AtWork(Arc<Shared>);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.at_work.fetch_sub(1, Ordering::SeqCst);
    }
}
