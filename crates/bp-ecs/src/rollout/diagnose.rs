//! Diagnosis of stopped tasks: failure causes and reports, with the same causes as for EKS.

use std::collections::HashSet;

use aws_sdk_ecs::types::{
    Container, DeploymentLifecycleHookStatus as HookStatus, HealthStatus, Service, ServiceDeployment, Task,
    TaskStopCode,
};
use bp_artifact::deploy::{Cause, Evidence, EvidenceKind, FailureReport, status::UnitFailure};
use jiff::Timestamp;

use super::{
    judge::Snapshot,
    reasons::{self, Reading},
};
use crate::names::name_of;

/// The maximum number of evidence items of one kind in a report.
const MAX_EVIDENCE: usize = 5;

/// Containers that AWS adds to a task, by the beginning of their names. They are not essential, except for the proxy of
/// Service Connect.
const INJECTED: [&str; 3] = ["aws-guardduty-agent", "ecs-service-connect-", "~internal~"];

/// A task that failed.
#[derive(Debug, Clone)]
pub(crate) struct Stopped {
    pub(crate) task: String,
    /// When it began to stop.
    pub(crate) at: Option<Timestamp>,
    pub(crate) cause: Cause,
    pub(crate) object: Option<String>,
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
        // A task whose node ended is replaced.
        let of_workload = |reading: &Reading| reading.cause != Cause::NodeFailed;
        let Reading { cause, mut object } = match &task.stop_code {
            Some(
                TaskStopCode::UserInitiated
                | TaskStopCode::SpotInterruption
                | TaskStopCode::TerminationNotice
                | TaskStopCode::InfrastructureHealth,
            ) => return None,
            Some(TaskStopCode::EssentialContainerExited) => {
                by_container().or_else(by_task).or_else(exited).unwrap_or_else(unknown)
            }
            Some(TaskStopCode::TaskFailedToStart) => by_task().or_else(by_container).unwrap_or_else(unknown),
            // The scheduler states the reason of a failure, or "Scaling activity" when it scaled in.
            Some(_) => by_task().filter(of_workload)?,
            // Without a stop code, a container's own exit code is the only other sign of a failure.
            None => {
                let exited = || exited().filter(|_| is_own_failure(exit_code));
                by_task().or_else(by_container).filter(of_workload).or_else(exited)?
            }
        };
        let message = match (container_reason, exit_code) {
            (Some(container_reason), _) => container_reason.to_owned(),
            (None, Some(code)) if cause == Cause::ContainerExited => format!("{reason} (exit code {code})"),
            (None, None) if cause == Cause::Unknown => format!(
                "{reason}; ECS states no reason: see the service events and, on EC2, the agent's log \
                 /var/log/ecs/ecs-agent.log"
            ),
            _ => reason.to_owned(),
        };
        let blamed = if cause == Cause::HealthCheckFailed {
            let unhealthy = |c: &&Container| c.health_status == Some(HealthStatus::Unhealthy);
            task.containers().iter().find(unhealthy)
        } else {
            let exited = matches!(cause, Cause::ContainerExited | Cause::OutOfMemory);
            failing.filter(|_| exited || container_reason.is_some())
        };
        if matches!(cause, Cause::ImageNotFound | Cause::ImagePullDenied | Cause::ImagePullFailed) {
            let is_ours = |c: &&Container| c.name.as_deref() == Some(ours);
            let container = blamed.or_else(|| task.containers().iter().find(is_ours));
            object = object.or_else(|| container?.image.clone());
        }
        Some(Stopped {
            task: name_of(task.task_arn.as_deref().unwrap_or_default()).to_owned(),
            at: task.stopping_at.or(task.stopped_at).and_then(timestamp),
            cause,
            object,
            container: blamed.and_then(|c| c.name.clone()),
            exit_code: exit_code.filter(|_| blamed.is_some()),
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
/// and the definition's own containers over those that AWS adds.
fn failed_container<'a>(task: &'a Task, ours: &str) -> Option<&'a Container> {
    type Blame<'b> = &'b dyn Fn(&Container) -> bool;
    let is_injected = |c: &Container| {
        let name = c.name.as_deref().unwrap_or_default();
        INJECTED.iter().any(|begin| name.starts_with(begin))
    };
    let first = |injected: bool, blame: Blame<'_>| {
        let mut found = task.containers().iter().filter(|c| is_injected(c) == injected && blame(c));
        let first = found.clone().next();
        found.find(|c| c.name.as_deref() == Some(ours)).or(first)
    };
    let says = |c: &Container| c.reason.as_deref().is_some_and(|reason| !reason.is_empty());
    let ran = |c: &Container| c.exit_code.is_some();
    let exited: [Blame<'_>; 3] =
        [&|c| says(c) && ran(c), &|c| is_own_failure(c.exit_code), &|c| matches!(c.exit_code, Some(0 | 137))];
    let others: [Blame<'_>; 2] = [&says, &ran];
    let by = |injected: bool, blames: &[Blame<'_>]| blames.iter().find_map(|blame| first(injected, *blame));
    by(false, &exited)
        .or_else(|| by(true, &exited[..2]))
        .or_else(|| by(false, &others[..1]))
        .or_else(|| by(true, &others[..1]))
        .or_else(|| by(false, &others[1..]))
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
    scope: &Scope<'_>,
    reason: &str,
    otherwise: Cause,
) -> FailureReport {
    let alarms = snapshot.deployment.as_ref().and_then(|d| d.alarms.as_ref());
    let alarms = alarms.map(|a| a.triggered_alarm_names()).unwrap_or_default();
    let events: Vec<Evidence> =
        snapshot.service.as_ref().map(|service| events(service, scope)).unwrap_or_default();
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
    let hooks = snapshot.deployment.as_ref().map(failed_hooks).unwrap_or_default();
    if report.cause == Cause::LifecycleHookFailed
        && let Some((target, _)) = hooks.first()
    {
        report.object = Some(target.clone());
    }
    report.evidence.extend(stopped.iter().take(MAX_EVIDENCE).map(Stopped::evidence));
    report.evidence.extend(hooks.into_iter().map(|(_, evidence)| evidence));
    if !reason.is_empty() {
        let source = snapshot.deployment.as_ref().and_then(|d| d.service_deployment_arn.clone());
        let source = source.unwrap_or_else(|| "deployment".to_owned());
        report.evidence.push(Evidence::new(EvidenceKind::Deployment, reason).source(source));
    }
    report.evidence.extend(events.into_iter().take(MAX_EVIDENCE));
    report
}

/// Evidence of a task that has not started or is not healthy.
pub(crate) fn starting(task: &Task) -> Evidence {
    let mut states = vec![task.last_status.clone().unwrap_or_else(|| "no status".to_owned())];
    if task.last_status.as_deref() == Some("RUNNING") {
        states.push(format!(
            "health {}",
            task.health_status.as_ref().map_or("UNKNOWN", |health| health.as_str())
        ));
    }
    for attachment in task.attachments() {
        if let Some(status) = attachment.status.as_deref().filter(|status| *status != "ATTACHED") {
            states.push(format!("{} {status}", attachment.r#type.as_deref().unwrap_or("attachment")));
        }
    }
    if let Some(container) = task.containers().iter().find(|c| c.last_status.as_deref() != Some("RUNNING")) {
        let name = container.name.as_deref().unwrap_or_default();
        let status = container.last_status.as_deref().unwrap_or_default();
        let reason = container.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        states.push(format!("container {name} {status}{reason}"));
    }
    Evidence::new(EvidenceKind::Task, states.join(", "))
        .source(format!("task {}", name_of(task.task_arn.as_deref().unwrap_or_default())))
        .at(task.created_at.and_then(timestamp))
}

/// The lifecycle hooks that failed or timed out: the target of each, and evidence of it.
fn failed_hooks(deployment: &ServiceDeployment) -> Vec<(String, Evidence)> {
    let stage = deployment.lifecycle_stage.as_ref().map_or("an unknown stage", |stage| stage.as_str());
    let failed = deployment.lifecycle_hook_details().iter().filter_map(|hook| {
        let status =
            hook.status.as_ref().filter(|s| matches!(s, HookStatus::Failed | HookStatus::TimedOut))?;
        let target = hook.target_arn.clone().or_else(|| hook.hook_id.clone())?;
        let kind = hook.target_type.as_ref().map_or("hook", |kind| kind.as_str());
        let message = format!("{kind} {} at {stage}", status.as_str());
        let evidence = Evidence::new(EvidenceKind::Deployment, message).source(format!("hook {target}"));
        Some((target, evidence))
    });
    failed.collect()
}

/// What belongs to the deployment that a report is about.
#[derive(Debug)]
pub(crate) struct Scope<'a> {
    /// When it started: earlier events belong to other deployments.
    pub(crate) since: Option<Timestamp>,
    /// The tasks of other deployments, whose events do not count.
    pub(crate) other_tasks: &'a HashSet<String>,
}

/// The service's events in this scope, newest first.
pub(super) fn events(service: &Service, scope: &Scope<'_>) -> Vec<Evidence> {
    let source = format!("service {}", service.service_name.as_deref().unwrap_or_default());
    let events = service.events().iter().map(|event| {
        Evidence::new(EvidenceKind::Event, event.message.as_deref().unwrap_or_default())
            .source(&source)
            .at(event.created_at.and_then(timestamp))
    });
    let is_in_time = |event: &Evidence| scope.since.zip(event.at).is_none_or(|(since, at)| at >= since);
    let is_of_others =
        |event: &Evidence| task_of(&event.message).is_some_and(|task| scope.other_tasks.contains(task));
    events.filter(|event| is_in_time(event) && !is_of_others(event)).collect()
}

/// The task that an event is about: `(service web) (task 0123) (port 80) is unhealthy ...`.
fn task_of(event: &str) -> Option<&str> {
    let (task, _) = event.split_once("(task ")?.1.split_once(')')?;
    Some(name_of(task))
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

    fn scope(since: i64, other_tasks: &HashSet<String>) -> Scope<'_> {
        Scope { since: Timestamp::from_second(since).ok(), other_tasks }
    }

    #[test]
    fn ignores_events_of_earlier_deployments_and_of_their_tasks() {
        let unhealthy =
            "(service web) (task 1) (port 80) is unhealthy in (target-group x) due to (reason y).";
        let (none, old) = (HashSet::new(), HashSet::from(["1".to_owned()]));
        let late = snapshot(&[(1_001, unhealthy)]);
        let of_old = report(&[], &late, &scope(1_000, &old), "not complete", Cause::NoProgress);
        assert_eq!(of_old.cause, Cause::NoProgress, "the event is about a task of an earlier deployment");
        let at = |at: i64, reason: &str| {
            report(&[], &snapshot(&[(at, unhealthy)]), &scope(1_000, &none), reason, Cause::NoProgress)
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
        let none = HashSet::new();
        let report = report(&[], &snapshot(&[(5, unhealthy)]), &scope(0, &none), &reason, Cause::Unknown);
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
    fn the_proxy_of_service_connect_is_blamed_if_only_it_failed() {
        let containers = [("ecs-service-connect-x1", Some(1), ""), ("web", Some(143), "")];
        let stopped = Stopped::of(&task(TaskStopCode::EssentialContainerExited, &containers), "web").unwrap();
        assert_eq!(
            (stopped.exit_code, stopped.container.as_deref()),
            (Some(1), Some("ecs-service-connect-x1"))
        );
        let agent = [("aws-guardduty-agent-x1", Some(137), ""), ("web", Some(0), "")];
        let stopped = Stopped::of(&task(TaskStopCode::EssentialContainerExited, &agent), "web").unwrap();
        assert_eq!((stopped.exit_code, stopped.container.as_deref()), (Some(0), Some("web")));
    }

    #[test]
    fn a_failed_hook_is_the_object_and_evidence() {
        let lambda = "arn:aws:lambda:us-west-2:123456789012:function:smoke";
        let hook = aws_sdk_ecs::types::DeploymentLifecycleHookDetail::builder()
            .target_type("AWS_LAMBDA".into())
            .target_arn(lambda)
            .status(HookStatus::TimedOut)
            .build();
        let deployment = ServiceDeployment::builder()
            .lifecycle_stage("POST_SCALE_UP".into())
            .lifecycle_hook_details(hook)
            .build();
        let snapshot = Snapshot { deployment: Some(deployment), ..snapshot(&[]) };
        let reason = "Service deployment rolled back because POST_SCALE_UP lifecycle hook(s) failed.";
        let report = report(&[], &snapshot, &scope(0, &HashSet::new()), reason, Cause::Unknown);
        assert_eq!((report.cause, report.object.as_deref()), (Cause::LifecycleHookFailed, Some(lambda)));
        let evidence: Vec<_> = report.evidence.iter().map(|e| e.message.as_str()).collect();
        assert!(evidence.contains(&"AWS_LAMBDA TIMED_OUT at POST_SCALE_UP"), "{evidence:?}");
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
