//! The status of a target: what runs, the deployments in progress, failures and recent events. Read-only.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use super::{Evidence, FailureReport, Progress, Revision, TargetId};
use crate::{digest::Digest, text};

/// The maximum number of events, of failures and of starting tasks or pods.
const EVENTS: usize = 10;
const FAILURES: usize = 5;
const STARTING: usize = 5;

/// What runs at a target, and the state of its deployments. Displays as one entry of several lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Status {
    /// The target.
    pub target: TargetId,
    /// The platform's state of the service or workload, such as `ACTIVE`.
    pub state: String,
    /// The revision in place: that of the deployment in progress, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
    /// The numbers of tasks or pods.
    pub progress: Progress,
    /// The containers, with the digests that run.
    pub containers: Vec<ContainerStatus>,
    /// The deployments in progress and the last one, newest first.
    pub deployments: Vec<DeploymentStatus>,
    /// The tasks or pods that are starting.
    pub starting: Vec<Evidence>,
    /// The last tasks or pods that failed, newest first.
    pub failures: Vec<UnitFailure>,
    /// The platform's events since the start of the current deployment, newest first.
    pub events: Vec<Evidence>,
    /// What was omitted or could not be read.
    pub notes: Vec<String>,
}

/// A container, and the digests that its running instances report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ContainerStatus {
    /// Its name.
    pub name: String,
    /// Its image in the revision in place. `None` if the revision lacks it, such as an injected sidecar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The running digests.
    pub running: Vec<RunningDigest>,
}

/// The instances of a container with the same revision and digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RunningDigest {
    /// The revision.
    pub revision: String,
    /// The digest. `None` if it is not reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The number of running tasks or pods.
    pub count: usize,
}

/// A deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DeploymentStatus {
    /// The platform's ID.
    pub id: String,
    /// The revision that it deploys, if it is still known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The platform's state.
    pub state: String,
    /// Whether it is in progress.
    pub in_progress: bool,
    /// The platform's reasons for the state.
    pub reasons: Vec<String>,
    /// The deployment strategy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<String>,
    /// Its tasks or pods, if they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The lifecycle hooks that are not completed.
    pub hooks: Vec<HookStatus>,
    /// When it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
}

/// A lifecycle hook of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct HookStatus {
    /// Its ID or its ARN.
    pub id: String,
    /// The platform's state.
    pub state: String,
    /// Whether it awaits an approval.
    pub awaits_approval: bool,
    /// When it expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// What happens then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_action: Option<String>,
}

/// A task or pod that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct UnitFailure {
    /// The task or pod.
    pub unit: String,
    /// When it failed, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// The cause.
    pub failure: FailureReport,
}

impl Status {
    /// A status without anything that was read.
    pub fn new(target: TargetId) -> Self {
        Status {
            target,
            state: String::new(),
            revision: None,
            progress: Progress::default(),
            containers: Vec::new(),
            deployments: Vec::new(),
            starting: Vec::new(),
            failures: Vec::new(),
            events: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Whether a deployment is in progress.
    pub fn is_in_progress(&self) -> bool {
        self.deployments.iter().any(|deployment| deployment.in_progress)
    }

    /// Whether a deployment in progress awaits an approval.
    pub fn awaits_approval(&self) -> bool {
        let mut hooks = self.deployments.iter().filter(|d| d.in_progress).flat_map(|d| &d.hooks);
        hooks.any(|hook| hook.awaits_approval)
    }

    /// Sorts the failures, the latest first, and limits the lists: ten events, five failures and five starting tasks or
    /// pods. Notes state how many entries were omitted.
    pub fn shorten(&mut self) {
        self.failures.sort_by_key(|failed| std::cmp::Reverse(failed.at));
        shorten(&mut self.events, EVENTS, "events", &mut self.notes);
        shorten(&mut self.failures, FAILURES, "failures", &mut self.notes);
        shorten(&mut self.starting, STARTING, "starting tasks or pods", &mut self.notes);
    }

    /// Counts a running instance of a container.
    pub fn count(&mut self, container: &str, revision: &str, digest: Option<Digest>) {
        if !self.containers.iter().any(|known| known.name == container) {
            self.containers.push(ContainerStatus::new(container, None));
        }
        let counted = self.containers.iter_mut().find(|known| known.name == container);
        let Some(ContainerStatus { running, .. }) = counted else { return };
        match running.iter_mut().find(|known| known.revision == revision && known.digest == digest) {
            Some(known) => known.count = known.count.saturating_add(1),
            None => running.push(RunningDigest { revision: revision.to_owned(), digest, count: 1 }),
        }
    }
}

fn shorten<T>(items: &mut Vec<T>, most: usize, what: &str, notes: &mut Vec<String>) {
    let more = items.len().saturating_sub(most);
    if more > 0 {
        notes.push(format!("{more} more {what} are not shown"));
        items.truncate(most);
    }
}

impl ContainerStatus {
    /// A container without running instances.
    pub fn new(name: impl Into<String>, image: Option<String>) -> Self {
        ContainerStatus { name: name.into(), image, running: Vec::new() }
    }
}

impl DeploymentStatus {
    /// A deployment that is not in progress.
    pub fn new(id: impl Into<String>) -> Self {
        DeploymentStatus {
            id: id.into(),
            revision: None,
            state: String::new(),
            in_progress: false,
            reasons: Vec::new(),
            strategy: None,
            progress: None,
            hooks: Vec::new(),
            started_at: None,
            ended_at: None,
        }
    }
}

impl HookStatus {
    /// A hook that does not await an approval.
    pub fn new(id: impl Into<String>) -> Self {
        HookStatus {
            id: id.into(),
            state: String::new(),
            awaits_approval: false,
            expires_at: None,
            timeout_action: None,
        }
    }
}

impl UnitFailure {
    /// A failed task or pod.
    pub fn new(unit: impl Into<String>, at: Option<Timestamp>, failure: FailureReport) -> Self {
        UnitFailure { unit: unit.into(), at, failure }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}, {}", self.target, self.state, self.progress)?;
        if let Some(revision) = &self.revision {
            write!(f, ", revision {}", revision.short_id())?;
        }
        self.containers.iter().try_for_each(|container| container.fmt(f))?;
        self.deployments.iter().try_for_each(|deployment| deployment.fmt(f))?;
        self.starting.iter().try_for_each(|unit| evidence(f, "starting", unit))?;
        self.failures.iter().try_for_each(|failed| failed.fmt(f))?;
        self.events.iter().try_for_each(|event| evidence(f, "event", event))?;
        self.notes.iter().try_for_each(|note| write!(f, "\n  note: {}", text::single_line(note)))
    }
}

impl fmt::Display for ContainerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let image = self.image.as_deref().unwrap_or("not in the revision");
        write!(f, "\n  container {}: {image}", self.name)?;
        for RunningDigest { revision, digest, count } in &self.running {
            let digest = digest.as_ref().map_or("a digest that is not reported", Digest::as_str);
            write!(f, "\n    {count} running {digest} (revision {revision})")?;
        }
        Ok(())
    }
}

impl fmt::Display for DeploymentStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n  deployment {}: {}", self.id, self.state)?;
        if let Some(revision) = &self.revision {
            write!(f, ", revision {revision}")?;
        }
        if let Some(progress) = &self.progress {
            write!(f, ", {progress}")?;
        }
        if let Some(strategy) = &self.strategy {
            write!(f, ", strategy {strategy}")?;
        }
        for (word, at) in [("started", self.started_at), ("ended", self.ended_at)] {
            at.map_or(Ok(()), |at| write!(f, ", {word} {}", seconds(at)))?;
        }
        for reason in &self.reasons {
            write!(f, "\n    {}", text::single_line(reason))?;
        }
        for hook in &self.hooks {
            write!(f, "\n    hook {}: {}", hook.id, hook.state)?;
            if let Some(at) = hook.expires_at {
                let action = hook.timeout_action.as_deref().unwrap_or("unknown");
                write!(f, ", timeout action {action} at {}", seconds(at))?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for UnitFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.map_or_else(String::new, |at| format!(" {}", seconds(at)));
        let failure = text::single_line(&self.failure.to_string());
        write!(f, "\n  failed{at} {}: {failure}", self.unit)?;
        if let Some(command) = &self.failure.inspect {
            write!(f, "\n    inspect: {}", text::single_line(command))?;
        }
        write!(f, "\n    what to do: {}", self.failure.advice())
    }
}

fn evidence(f: &mut fmt::Formatter<'_>, what: &str, evidence: &Evidence) -> fmt::Result {
    let at = evidence.at.map_or_else(String::new, |at| format!(" {}", seconds(at)));
    write!(f, "\n  {what}{at} {}: {}", evidence.source, text::single_line(&evidence.message))
}

/// The time without fractions of a second.
fn seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::{Cause, EvidenceKind};

    #[test]
    fn shows_one_entry_in_which_external_text_cannot_start_a_line() {
        let at = Timestamp::from_second(0).ok();
        let mut status = Status::new(TargetId::new("ecs/shop/web"));
        status.state = "ACTIVE".into();
        status.progress = Progress { desired: 2, running: 1, pending: 1, ..Progress::default() };
        status.revision = Some(Revision::new("arn:aws:ecs:eu-central-1:1:task-definition/web:2", "x"));
        status.containers.push(ContainerStatus::new("web", Some("r.example.com/web:1".into())));
        let digest = Digest::sha256("x");
        for revision in ["web:1", "web:2", "web:2"] {
            status.count("web", revision, Some(digest.clone()));
        }
        status.count("agent", "web:2", None);
        let mut deployment = DeploymentStatus::new("ecs-svc/2");
        (deployment.state, deployment.in_progress) = ("IN_PROGRESS".into(), true);
        deployment.reasons.push("first\nerror: second".into());
        let mut hook = HookStatus::new("pause");
        (hook.state, hook.awaits_approval, hook.expires_at) = ("AWAITING_ACTION".into(), true, at);
        hook.timeout_action = Some("ROLLBACK".into());
        deployment.hooks.push(hook);
        status.deployments.push(deployment);
        let failure =
            FailureReport::new(Cause::OutOfMemory, "killed").inspect_with(["kubectl", "get", "pod"]);
        status.failures.push(UnitFailure::new("task 1", at, failure));
        status.events.push(Evidence::new(EvidenceKind::Event, "steady\nstate").source("service web").at(at));
        status.notes.push("no permission".into());
        let text = status.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..9],
            [
                "ecs/shop/web: ACTIVE, 1/2 running, 1 starting, revision web:2",
                "  container web: r.example.com/web:1",
                &format!("    1 running {digest} (revision web:1)"),
                &format!("    2 running {digest} (revision web:2)"),
                "  container agent: not in the revision",
                "    1 running a digest that is not reported (revision web:2)",
                "  deployment ecs-svc/2: IN_PROGRESS",
                "    first error: second",
                "    hook pause: AWAITING_ACTION, timeout action ROLLBACK at 1970-01-01T00:00:00Z",
            ],
            "{text}"
        );
        assert!(lines[1..].iter().all(|line| line.starts_with("  ")), "{text}");
        assert!(text.contains("\n    inspect: kubectl get pod\n    what to do: "), "{text}");
        assert!(status.is_in_progress() && status.awaits_approval());
    }
}
