//! Failed health checks of load balancer and container.

use bp_artifact::deploy::Cause;

use super::{
    message::ServiceMessage,
    reading::{Reading, is_target_group},
};

/// Classifies a failed health check. `None` for any other message.
pub(super) fn read(message: &ServiceMessage) -> Option<Reading> {
    if message.contains("target group is not found") {
        return Some(Reading::new(Cause::DeploymentConfiguration).about(message.name(is_target_group)));
    }
    let unhealthy = [
        "failed elb health checks",
        "failed vpc lattice health checks",
        "is unhealthy in",
        "is not healthy in",
    ];
    if message.contains_any(&unhealthy) {
        return Some(Reading::new(Cause::LoadBalancerUnhealthy).about(message.name(is_target_group)));
    }
    message.contains("failed container health checks").then(|| Reading::new(Cause::HealthCheckFailed))
}
