//! State of a one-off task, and how it ended: pure functions of its description.

use aws_sdk_ecs::types::{Container, Task, TaskStopCode};

use super::super::diagnose::Stopped;

/// How a task ended.
#[derive(Debug)]
pub(super) enum Judgement {
    /// The container exited with code 0; with a note about another container that failed.
    Completed(Option<String>),
    /// Another party stopped it, with the reason.
    Stopped(String),
    Failed(Box<Stopped>),
}

fn container<'a>(task: &'a Task, name: &str) -> Option<&'a Container> {
    task.containers().iter().find(|container| container.name.as_deref() == Some(name))
}

/// The exit code of a container.
pub(super) fn exit_code(task: &Task, name: &str) -> Option<i32> {
    container(task, name)?.exit_code
}

pub(super) fn is_stopped(task: &Task) -> bool {
    task.last_status.as_deref() == Some("STOPPED")
}

/// Whether ECS is stopping the task, or has stopped it.
pub(super) fn is_stopping(task: &Task) -> bool {
    task.desired_status.as_deref() == Some("STOPPED") || is_stopped(task)
}

/// The exit code of a container that has exited in a task that continues to run.
pub(super) fn finished(task: &Task, name: &str) -> Option<i32> {
    let container = container(task, name).filter(|_| !is_stopping(task))?;
    container.exit_code.filter(|_| container.last_status.as_deref() == Some("STOPPED"))
}

/// Judges a stopped task by the container `ours`. `finished`: we stopped the rest of the task after the container had
/// exited.
pub(super) fn judge(task: &Task, ours: &str, finished: bool) -> Judgement {
    let code = exit_code(task, ours);
    let reason = || task.stopped_reason.clone().unwrap_or_default();
    let by_itself = match &task.stop_code {
        Some(TaskStopCode::EssentialContainerExited) | None => true,
        Some(TaskStopCode::UserInitiated) if !finished => return Judgement::Stopped(reason()),
        Some(TaskStopCode::UserInitiated) => finished,
        Some(_) => false,
    };
    if by_itself && code == Some(0) {
        return Judgement::Completed(other_failure(task, ours));
    }
    Judgement::Failed(Box::new(Stopped::of_one_off(task, ours)))
}

/// Another container that exited with an error of its own.
fn other_failure(task: &Task, ours: &str) -> Option<String> {
    let others = task.containers().iter().filter(|container| container.name.as_deref() != Some(ours));
    let failed = others.filter_map(|container| {
        let code = container.exit_code.filter(|code| !matches!(code, 0 | 137 | 143))?;
        Some(format!("container {} exited with code {code}", container.name.as_deref()?))
    });
    failed.into_iter().next()
}

#[cfg(test)]
mod tests {
    use bp_artifact::deploy::Cause;

    use super::*;

    fn task(code: Option<TaskStopCode>, containers: &[(&str, Option<i32>)]) -> Task {
        let containers = containers.iter().map(|(name, exit)| {
            Container::builder().name(*name).set_exit_code(*exit).last_status("STOPPED").build()
        });
        Task::builder()
            .set_stop_code(code)
            .stopped_reason("the reason")
            .last_status("STOPPED")
            .set_containers(Some(containers.collect()))
            .build()
    }

    fn completed(task: &Task, finished: bool) -> bool {
        matches!(judge(task, "web", finished), Judgement::Completed(_))
    }

    #[test]
    fn only_exit_code_0_of_our_container_is_success() {
        let exited = Some(TaskStopCode::EssentialContainerExited);
        assert!(completed(&task(exited.clone(), &[("proxy", Some(143)), ("web", Some(0))]), false));
        assert!(completed(&task(None, &[("web", Some(0))]), false));
        assert!(!completed(&task(exited.clone(), &[("proxy", Some(0)), ("web", Some(1))]), false));
        assert!(!completed(&task(exited.clone(), &[("web", None)]), false));
        // A program that ends with code 0 on SIGTERM did not complete.
        for code in [
            TaskStopCode::SpotInterruption,
            TaskStopCode::TaskFailedToStart,
            TaskStopCode::TerminationNotice,
            TaskStopCode::InfrastructureHealth,
            TaskStopCode::from("SomethingNew"),
        ] {
            let Judgement::Failed(_) = judge(&task(Some(code), &[("web", Some(0))]), "web", false) else {
                panic!("failed");
            };
        }
    }

    #[test]
    fn a_stop_is_not_a_failure_unless_we_stopped_the_rest_of_the_task() {
        let stop = Some(TaskStopCode::UserInitiated);
        let by_other = judge(&task(stop.clone(), &[("web", Some(0))]), "web", false);
        assert!(matches!(by_other, Judgement::Stopped(reason) if reason == "the reason"));
        assert!(completed(&task(stop.clone(), &[("web", Some(0)), ("proxy", Some(143))]), true));
        let Judgement::Failed(stopped) = judge(&task(stop, &[("web", Some(3))]), "web", true) else {
            panic!("the container exited with 3");
        };
        assert_eq!((stopped.cause, stopped.report().exit_code), (Cause::ContainerExited, Some(3)));
    }

    #[test]
    fn an_interruption_is_a_failed_node() {
        let spot = task(Some(TaskStopCode::SpotInterruption), &[("web", Some(143))]);
        let Judgement::Failed(stopped) = judge(&spot, "web", false) else { panic!("interrupted") };
        let report = stopped.report();
        assert_eq!((report.cause, report.message.as_str()), (Cause::NodeFailed, "the reason"));
    }

    #[test]
    fn notes_another_container_that_failed() {
        let exited = Some(TaskStopCode::EssentialContainerExited);
        let Judgement::Completed(note) =
            judge(&task(exited, &[("a", Some(7)), ("web", Some(0))]), "web", false)
        else {
            panic!("completed");
        };
        assert_eq!(note.as_deref(), Some("container a exited with code 7"));
    }

    #[test]
    fn our_container_may_exit_while_the_task_runs() {
        let container = |name: &str, status: &str, code| {
            Container::builder().name(name).last_status(status).set_exit_code(code).build()
        };
        let task = |desired: &str| {
            let containers = vec![container("web", "STOPPED", Some(2)), container("proxy", "RUNNING", None)];
            let task = Task::builder().last_status("RUNNING").desired_status(desired);
            task.set_containers(Some(containers)).build()
        };
        let running = task("RUNNING");
        assert_eq!((finished(&running, "web"), finished(&running, "proxy")), (Some(2), None));
        let stopping = task("STOPPED");
        assert_eq!(finished(&stopping, "web"), None);
    }
}
