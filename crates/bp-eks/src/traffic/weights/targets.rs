//! Health of a Service's targets, as Elastic Load Balancing reports it.

#[cfg(feature = "elbv2")]
mod poll;

use futures_util::{StreamExt, stream, stream::BoxStream};

use super::WeightedPair;
use crate::traffic::error::TrafficError;

/// The health of the targets of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TargetHealth {
    /// It is not read: there is no client for it.
    NotRead,
    /// It is not known yet, or not known any more.
    #[cfg_attr(not(feature = "elbv2"), expect(dead_code, reason = "only with a client"))]
    Unknown(String),
    /// Some targets are not healthy.
    #[cfg_attr(not(feature = "elbv2"), expect(dead_code, reason = "only with a client"))]
    Waiting(String),
    /// All targets are healthy.
    #[cfg_attr(not(feature = "elbv2"), expect(dead_code, reason = "only with a client"))]
    Healthy,
    /// All targets are unhealthy, or as many as fail a step.
    #[cfg_attr(not(feature = "elbv2"), expect(dead_code, reason = "only with a client"))]
    Unhealthy(String),
}

/// The health now, and its changes.
pub(super) type TargetWatch = (TargetHealth, BoxStream<'static, TargetHealth>);

impl WeightedPair {
    /// Watches the health of the targets of the Service with this position, if there is a client for it.
    pub(super) fn target_health(&self, service: usize, is_return: bool) -> TargetWatch {
        #[cfg(feature = "elbv2")]
        if let Some(client) = self.balancers.clone().filter(|_| !is_return) {
            return self.poll_targets(client, service);
        }
        let _ = (service, is_return);
        (TargetHealth::NotRead, stream::pending().boxed())
    }

    /// Fails when the health of the targets of the Service is to be read and must not be.
    pub(super) async fn check_target_access(&self, service: usize) -> Result<(), TrafficError> {
        #[cfg(feature = "elbv2")]
        if let Some(client) = &self.balancers {
            return self.check_access(client, service).await;
        }
        let _ = service;
        Ok(())
    }
}
