//! Why tasks stopped, in the words that ECS and EKS share.

use aws_sdk_ecs::types::{Container, Service, Task, TaskStopCode};
use bp_artifact::{Cause, Evidence, EvidenceKind, FailureReport};
use jiff::Timestamp;

use crate::{judge::View, target::name_of};

/// How much evidence of one kind a report carries.
const SHOWN: usize = 5;

/// A task that stopped through its own fault.
#[derive(Debug, Clone)]
pub(crate) struct Stopped {
    pub(crate) task: String,
    at: Option<Timestamp>,
    pub(crate) cause: Cause,
    pub(crate) container: Option<String>,
    exit_code: Option<i32>,
    message: String,
}

impl Stopped {
    /// Reads a stopped or stopping task. `None` when somebody or something else ended it: the scheduler making room,
    /// a person, Spot, failing hardware.
    pub(crate) fn of(task: &Task, ours: &str) -> Option<Stopped> {
        let reason = task.stopped_reason.as_deref().unwrap_or_default();
        let failing = culprit(task, ours);
        let said = failing.and_then(|c| c.reason.as_deref()).filter(|r| !r.is_empty());
        let exit_code = failing.and_then(|c| c.exit_code);
        let cause = match task.stop_code.as_ref()? {
            TaskStopCode::UserInitiated
            | TaskStopCode::SpotInterruption
            | TaskStopCode::TerminationNotice
            | TaskStopCode::InfrastructureHealth => return None,
            TaskStopCode::EssentialContainerExited => {
                cause_of(said.unwrap_or_default()).unwrap_or(match exit_code {
                    Some(_) => Cause::ContainerExited,
                    None => Cause::Unknown,
                })
            }
            TaskStopCode::TaskFailedToStart => {
                cause_of(reason).or_else(|| cause_of(said.unwrap_or_default())).unwrap_or(Cause::Unknown)
            }
            // The scheduler says why when a task failed, and "Scaling activity" when it made room.
            _ => cause_of(reason)?,
        };
        let message = match (said, exit_code) {
            (Some(said), _) => said.to_owned(),
            (None, Some(code)) if cause == Cause::ContainerExited => format!("{reason} (exit code {code})"),
            _ => reason.to_owned(),
        };
        let blamed = matches!(cause, Cause::ContainerExited | Cause::OutOfMemory) || said.is_some();
        Some(Stopped {
            task: name_of(task.task_arn.as_deref().unwrap_or_default()).to_owned(),
            at: task.stopping_at.or(task.stopped_at).and_then(timestamp),
            cause,
            container: failing.filter(|_| blamed).and_then(|c| c.name.clone()),
            exit_code: exit_code.filter(|_| blamed),
            message,
        })
    }

    fn evidence(&self) -> Evidence {
        let container = self.container.as_ref().map(|name| format!("/{name}")).unwrap_or_default();
        Evidence {
            kind: EvidenceKind::Task,
            source: format!("task {}{container}", self.task),
            message: self.message.clone(),
            at: self.at,
        }
    }
}

/// The container that ended the task: one that says why, else one that ended with a code of its own.
fn culprit<'a>(task: &'a Task, ours: &str) -> Option<&'a Container> {
    let by = |blame: &dyn Fn(&&Container) -> bool| {
        let mut found = task.containers().iter().filter(|c| blame(c));
        let first = found.clone().next();
        found.find(|c| c.name.as_deref() == Some(ours)).or(first)
    };
    // 143 and 137 are what the others get when the task is torn down.
    by(&|c| c.reason.as_deref().is_some_and(|r| !r.is_empty()))
        .or_else(|| by(&|c| c.exit_code.is_some_and(|code| !matches!(code, 0 | 137 | 143))))
        .or_else(|| by(&|c| matches!(c.exit_code, Some(0 | 137))))
        .or_else(|| by(&|c| c.exit_code.is_some()))
}

/// Texts and what they mean; the first that fits counts. All in lower case.
///
/// Source: <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html>
const SIGNS: [(&[&str], Cause); 26] = [
    (&["cannotpullcontainererror", "not found"], Cause::ImageNotFound),
    (&["cannotpullcontainererror", "manifest unknown"], Cause::ImageNotFound),
    (
        &["cannotpullcontainererror", "does not contain descriptor matching platform"],
        Cause::WrongArchitecture,
    ),
    (&["cannotpullcontainererror", "no matching manifest"], Cause::WrongArchitecture),
    (&["cannotpullcontainererror", "access denied"], Cause::ImagePullDenied),
    (&["cannotpullcontainererror", "not authorized"], Cause::ImagePullDenied),
    (&["cannotpullcontainererror", "403"], Cause::ImagePullDenied),
    (&["cannotpullcontainererror", "no basic auth"], Cause::ImagePullDenied),
    (&["cannotpull"], Cause::ImagePullFailed),
    (&["exec format error"], Cause::WrongArchitecture),
    (&["outofmemory"], Cause::OutOfMemory),
    (&["resourceinitializationerror", "registry auth", "getauthorizationtoken"], Cause::ImagePullDenied),
    (&["resourceinitializationerror", "secret", "accessdenied"], Cause::SecretDenied),
    (&["resourceinitializationerror", "secret", "not authorized"], Cause::SecretDenied),
    (&["resourceinitializationerror", "resourcenotfoundexception"], Cause::SecretMissing),
    (&["resourceinitializationerror", "invalid ssm parameters"], Cause::SecretMissing),
    (&["resourceinitializationerror", "invalid parameters"], Cause::SecretMissing),
    (&["resourceinitializationerror", "did not contain json key"], Cause::SecretMissing),
    (&["unable to assume"], Cause::PermissionMissing),
    (&["resourceinitializationerror"], Cause::ResourceInitialization),
    (&["failed container health checks"], Cause::HealthCheckFailed),
    (&["failed elb health checks"], Cause::LoadBalancerUnhealthy),
    (&["is unhealthy in (target-group"], Cause::LoadBalancerUnhealthy),
    (&["limit", "exceeded"], Cause::QuotaExceeded),
    (&["capacity is unavailable"], Cause::Unschedulable),
    (&["unable to place a task"], Cause::Unschedulable),
];

/// What a reason or an event means, if it is known to mean a failure.
pub(crate) fn cause_of(text: &str) -> Option<Cause> {
    let text = text.to_ascii_lowercase();
    let found = SIGNS.iter().find(|(words, _)| words.iter().all(|word| text.contains(word)));
    match found {
        Some((_, cause)) => Some(*cause),
        None if text.contains("cannotstartcontainer") || text.contains("cannotcreatecontainer") => {
            Some(Cause::ConfigInvalid)
        }
        None => None,
    }
}

/// One of the tasks that failed as most did.
pub(crate) fn worst(stopped: &[Stopped]) -> Option<&Stopped> {
    let count = |cause: Cause| stopped.iter().filter(|s| s.cause == cause).count();
    stopped.iter().max_by_key(|s| (s.cause != Cause::Unknown, count(s.cause)))
}

/// The report of a failure: the class of most stopped tasks; without tasks what an event or an alarm says; else
/// `otherwise`.
pub(crate) fn report(stopped: &[Stopped], view: &View, reason: &str, otherwise: Cause) -> FailureReport {
    let worst = worst(stopped);
    let alarms: Vec<String> = view
        .deployment
        .as_ref()
        .and_then(|d| d.alarms.as_ref())
        .map(|a| a.triggered_alarm_names().to_vec())
        .unwrap_or_default();
    let told = view.service.as_ref().and_then(|service| {
        service.events().iter().find_map(|event| {
            let message = event.message.as_deref()?;
            Some((cause_of(message)?, message))
        })
    });
    let mut report = match (worst, alarms.as_slice(), told) {
        (Some(worst), ..) => {
            let mut report = FailureReport::new(worst.cause, &worst.message);
            (report.container, report.exit_code) = (worst.container.clone(), worst.exit_code);
            report
        }
        (None, [_, ..], _) => FailureReport::new(Cause::AlarmTriggered, alarms.join(", ")),
        (None, [], Some((cause, message))) => FailureReport::new(cause, message),
        (None, [], None) => FailureReport::new(otherwise, reason),
    };
    report.evidence.extend(stopped.iter().take(SHOWN).map(Stopped::evidence));
    if !reason.is_empty() {
        let source = view.deployment.as_ref().and_then(|d| d.service_deployment_arn.clone());
        report.evidence.push(Evidence {
            kind: EvidenceKind::Deployment,
            source: source.unwrap_or_else(|| "deployment".to_owned()),
            message: reason.to_owned(),
            at: None,
        });
    }
    report.evidence.extend(view.service.as_ref().into_iter().flat_map(events));
    report
}

/// The newest events of the service.
fn events(service: &Service) -> impl Iterator<Item = Evidence> {
    let name = service.service_name.clone().unwrap_or_default();
    service.events().iter().take(SHOWN).map(move |event| Evidence {
        kind: EvidenceKind::Event,
        source: format!("service {name}"),
        message: event.message.clone().unwrap_or_default(),
        at: event.created_at.and_then(timestamp),
    })
}

pub(crate) fn timestamp(at: aws_sdk_ecs::primitives::DateTime) -> Option<Timestamp> {
    Timestamp::new(at.secs(), at.subsec_nanos() as i32).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_as_the_platform_words_them() {
        for (text, cause) in [
            (
                "CannotPullContainerError: pull image manifest has been retried 5 time(s): failed to resolve ref \
                 docker.io/library/nope:1: docker.io/library/nope:1: not found",
                Cause::ImageNotFound,
            ),
            (
                "CannotPullContainerError: image Manifest does not contain descriptor matching platform \
                 'linux/arm64'",
                Cause::WrongArchitecture,
            ),
            (
                "CannotPullContainerError: Error response from daemon: pull access denied for x, repository does \
                 not exist or may require 'docker login'",
                Cause::ImagePullDenied,
            ),
            (
                "CannotPullContainerError: ref pull has been retried 5 time(s): dial tcp: i/o timeout",
                Cause::ImagePullFailed,
            ),
            (
                "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval \
                 failed: unable to retrieve secret from asm: service call has been retried 1 time(s): \
                 ResourceNotFoundException: Secrets Manager can't find the specified secret.",
                Cause::SecretMissing,
            ),
            (
                "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval \
                 failed: unable to retrieve secrets from ssm: AccessDeniedException: not authorized to perform: \
                 ssm:GetParameters",
                Cause::SecretDenied,
            ),
            (
                "ResourceInitializationError: failed to validate logger args: create stream has been retried",
                Cause::ResourceInitialization,
            ),
            ("Task failed ELB health checks in (target-group arn:x)", Cause::LoadBalancerUnhealthy),
            ("Task failed container health checks", Cause::HealthCheckFailed),
            ("OutOfMemoryError: Container killed due to memory usage", Cause::OutOfMemory),
            (
                "(service web) was unable to place a task because no container instance met all of its requirements.",
                Cause::Unschedulable,
            ),
            (
                "CannotStartContainerError: exec: \"serve\": executable file not found in $PATH",
                Cause::ConfigInvalid,
            ),
        ] {
            assert_eq!(cause_of(text), Some(cause), "{text}");
        }
        assert_eq!(cause_of("Scaling activity initiated by (deployment ecs-svc/1)"), None);
    }

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
    fn the_container_at_fault_is_named_and_not_the_one_torn_down() {
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

    #[test]
    fn what_others_end_is_no_failure() {
        for code in
            [TaskStopCode::SpotInterruption, TaskStopCode::TerminationNotice, TaskStopCode::UserInitiated]
        {
            assert!(Stopped::of(&task(code, &[("web", Some(143), "")]), "web").is_none());
        }
    }
}
