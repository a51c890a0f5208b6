//! Failure threshold and bake time from the service's deployment configuration.

use std::time::Duration;

use aws_sdk_ecs::types::{Deployment, Service, ServiceDeployment};

/// The number of tasks stopped for the same cause that fails the deployment: `at_least` while no task runs, then the
/// number of running tasks, up to the threshold of the ECS circuit breaker.
pub(super) fn failure_threshold(
    at_least: u32,
    mine: Option<&Deployment>,
    service: Option<&ServiceDeployment>,
) -> u32 {
    let count = |n: i32| u32::try_from(n).unwrap_or(0);
    let (running, desired) = mine.map_or((0, 0), |d| (count(d.running_count), count(d.desired_count)));
    let breaker = service.and_then(|deployment| deployment.deployment_circuit_breaker.as_ref());
    let limit = match breaker.map_or(0, |breaker| count(breaker.threshold)) {
        0 => desired.div_ceil(2).clamp(3, 200),
        threshold => threshold,
    };
    at_least.max(running.min(limit))
}

/// Whether the service's circuit breaker rolls back a failed deployment.
pub(super) fn rolls_back(service: &Service) -> bool {
    let configuration = service.deployment_configuration.as_ref();
    let breaker = configuration.and_then(|configuration| configuration.deployment_circuit_breaker.as_ref());
    breaker.is_some_and(|breaker| breaker.enable && breaker.rollback)
}

/// The bake time of the service's strategy, which adds to the deadline.
pub(super) fn bake_time(service: &Service) -> Duration {
    let Some(configuration) = &service.deployment_configuration else { return Duration::ZERO };
    let minutes = |minutes: Option<i32>| u64::try_from(minutes.unwrap_or(0)).unwrap_or(0);
    let canary = configuration.canary_configuration.as_ref();
    let canary = canary.map_or(0, |canary| minutes(canary.canary_bake_time_in_minutes));
    let linear = configuration.linear_configuration.as_ref().map_or(0, |linear| {
        let steps = (100.0 / linear.step_percent.unwrap_or(100.0).clamp(1.0, 100.0)).ceil() as u64;
        steps * minutes(linear.step_bake_time_in_minutes)
    });
    Duration::from_secs(60 * (minutes(configuration.bake_time_in_minutes) + canary + linear))
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecs::types::ServiceDeploymentCircuitBreaker as Breaker;

    use super::*;

    #[test]
    fn few_failures_among_many_running_tasks_do_not_fail_the_deployment() {
        for (running, desired, threshold, expected) in [
            (0, 0, None, 2),
            (0, 1, Some(3), 2),
            (1, 1, Some(3), 2),
            (4, 4, Some(3), 3),
            (110, 150, Some(75), 75),
            (110, 150, None, 75),
            (30, 150, Some(75), 30),
        ] {
            let mine = Deployment::builder().running_count(running).desired_count(desired).build();
            let breaker = threshold.map(|threshold| Breaker::builder().threshold(threshold).build());
            let service = ServiceDeployment::builder().set_deployment_circuit_breaker(breaker).build();
            assert_eq!(failure_threshold(2, Some(&mine), Some(&service)), expected, "{running} of {desired}");
        }
        assert_eq!(failure_threshold(2, None, None), 2);
    }
}
