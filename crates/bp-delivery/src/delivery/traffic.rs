//! Create the target that shifts traffic between two Services, from `eks.traffic` of bp.toml.

use bp_artifact::{ResolvedImage, config::TrafficConfig};
use bp_eks::WeightedTraffic;

use super::Delivery;
use crate::{Failure, gates::step_check};

impl Delivery {
    /// The traffic of two Services, shifted as `config` requires; with `image`, its gates are checked after each step.
    ///
    /// # Errors
    /// When no EKS target is configured, the cluster cannot be reached, or a gate is invalid or does not exist.
    ///
    /// # Permissions
    /// `eks:DescribeCluster`, and those of the gates.
    ///
    /// # Cancel safety
    /// Cancel safe: reads only.
    pub async fn weights(
        &self,
        config: &TrafficConfig,
        image: Option<&ResolvedImage>,
    ) -> Result<WeightedTraffic, Failure> {
        let (eks, options) = (self.service.eks()?, self.eks_options()?);
        let pair = config.services.each_ref();
        let traffic = self.namespace().await?.weights(config.object.clone(), pair, options)?;
        let mut traffic = traffic.steps(config.steps.clone()).bake(config.bake);
        if let Some(action) = &config.action {
            traffic = traffic.action(action);
        }
        if let Some(container) = &eks.container {
            traffic = traffic.container(container);
        }
        if let Some(image) = image {
            for name in &config.checks {
                let (check, wait) = step_check(name, self, image).await?;
                traffic = traffic.check(check, wait);
            }
        }
        #[cfg(feature = "preflight")]
        if let Some(client) = self.clients.load_balancers().filter(|_| config.target_health) {
            traffic = traffic.target_health(client);
        }
        Ok(traffic)
    }
}
