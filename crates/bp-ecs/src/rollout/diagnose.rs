//! Diagnosis of stopped tasks: failure causes and reports, with the same causes as for EKS.

use aws_sdk_ecs::types::{Container, Service, Task, TaskStopCode};
use bp_artifact::deploy::{Cause, Evidence, EvidenceKind, FailureReport, status::UnitFailure};
use jiff::Timestamp;

use super::{
    judge::Snapshot,
    reasons::{self, Reading},
};
use crate::names::name_of;

/// The maximum number of evidence items of one kind in a report.
const MAX_EVIDENCE: usize = 5;

/// A task that failed.
#[derive(Debug, Clone)]
pub(crate) struct Stopped {
    pub(crate) task: String,
    /// When it began to stop.
    pub(crate) at: Option<Timestamp>,
    pub(crate) cause: Cause,
    object: Option<String>,
    pub(crate) container: Option<String>,
    exit_code: Option<i32>,
    message: String,
}

impl Stopped {
    /// Diagnoses a stopped or stopping task. `None` when it did not fail but was stopped by the scheduler, a user, a
    /// Spot interruption or failing hardware.
    pub(crate) fn of(task: &Task, ours: &str) -> Option<Stopped> {
        let reason = task.stopped_reason.as_deref().unwrap_or_default();
        let failing = failed_container(task, ours);
        let container_reason = failing.and_then(|c| c.reason.as_deref()).filter(|r| !r.is_empty());
        let exit_code = failing.and_then(|c| c.exit_code);
        let by_task = || reasons::read(reason);
        let by_container = || container_reason.and_then(reasons::read);
        let exited = || exit_code.map(|_| Reading { cause: Cause::ContainerExited, object: None });
        let unknown = || Reading { cause: Cause::Unknown, object: None };
        let Reading { cause, object } = match &task.stop_code {
            Some(
                TaskStopCode::UserInitiated
                | TaskStopCode::SpotInterruption
                | TaskStopCode::TerminationNotice
                | TaskStopCode::InfrastructureHealth,
            ) => return None,
            Some(TaskStopCode::EssentialContainerExited) => {
                by_container().or_else(exited).unwrap_or_else(unknown)
            }
            Some(TaskStopCode::TaskFailedToStart) => by_task().or_else(by_container).unwrap_or_else(unknown),
            // The scheduler states the reason of a failure, or "Scaling activity" when it scaled in.
            Some(_) => by_task()?,
            // Without a stop code, a container's own exit code is the only other sign of a failure.
            None => {
                by_task().or_else(by_container).or_else(|| exited().filter(|_| is_own_failure(exit_code)))?
            }
        };
        let message = match (container_reason, exit_code) {
            (Some(container_reason), _) => container_reason.to_owned(),
            (None, Some(code)) if cause == Cause::ContainerExited => format!("{reason} (exit code {code})"),
            _ => reason.to_owned(),
        };
        let blamed =
            matches!(cause, Cause::ContainerExited | Cause::OutOfMemory) || container_reason.is_some();
        Some(Stopped {
            task: name_of(task.task_arn.as_deref().unwrap_or_default()).to_owned(),
            at: task.stopping_at.or(task.stopped_at).and_then(timestamp),
            cause,
            object,
            container: failing.filter(|_| blamed).and_then(|c| c.name.clone()),
            exit_code: exit_code.filter(|_| blamed),
            message,
        })
    }

    /// The failure, for a status.
    pub(super) fn failure(&self) -> UnitFailure {
        let failure = FailureReport::new(self.cause, &self.message).about(self.object.clone());
        let failure = failure.in_container(self.container.clone(), self.exit_code);
        UnitFailure::new(format!("task {}", self.task), self.at, failure)
    }

    fn evidence(&self) -> Evidence {
        let container = self.container.as_ref().map(|name| format!("/{name}")).unwrap_or_default();
        Evidence::new(EvidenceKind::Task, &self.message)
            .source(format!("task {}{container}", self.task))
            .at(self.at)
    }
}

/// The container that stopped the task. One that exited takes precedence over one with a reason why it never started,
/// because sidecars injected by AWS do not stop a task.
fn failed_container<'a>(task: &'a Task, ours: &str) -> Option<&'a Container> {
    let by = |blame: &dyn Fn(&&Container) -> bool| {
        let mut found = task.containers().iter().filter(|c| blame(c));
        let first = found.clone().next();
        found.find(|c| c.name.as_deref() == Some(ours)).or(first)
    };
    let says = |c: &&Container| c.reason.as_deref().is_some_and(|reason| !reason.is_empty());
    let ran = |c: &&Container| c.exit_code.is_some();
    by(&|c| says(c) && ran(c))
        .or_else(|| by(&|c| is_own_failure(c.exit_code)))
        .or_else(|| by(&|c| matches!(c.exit_code, Some(0 | 137))))
        .or_else(|| by(&says))
        .or_else(|| by(&ran))
}

/// Whether the exit code is a failure of the program itself: 143 and 137 also occur when the task is stopped.
fn is_own_failure(exit_code: Option<i32>) -> bool {
    exit_code.is_some_and(|code| !matches!(code, 0 | 137 | 143))
}

/// A task with the most frequent cause.
pub(crate) fn most_frequent(stopped: &[Stopped]) -> Option<&Stopped> {
    let count = |cause: Cause| stopped.iter().filter(|s| s.cause == cause).count();
    stopped.iter().max_by_key(|s| (s.cause != Cause::Unknown, count(s.cause)))
}

/// The failure report of the deployment. The cause is from ECS's own reason if that states one, otherwise the most
/// frequent cause of stopped tasks, otherwise from an alarm or an event, otherwise `otherwise`.
pub(crate) fn report(
    stopped: &[Stopped],
    snapshot: &Snapshot,
    since: Option<Timestamp>,
    reason: &str,
    otherwise: Cause,
) -> FailureReport {
    let alarms = snapshot.deployment.as_ref().and_then(|d| d.alarms.as_ref());
    let alarms = alarms.map(|a| a.triggered_alarm_names()).unwrap_or_default();
    let events: Vec<Evidence> =
        snapshot.service.as_ref().map(|service| events(service, since)).unwrap_or_default();
    let from_events =
        || events.iter().find_map(|event| Some((reasons::read(&event.message)?, &event.message)));
    let of =
        |reading: Reading, message: &str| FailureReport::new(reading.cause, message).about(reading.object);
    let names = alarms.join(", ");
    let of_alarms = || FailureReport::new(Cause::AlarmTriggered, &names).about(Some(names.clone()));
    let mut report = match (reasons::read(reason), most_frequent(stopped)) {
        (Some(reading), _) if reading.cause == Cause::AlarmTriggered && !alarms.is_empty() => of_alarms(),
        (Some(reading), _) => of(reading, reason),
        (None, Some(task)) => {
            let report = FailureReport::new(task.cause, &task.message).about(task.object.clone());
            report.in_container(task.container.clone(), task.exit_code)
        }
        (None, None) if !alarms.is_empty() => of_alarms(),
        (None, None) => match from_events() {
            Some((reading, message)) => of(reading, message),
            None => FailureReport::new(otherwise, reason),
        },
    };
    report.evidence.extend(stopped.iter().take(MAX_EVIDENCE).map(Stopped::evidence));
    if !reason.is_empty() {
        let source = snapshot.deployment.as_ref().and_then(|d| d.service_deployment_arn.clone());
        let source = source.unwrap_or_else(|| "deployment".to_owned());
        report.evidence.push(Evidence::new(EvidenceKind::Deployment, reason).source(source));
    }
    report.evidence.extend(events.into_iter().take(MAX_EVIDENCE));
    report
}

/// Evidence of a task that has not started yet.
pub(crate) fn starting(task: &Task) -> Evidence {
    let status = task.last_status.as_deref().unwrap_or("no status");
    let waits = task.containers().iter().find(|c| c.last_status.as_deref() != Some("RUNNING"));
    let container = waits.map(|c| {
        let reason = c.reason.as_deref().unwrap_or_default();
        format!(
            ", container {} {} {reason}",
            c.name.as_deref().unwrap_or_default(),
            c.last_status.as_deref().unwrap_or_default()
        )
    });
    let message = format!("{status}{}", container.unwrap_or_default());
    Evidence::new(EvidenceKind::Task, message.trim_end())
        .source(format!("task {}", name_of(task.task_arn.as_deref().unwrap_or_default())))
        .at(task.created_at.and_then(timestamp))
}

/// The service's events since the deployment started, newest first. Earlier ones belong to other deployments.
pub(super) fn events(service: &Service, since: Option<Timestamp>) -> Vec<Evidence> {
    let source = format!("service {}", service.service_name.as_deref().unwrap_or_default());
    let events = service.events().iter().map(|event| {
        Evidence::new(EvidenceKind::Event, event.message.as_deref().unwrap_or_default())
            .source(&source)
            .at(event.created_at.and_then(timestamp))
    });
    events.filter(|event| since.zip(event.at).is_none_or(|(since, at)| at >= since)).collect()
}

pub(crate) fn timestamp(at: aws_sdk_ecs::primitives::DateTime) -> Option<Timestamp> {
    Timestamp::new(at.secs(), at.subsec_nanos() as i32).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(code: TaskStopCode, containers: &[(&str, Option<i32>, &str)]) -> Task {
        let containers = containers.iter().map(|(name, exit, reason)| {
            Container::builder().name(*name).set_exit_code(*exit).reason(*reason).build()
        });
        let reason = "Essential container in task exited";
        Task::builder()
            .stop_code(code)
            .stopped_reason(reason)
            .set_containers(Some(containers.collect()))
            .build()
    }

    #[test]
    fn reports_the_failed_container_and_not_those_stopped_with_it() {
        let exited = TaskStopCode::EssentialContainerExited;
        for (containers, name, code, cause) in [
            (vec![("proxy", Some(143), ""), ("web", Some(3), "")], "web", 3, Cause::ContainerExited),
            (vec![("proxy", Some(1), ""), ("web", Some(143), "")], "proxy", 1, Cause::ContainerExited),
            (vec![("proxy", Some(143), ""), ("web", Some(0), "")], "web", 0, Cause::ContainerExited),
            (
                vec![("proxy", Some(143), ""), ("web", Some(137), "OutOfMemoryError: killed")],
                "web",
                137,
                Cause::OutOfMemory,
            ),
        ] {
            let stopped = Stopped::of(&task(exited.clone(), &containers), "web").unwrap();
            assert_eq!((stopped.container.as_deref(), stopped.exit_code), (Some(name), Some(code)));
            assert_eq!(stopped.cause, cause);
        }
    }

    fn snapshot(events: &[(i64, &str)]) -> Snapshot {
        let events = events.iter().map(|(at, message)| {
            let at = aws_sdk_ecs::primitives::DateTime::from_secs(*at);
            aws_sdk_ecs::types::ServiceEvent::builder().created_at(at).message(*message).build()
        });
        let service = Service::builder().service_name("web").set_events(Some(events.collect())).build();
        Snapshot { service: Some(service), deployment: None, unlisted: false }
    }

    #[test]
    fn ignores_events_of_earlier_deployments() {
        let unhealthy =
            "(service web) (task 1) (port 80) is unhealthy in (target-group x) due to (reason y).";
        let since = Timestamp::from_second(1_000).ok();
        let at = |at: i64, reason: &str| {
            report(&[], &snapshot(&[(at, unhealthy)]), since, reason, Cause::NoProgress)
        };
        let old = at(989, "not complete after 600 s");
        assert_eq!((old.cause, old.evidence.len()), (Cause::NoProgress, 1), "the newest event is 11 s older");
        assert_eq!(at(1_001, "not complete after 600 s").cause, Cause::LoadBalancerUnhealthy);
    }

    #[test]
    fn the_status_reason_of_ecs_takes_precedence() {
        let hook = "arn:aws:lambda:us-west-2:123456789012:function:hook";
        let reason = format!(
            "Service deployment rolled back because PRE_SCALE_UP lifecycle hook(s) failed. Lifecycle hook target {hook} \
             returned FAILED status."
        );
        let unhealthy =
            "(service web) (task 1) (port 80) is unhealthy in (target-group x) due to (reason y).";
        let report = report(&[], &snapshot(&[(5, unhealthy)]), None, &reason, Cause::Unknown);
        assert_eq!((report.cause, report.object.as_deref()), (Cause::LifecycleHookFailed, Some(hook)));
        assert!(report.advice().contains(hook), "{}", report.advice());
    }

    #[test]
    fn an_injected_sidecar_does_not_hide_the_failed_container() {
        let pull = "CannotPullContainerError: ref pull has been retried 1 time(s): dial tcp 10.0.0.1:443: i/o timeout";
        let containers = [("aws-guardduty-agent-x1", None, pull), ("web", Some(1), "")];
        let stopped = Stopped::of(&task(TaskStopCode::EssentialContainerExited, &containers), "web").unwrap();
        assert_eq!((stopped.cause, stopped.container.as_deref()), (Cause::ContainerExited, Some("web")));
    }

    #[test]
    fn interruptions_and_user_stops_are_not_failures() {
        for code in
            [TaskStopCode::SpotInterruption, TaskStopCode::TerminationNotice, TaskStopCode::UserInitiated]
        {
            assert!(Stopped::of(&task(code, &[("web", Some(143), "")]), "web").is_none());
        }
    }
}
