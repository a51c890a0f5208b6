//! An ECS cluster, whose services share joint API calls and sequential registrations.

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
/// Services of one `Cluster` in the same run poll at the same times with joint calls, of up to ten services or twenty
/// deployments each, and register their definitions one by one, so that two services of one family share the new
/// revision.
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
    /// Creates a handle of the cluster `name` (a name or an ARN).
    pub fn new(client: Client, name: impl Into<String>) -> Self {
        Cluster(Arc::new(Shared::new(client, name.into())))
    }

    /// Returns the service `name` (a name or an ARN) as a deployment target.
    pub fn service(&self, name: impl Into<String>, options: Options) -> EcsTarget {
        EcsTarget::of(Arc::clone(&self.0), name.into(), options)
    }

    /// Reads a task definition by family (its latest active revision), `family:revision` or ARN, with its tags.
    ///
    /// # Errors
    /// When it does not exist.
    ///
    /// # Permissions
    /// `ecs:DescribeTaskDefinition`.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn definition(&self, reference: &str) -> Result<TaskDefinition, Error> {
        self.api(Duration::ZERO).definition(reference).await
    }

    /// Registers a definition, or returns the family's latest active revision if it is identical. Retries while the API
    /// is overloaded, for about `retry_for`.
    ///
    /// # Errors
    /// When AWS rejects it, or is overloaded for longer.
    ///
    /// # Permissions
    /// `ecs:DescribeTaskDefinition`, `ecs:RegisterTaskDefinition`, `ecs:TagResource` when the definition has tags,
    /// `iam:PassRole` on its roles.
    ///
    /// # Cancel safety
    /// If dropped, it may or may not have registered; the next call finds and reuses the revision.
    pub async fn register(
        &self,
        definition: &TaskDefinition,
        retry_for: Duration,
    ) -> Result<TaskDefinition, Error> {
        self.api(retry_for).register(definition).await
    }

    fn api(&self, retry_for: Duration) -> Api {
        Api::new(Arc::clone(&self.0), String::new(), retry_for)
    }
}
