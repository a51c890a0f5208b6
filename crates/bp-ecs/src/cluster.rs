//! A cluster: what the services of one run share, so that they ask together and register one by one.

use std::{sync::Arc, time::Duration};

use aws_sdk_ecs::Client;

use crate::{
    api::{Api, Shared},
    definition::TaskDefinition,
    error::Error,
    options::Options,
    target::EcsTarget,
};

/// An ECS cluster, reached through one client. Cheap to clone.
///
/// Services of one run that come from one `Cluster` look at the same moments and in joint calls, ten services or
/// twenty deployments each, and register their definitions one by one, so that two that share a family share the
/// revision too.
///
/// ```no_run
/// # use std::{sync::Arc, time::Duration};
/// # use bp_artifact::{ResolvedImage, deploy::Target, saga::Saga};
/// # use bp_ecs::{Cluster, Options};
/// # async fn run(client: aws_sdk_ecs::Client, image: ResolvedImage) -> Result<(), Box<dyn std::error::Error>> {
/// let shop = Cluster::new(client, "shop");
/// let options = Options::new(Duration::from_secs(900))?;
/// let targets = ["web", "worker", "mail"].map(|service| -> Arc<dyn Target> {
///     Arc::new(shop.service(service, options.clone()).container("app"))
/// });
/// let receipt = Saga::new(targets.to_vec(), image, "receipt.json").run().await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Cluster(Arc<Shared>);

impl Cluster {
    /// The cluster `name` (a name or an ARN), reached through `client`.
    pub fn new(client: Client, name: impl Into<String>) -> Self {
        Cluster(Arc::new(Shared::new(client, name.into())))
    }

    /// The service `name` (a name or an ARN), as a place to deploy to.
    pub fn service(&self, name: impl Into<String>, options: Options) -> EcsTarget {
        EcsTarget::of(Arc::clone(&self.0), name.into(), options)
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
