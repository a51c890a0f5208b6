//! Whether a rolling deployment may replace a task at all: the service's minimum and maximum percent.

use aws_sdk_ecs::types::{DeploymentStrategy, SchedulingStrategy, Service};
use bp_artifact::deploy::{
    Cause,
    preflight::{Finding, FindingState},
};

const SUBJECT: &str = "tasks during the deployment";

/// How many tasks a service may and must run during a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    desired: u32,
    /// The fewest healthy tasks.
    least: u32,
    /// The most tasks.
    most: u32,
    minimum_percent: u32,
    maximum_percent: u32,
}

impl Room {
    /// The numbers of the service. `None` when its percentages do not apply: no tasks are desired, or one runs on each
    /// container instance.
    pub(super) fn of(service: &Service) -> Option<Room> {
        let desired = u32::try_from(service.desired_count).ok().filter(|desired| *desired > 0)?;
        if service.scheduling_strategy == Some(SchedulingStrategy::Daemon) {
            return None;
        }
        let configuration = service.deployment_configuration.as_ref();
        let percent = |given: Option<i32>, default: u32| {
            given.and_then(|percent| u32::try_from(percent).ok()).unwrap_or(default)
        };
        let minimum_percent = percent(configuration.and_then(|c| c.minimum_healthy_percent), 100);
        let maximum_percent = percent(configuration.and_then(|c| c.maximum_percent), 200);
        let rolls = configuration
            .and_then(|c| c.strategy.as_ref())
            .is_none_or(|strategy| *strategy == DeploymentStrategy::Rolling);
        let of_desired = |percent: u32| u64::from(desired) * u64::from(percent);
        let count = |tasks: u64| u32::try_from(tasks).unwrap_or(u32::MAX);
        let (least, most) = if rolls {
            (count(of_desired(minimum_percent).div_ceil(100)), count(of_desired(maximum_percent) / 100))
        } else {
            // A second set of tasks is started beside the first one.
            (desired, desired.saturating_mul(2))
        };
        Some(Room { desired, least, most, minimum_percent, maximum_percent })
    }

    /// Whether a new task must run before a running one may be stopped.
    pub(super) fn starts_first(self) -> bool {
        self.least >= self.desired
    }

    /// Whether no task can be stopped and none started.
    fn is_stuck(self) -> bool {
        self.least >= self.desired && self.most <= self.desired
    }

    /// The finding about the service, which runs `running` tasks.
    pub(super) fn finding(self, running: i32) -> Finding {
        let Room { desired, least, most, minimum_percent, maximum_percent } = self;
        if !self.is_stuck() || running == 0 {
            let message = format!("at least {least} and at most {most} of {desired} desired run");
            return Finding::new(SUBJECT, FindingState::Present, message);
        }
        let of_desired = |tasks: u32| u64::from(tasks) * 100;
        let (raised, lowered) = (
            of_desired(desired + 1).div_ceil(u64::from(desired)),
            of_desired(desired - 1) / u64::from(desired),
        );
        let message = format!(
            "of {desired} desired tasks at least {least} must and at most {most} may run (minimumHealthyPercent \
             {minimum_percent}, maximumPercent {maximum_percent}), so none can be replaced; raise maximumPercent to \
             {raised}, or lower minimumHealthyPercent to {lowered}"
        );
        Finding::new(SUBJECT, FindingState::Invalid, message).cause(Cause::DeploymentConfiguration)
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecs::types::DeploymentConfiguration;

    use super::*;

    fn service(desired: i32, minimum: i32, maximum: i32, strategy: Option<DeploymentStrategy>) -> Service {
        let configuration = DeploymentConfiguration::builder()
            .minimum_healthy_percent(minimum)
            .maximum_percent(maximum)
            .set_strategy(strategy)
            .build();
        Service::builder().desired_count(desired).deployment_configuration(configuration).build()
    }

    #[test]
    fn reports_percentages_that_leave_no_room() {
        for (desired, minimum, maximum, stuck) in [
            (1, 100, 200, false),
            (1, 100, 150, true),
            (1, 50, 100, true),
            (1, 0, 100, false),
            (2, 100, 150, false),
            (2, 50, 100, false),
            (3, 70, 110, true),
            (10, 100, 110, false),
            (10, 95, 105, true),
            (4, 100, 100, true),
        ] {
            let found = Room::of(&service(desired, minimum, maximum, None)).unwrap().finding(desired);
            let expected = if stuck { FindingState::Invalid } else { FindingState::Present };
            assert_eq!(found.state, expected, "{desired} {minimum} {maximum}: {found}");
        }
        let found = Room::of(&service(1, 100, 150, None)).unwrap().finding(1);
        assert!(
            found.message.ends_with("raise maximumPercent to 200, or lower minimumHealthyPercent to 0"),
            "{found}"
        );
        let found = Room::of(&service(3, 70, 110, None)).unwrap().finding(3);
        assert!(found.message.ends_with("to 134, or lower minimumHealthyPercent to 66"), "{found}");
    }

    #[test]
    fn the_advice_leaves_room() {
        for desired in 1..=60 {
            let raised = (100 * (desired + 1) + desired - 1) / desired;
            let lowered = 100 * (desired - 1) / desired;
            let found = Room::of(&service(desired, 100, 100, None)).unwrap().finding(desired);
            assert!(found.message.contains(&format!("maximumPercent to {raised},")), "{found}");
            assert!(found.message.ends_with(&format!("to {lowered}")), "{found}");
            for (minimum, maximum) in [(100, raised), (lowered, 100)] {
                let room = Room::of(&service(desired, minimum, maximum, None)).unwrap();
                assert!(!room.is_stuck(), "{desired}: {minimum} {maximum}");
            }
        }
    }

    #[test]
    fn other_strategies_start_a_second_set_and_no_tasks_need_no_room() {
        let blue_green = Room::of(&service(3, 100, 100, Some(DeploymentStrategy::BlueGreen))).unwrap();
        assert_eq!((blue_green.most, blue_green.is_stuck(), blue_green.starts_first()), (6, false, true));
        assert_eq!(Room::of(&service(0, 100, 100, None)), None);
        let daemon = Service::builder().desired_count(3).scheduling_strategy(SchedulingStrategy::Daemon);
        assert_eq!(Room::of(&daemon.build()), None);
        // Nothing runs, so there is nothing to wait for.
        let broken = Room::of(&service(1, 100, 100, None)).unwrap().finding(0);
        assert_eq!(broken.state, FindingState::Present);
    }
}
