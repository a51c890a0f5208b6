//! The service's own deployment configuration: failure limit, bake time, early success, and a summary for the plan.

use std::time::Duration;

use aws_sdk_ecs::types::{
    DeploymentConfiguration, DeploymentEarlySuccessCriteria, DeploymentLifecycleHook, Service,
    ServiceRevisionCleanup,
};

use super::judge::Snapshot;

/// When failed tasks fail the deployment. ECS' circuit breaker has the same rule, but waits longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FailureLimit {
    /// The threshold of the circuit breaker, or the one that it would have; at most the desired count.
    threshold: u32,
    /// Whether a healthy task resets the count.
    pub(super) resets: bool,
}

impl FailureLimit {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let count = |n: i32| u32::try_from(n).unwrap_or(0);
        let service = snapshot.service.as_ref();
        let breaker = snapshot.deployment.as_ref().and_then(|d| d.deployment_circuit_breaker.as_ref());
        let desired = service.map_or(0, |service| count(service.desired_count));
        let threshold = match breaker.map_or(0, |breaker| count(breaker.threshold)) {
            0 => desired.div_ceil(2).clamp(3, 200),
            threshold => threshold,
        };
        let threshold = threshold.min(desired);
        let configured = service.and_then(|service| service.deployment_configuration.as_ref());
        let configured =
            configured.and_then(|configuration| configuration.deployment_circuit_breaker.as_ref());
        let resets = configured.and_then(|breaker| breaker.reset_on_healthy_task).unwrap_or(true);
        FailureLimit { threshold, resets }
    }

    /// The number of tasks stopped for the same cause that fails the deployment: `at_least` while none of ours has run,
    /// then at least the threshold of the circuit breaker.
    pub(super) fn tasks(self, at_least: u32, most_running: i32) -> u32 {
        if most_running > 0 { at_least.max(self.threshold) } else { at_least }
    }
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

/// The early success criteria, if the service uses them.
fn early_success(service: &Service) -> Option<&DeploymentEarlySuccessCriteria> {
    let criteria = service.deployment_configuration.as_ref()?.early_success_criteria.as_ref()?;
    criteria.enable.then_some(criteria)
}

/// The number of tasks that run when ECS reports success: all, or the share of the early success criteria.
pub(super) fn required_tasks(service: &Service) -> usize {
    let desired = usize::try_from(service.desired_count).unwrap_or(0);
    match early_success(service).and_then(|criteria| criteria.healthy_percent) {
        Some(percent) => (desired * usize::try_from(percent).unwrap_or(100)).div_ceil(100),
        None => desired,
    }
}

/// Whether ECS reports success before it removes the previous tasks, which can stay for days.
pub(super) fn defers_cleanup(service: &Service) -> bool {
    early_success(service).is_some_and(|criteria| {
        criteria.source_service_revision_cleanup != Some(ServiceRevisionCleanup::Blocking)
    })
}

/// What ECS still does after an early success, and what it no longer does.
pub(super) fn after_early_success(service: &Service, running: usize) -> Option<String> {
    early_success(service)?;
    let desired = usize::try_from(service.desired_count).unwrap_or(0);
    let mut continues = Vec::new();
    if running < desired {
        continues.push(format!("starts the remaining {} of {desired} tasks", desired - running));
    }
    if defers_cleanup(service) {
        continues.push("removes the previous tasks".to_owned());
    }
    (!continues.is_empty()).then(|| {
        format!(
            "early success: ECS {} in the background, without circuit breaker, alarms and rollback",
            continues.join(" and ")
        )
    })
}

/// The service's deployment configuration in one line.
pub(crate) fn summary(service: &Service) -> String {
    let configuration = service.deployment_configuration.clone();
    let Some(configuration) = configuration else { return "ROLLING".to_owned() };
    let mut parts = vec![strategy(&configuration)];
    let minutes = u64::try_from(configuration.bake_time_in_minutes.unwrap_or(0)).unwrap_or(0);
    if minutes > 0 {
        parts.push(format!("bake time {minutes} min"));
    }
    if let Some(breaker) = configuration.deployment_circuit_breaker.as_ref().filter(|breaker| breaker.enable)
    {
        let rollback = if breaker.rollback { "with" } else { "without" };
        parts.push(format!("circuit breaker {rollback} rollback"));
    }
    if let Some(alarms) = configuration.alarms.as_ref().filter(|alarms| alarms.enable) {
        let rollback = if alarms.rollback { "with" } else { "without" };
        parts.push(format!("alarms {} {rollback} rollback", alarms.alarm_names.join(", ")));
    }
    if let Some(criteria) = early_success(service) {
        let cleanup = criteria.source_service_revision_cleanup.as_ref().map_or("DEFERRED", |c| c.as_str());
        parts.push(format!(
            "early success at {}% ({cleanup} cleanup): after it neither circuit breaker nor alarms roll back",
            criteria.healthy_percent.unwrap_or(100)
        ));
    }
    parts.extend(configuration.lifecycle_hooks().iter().map(hook));
    parts.join("; ")
}

fn strategy(configuration: &DeploymentConfiguration) -> String {
    let strategy = configuration.strategy.as_ref().map_or("ROLLING", |strategy| strategy.as_str());
    let steps = match (&configuration.linear_configuration, &configuration.canary_configuration) {
        (Some(linear), _) => linear.step_percent.map(|percent| format!("steps of {percent}%")),
        (None, Some(canary)) => canary.canary_percent.map(|percent| format!("{percent}% first")),
        (None, None) => {
            let percent =
                |percent: Option<i32>, word: &str| percent.map(|percent| format!("{word} {percent}%"));
            let limits = [
                percent(configuration.minimum_healthy_percent, "minimum"),
                percent(configuration.maximum_percent, "maximum"),
            ];
            let limits: Vec<String> = limits.into_iter().flatten().collect();
            (!limits.is_empty()).then(|| limits.join(", "))
        }
    };
    steps.map_or_else(|| strategy.to_owned(), |steps| format!("{strategy} ({steps})"))
}

/// `AWS_LAMBDA hook arn:... at PRE_SCALE_UP`.
fn hook(hook: &DeploymentLifecycleHook) -> String {
    let kind = hook.target_type.as_ref().map_or("AWS_LAMBDA", |kind| kind.as_str());
    let target = hook.hook_target_arn.as_deref().map(|arn| format!(" {arn}")).unwrap_or_default();
    let stages: Vec<&str> = hook.lifecycle_stages().iter().map(|stage| stage.as_str()).collect();
    format!("{kind} hook{target} at {}", stages.join(", "))
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecs::types::{
        DeploymentCircuitBreaker, DeploymentStrategy, ServiceDeployment,
        ServiceDeploymentCircuitBreaker as Breaker,
    };

    use super::*;

    fn snapshot(desired: i32, threshold: Option<i32>) -> Snapshot {
        let breaker = threshold.map(|threshold| Breaker::builder().threshold(threshold).build());
        Snapshot {
            service: Some(Service::builder().desired_count(desired).build()),
            deployment: Some(ServiceDeployment::builder().set_deployment_circuit_breaker(breaker).build()),
            unlisted: false,
        }
    }

    #[test]
    fn few_failures_do_not_fail_a_deployment_whose_tasks_run() {
        for (most_running, desired, threshold, expected) in [
            (0, 0, None, 2),
            (0, 1, Some(3), 2),
            (0, 150, Some(75), 2),
            (1, 1, Some(3), 2),
            (4, 4, Some(3), 3),
            (110, 150, Some(75), 75),
            (110, 150, None, 75),
            (1, 150, Some(75), 75),
            (1, 1000, None, 200),
        ] {
            let limit = FailureLimit::of(&snapshot(desired, threshold));
            assert_eq!(limit.tasks(2, most_running), expected, "{most_running} of {desired}");
        }
    }

    fn early(desired: i32, percent: i32, cleanup: &str) -> Service {
        let criteria = DeploymentEarlySuccessCriteria::builder()
            .enable(true)
            .healthy_percent(percent)
            .source_service_revision_cleanup(cleanup.into())
            .build();
        let configuration = DeploymentConfiguration::builder()
            .strategy(DeploymentStrategy::Rolling)
            .minimum_healthy_percent(50)
            .maximum_percent(200)
            .deployment_circuit_breaker(
                DeploymentCircuitBreaker::builder().enable(true).rollback(true).build(),
            )
            .early_success_criteria(criteria)
            .build();
        Service::builder().desired_count(desired).deployment_configuration(configuration).build()
    }

    #[test]
    fn early_success_requires_a_share_of_the_tasks_rounded_up() {
        for (desired, percent, required) in [(3, 50, 2), (10, 60, 6), (10, 100, 10), (10, 0, 0), (0, 50, 0)] {
            assert_eq!(
                required_tasks(&early(desired, percent, "BLOCKING")),
                required,
                "{percent}% of {desired}"
            );
        }
        assert_eq!(required_tasks(&Service::builder().desired_count(4).build()), 4);
    }

    #[test]
    fn states_what_ecs_does_after_an_early_success() {
        let blocking = early(10, 60, "BLOCKING");
        assert!(!defers_cleanup(&blocking) && defers_cleanup(&early(10, 60, "DEFERRED")));
        assert!(defers_cleanup(&early(10, 60, "SOMETHING_NEW")), "an unknown value may leave tasks");
        assert_eq!(after_early_success(&blocking, 10), None);
        let note = after_early_success(&early(10, 60, "DEFERRED"), 6).unwrap();
        assert_eq!(
            note,
            "early success: ECS starts the remaining 4 of 10 tasks and removes the previous tasks in the background, \
             without circuit breaker, alarms and rollback"
        );
    }

    #[test]
    fn summarizes_the_configuration_in_one_line() {
        assert_eq!(summary(&Service::builder().build()), "ROLLING");
        assert_eq!(
            summary(&early(10, 60, "DEFERRED")),
            "ROLLING (minimum 50%, maximum 200%); circuit breaker with rollback; early success at 60% (DEFERRED \
             cleanup): after it neither circuit breaker nor alarms roll back"
        );
    }
}
