//! Failure reports with evidence, collected before the rollback.

use aws_sdk_ecs::types::{DesiredStatus, HealthStatus, Task};
use bp_artifact::deploy::{Cause, Evidence, EvidenceKind, FailureReport};

use super::{
    ServiceRollout,
    diagnose::{self, Scope, Stopped, report, timestamp},
    follow::Follower,
    judge::Snapshot,
};
use crate::definition::TaskDefinition;

/// The maximum number of starting tasks in a report.
const MAX_STARTING: usize = 5;

impl Follower<'_> {
    /// Reports the failure, once, before the rollback.
    pub(super) async fn fail(&mut self, snapshot: &Snapshot, reason: &str, otherwise: Cause) {
        if self.failed {
            return;
        }
        self.failed = true;
        let target = self.target;
        if !self.stopped.is_complete() {
            self.stopped.read_all(&target.api, &self.ours.id, target.container()).await;
        }
        let since = self.ours.created_at.and_then(timestamp);
        let scope = Scope { since, other_tasks: &self.stopped.others };
        let mut failure = report(&self.stopped.failed, snapshot, &scope, reason, otherwise);
        self.add_log(&mut failure).await;
        #[cfg(feature = "elbv2")]
        if let Some(service) = &snapshot.service {
            target.add_target_health(&mut failure, service).await;
        }
        if otherwise == Cause::NoProgress {
            failure.evidence.extend(self.not_started().await);
        }
        if let Some(message) = self.stopped.error.clone() {
            failure.evidence.push(Evidence::new(EvidenceKind::Task, message).source("stopped tasks"));
        }
        match &mut self.run {
            Some(run) => run.failing(failure),
            None => {
                self.reporter.notice(format!("another deployment, {}, is failing: {failure}", self.ours.id))
            }
        }
    }

    /// Adds the log of the failed container, or where it is, and the log group that a failed log driver uses.
    async fn add_log(&self, failure: &mut FailureReport) {
        let task = diagnose::most_frequent(&self.stopped.failed);
        let ran = task.filter(|task| task.container.is_some());
        if ran.is_none() && failure.cause != Cause::LogDriver {
            return;
        }
        let Ok(definition) = self.target.api.definition(&self.ours.definition).await else { return };
        self.target.add_log(failure, &definition, ran).await;
    }

    /// Our tasks that have not started or are not healthy, which a deployment without a failure waits for.
    async fn not_started(&self) -> Vec<Evidence> {
        let tasks = match self.target.api.tasks(DesiredStatus::Running).await {
            Ok(tasks) => tasks,
            Err(error) => {
                return vec![Evidence::new(EvidenceKind::Task, error.to_string()).source("starting tasks")];
            }
        };
        let ours = tasks.iter().filter(|task| task.started_by.as_deref() == Some(&self.ours.id));
        let is_started = |task: &&Task| {
            task.last_status.as_deref() == Some("RUNNING")
                && task.health_status == Some(HealthStatus::Healthy)
        };
        ours.filter(|task| !is_started(task)).take(MAX_STARTING).map(diagnose::starting).collect()
    }
}

impl ServiceRollout {
    /// Adds the log of a task's failed container, or where it is, and the log group that a failed log driver uses.
    pub(super) async fn add_log(
        &self,
        failure: &mut FailureReport,
        definition: &TaskDefinition,
        task: Option<&Stopped>,
    ) {
        if failure.cause == Cause::LogDriver && failure.object.is_none() {
            failure.object = log_group(definition, self.container());
        }
        let Some(task) = task else { return };
        #[cfg(feature = "logs")]
        let lines = self.last_lines(definition, task).await;
        #[cfg(not(feature = "logs"))]
        let lines = None;
        // The program's own output comes first.
        let log = lines.or_else(|| where_log_is(definition, task));
        failure.evidence.splice(0..0, log);
    }
}

/// The log group and the stream as named by the agent: `<prefix>/<container>/<task>`. The stream is unknown without
/// `awslogs-stream-prefix`.
pub(super) fn log_stream(
    definition: &TaskDefinition,
    container: &str,
    task: &str,
) -> Option<(String, Option<String>)> {
    let options = definition.log_options(container, "awslogs")?;
    let option = |name: &str| options.get(name)?.as_str();
    let stream = option("awslogs-stream-prefix").map(|prefix| format!("{prefix}/{container}/{task}"));
    Some((option("awslogs-group")?.to_owned(), stream))
}

fn log_group(definition: &TaskDefinition, container: &str) -> Option<String> {
    let groups = definition.container_names();
    let groups = groups.iter().filter_map(|name| Some((name, log_stream(definition, name, "")?.0)));
    let groups: Vec<_> = groups.collect();
    let ours = groups.iter().find(|(name, _)| *name == container);
    ours.or_else(|| groups.first()).map(|(_, group)| group.clone())
}

/// Where the output of a container is.
fn where_log_is(definition: &TaskDefinition, stopped: &Stopped) -> Option<Evidence> {
    let (group, stream) = log_stream(definition, stopped.container.as_deref()?, &stopped.task)?;
    let stream = stream.map(|stream| format!(" {stream}")).unwrap_or_default();
    let message = "the output of the container is in CloudWatch Logs";
    Some(Evidence::new(EvidenceKind::Log, message).source(format!("log {group}{stream}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derives_the_stream_name_of_the_agent() {
        let definition = |options: &str| {
            let json = format!(
                r#"{{ "family": "web", "containerDefinitions": [{{ "name": "web", "image": "i",
                    "logConfiguration": {{ "logDriver": "awslogs", "options": {options} }} }}] }}"#
            );
            TaskDefinition::from_json("test", &json).unwrap()
        };
        let whole = definition(r#"{ "awslogs-group": "/shop", "awslogs-stream-prefix": "web" }"#);
        let expected = ("/shop".to_owned(), Some("web/web/0123".to_owned()));
        assert_eq!(log_stream(&whole, "web", "0123"), Some(expected));
        assert_eq!(log_stream(&whole, "proxy", "0123"), None);
        let without_prefix = definition(r#"{ "awslogs-group": "/shop" }"#);
        assert_eq!(log_stream(&without_prefix, "web", "0123"), Some(("/shop".to_owned(), None)));
        assert_eq!(log_group(&whole, "proxy").as_deref(), Some("/shop"));
    }
}
