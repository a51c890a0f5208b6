//! Human-readable deployment events, one log entry each.

use std::fmt;

use super::{DeployEvent, EvidenceKind, FailureReport, Outcome, Progress, Revision, ScheduledTask};
use crate::text;

/// One log entry: a first line, and indented lines of evidence. External text in it is not sanitized for a terminal:
/// print it through [`text`](crate::text).
impl fmt::Display for DeployEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.target();
        for (number, line) in self.lines().into_iter().enumerate() {
            // A line that is not indented is an entry of its own.
            match (number, line.starts_with(' ')) {
                (0, _) => write!(f, "{target}: {line}")?,
                (_, false) => write!(f, "\n{target}: {line}")?,
                (_, true) => write!(f, "\n{line}")?,
            }
        }
        Ok(())
    }
}

impl DeployEvent {
    /// The lines of its log entry, without the target.
    pub fn lines(&self) -> Vec<String> {
        let line = match self {
            DeployEvent::Planned { image, current, changes, .. } => {
                let now = current.as_ref().map_or("nothing", Revision::short_id);
                match image {
                    Some(image) if *changes => format!("{now} -> {}", image.digest().abbreviated()),
                    Some(image) => format!("{now} already runs {}", image.digest().abbreviated()),
                    None => format!("restoring an earlier revision (current: {now})"),
                }
            }
            DeployEvent::Applied { revision, deployment, adopted, .. } => {
                let what = if *adopted { "following" } else { "started" };
                format!("{what} {deployment} ({})", revision.short_id())
            }
            DeployEvent::Progress { progress, .. } => progress.to_string(),
            DeployEvent::Notice { message, .. } => message.clone(),
            DeployEvent::Log { source, line, left_out, .. } => {
                let omitted = (*left_out > 0).then(|| format!("{source}: ({left_out} lines omitted)"));
                return omitted.into_iter().chain([format!("{source}: {line}")]).collect();
            }
            DeployEvent::Failing { failure, .. } => return failing(failure),
            DeployEvent::RollingBack { to, .. } => {
                let to = to.as_ref().map_or("the previous revision", Revision::short_id);
                format!("rolling back to {to}")
            }
            DeployEvent::Finished { outcome } => {
                let revision = outcome.revision.as_ref();
                let revision = revision.map_or_else(String::new, |now| format!(" ({})", now.short_id()));
                format!("{}{revision}", outcome.summary())
            }
        };
        vec![line]
    }
}

/// A failure in aligned lines: the cause, the evidence and what to do.
fn failing(failure: &FailureReport) -> Vec<String> {
    let FailureReport { cause, container, exit_code, message, inspect, .. } = failure;
    let exit_code = exit_code.map_or_else(String::new, |code| format!(", exit code {code}"));
    let container =
        container.as_ref().map_or_else(String::new, |name| format!(" (container {name}{exit_code})"));
    let mut lines = vec![format!("FAILING: {cause}{container}")];
    let mut add =
        |label: &str, text: &str| lines.push(format!("    {label:<11} {}", text::single_line(text)));
    add("cause:", message);
    let mut label = "evidence:";
    for evidence in &failure.evidence {
        // Log lines are usually preceded by their own time.
        let at = evidence.at.filter(|_| evidence.kind != EvidenceKind::Log);
        let at = at.map(|at| format!(" at {at:.0}")).unwrap_or_default();
        for line in text::printable(&evidence.message).lines() {
            add(label, &format!("{}{at}: {line}", evidence.source));
            label = "";
        }
    }
    if let Some(command) = inspect {
        add("inspect:", command);
    }
    add("what to do:", &failure.advice());
    lines
}

impl Outcome {
    /// How it ended: the verdict, or for a one-off task that ended its exit code.
    pub fn summary(&self) -> String {
        match self.exit_code {
            Some(code) if self.verdict.is_success() => format!("exit code {code}"),
            Some(code) => format!("exit code {code}, {}", self.verdict),
            None => self.verdict.to_string(),
        }
    }
}

impl Revision {
    /// The id without the account and region of an ARN: `web:41`.
    pub fn short_id(&self) -> &str {
        self.id.rsplit('/').next().unwrap_or(&self.id)
    }
}

impl ScheduledTask {
    /// The definition without the account and region of an ARN: `web:41`.
    pub fn short_definition(&self) -> &str {
        self.definition.rsplit('/').next().unwrap_or(&self.definition)
    }
}

/// The counts: `1/2 running, 1 starting (deploying)`.
impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Progress { desired, running, pending, failed, old, stage } = self;
        write!(f, "{running}/{desired} running")?;
        for (count, word) in [(pending, "starting"), (failed, "failed"), (old, "old still running")] {
            if *count > 0 {
                write!(f, ", {count} {word}")?;
            }
        }
        if stage.is_empty() { Ok(()) } else { write!(f, " ({stage})") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        deploy::{Cause, Evidence, TargetId, Verdict},
        digest::Digest,
        reference::DigestRef,
    };

    fn id() -> TargetId {
        TargetId::new("ecs/shop/web")
    }

    fn revision(id: &str) -> Revision {
        Revision::new(id, "web:1")
    }

    #[test]
    fn shows_a_failure_as_one_entry_with_evidence_and_advice() {
        let evidence = |message: &str| Evidence {
            kind: EvidenceKind::Log,
            source: "web".into(),
            message: message.into(),
            at: None,
        };
        let mut failure = FailureReport::new(Cause::ContainerExited, "exit code 1");
        failure.evidence = vec![evidence("a\nb"), evidence("")];
        let event = DeployEvent::Failing { target: id(), failure };
        let lines = event.to_string();
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!(
            lines[..4],
            [
                "ecs/shop/web: FAILING: a container exited",
                "    cause:      exit code 1",
                "    evidence:   web: a",
                "                web: b"
            ]
        );
        assert!(lines[4].starts_with("    what to do: ") && lines.len() == 5, "{lines:?}");
    }

    #[test]
    fn shows_when_evidence_happened() {
        let event = Evidence::new(EvidenceKind::Event, "is unhealthy").source("service web");
        let at: jiff::Timestamp = "2026-08-10T12:26:07.363Z".parse().unwrap();
        let mut failure = FailureReport::new(Cause::LoadBalancerUnhealthy, "is unhealthy");
        failure.evidence = vec![event.at(at)];
        let shown = DeployEvent::Failing { target: id(), failure }.to_string();
        assert!(
            shown.contains("\n    evidence:   service web at 2026-08-10T12:26:07Z: is unhealthy"),
            "{shown}"
        );
    }

    #[test]
    fn shows_each_event_as_one_entry() {
        let image: DigestRef = format!("r.example.com/web@{}", Digest::sha256("x")).parse().unwrap();
        let short = image.digest().abbreviated();
        let current = Some(revision("arn:aws:ecs:eu-central-1:1:task-definition/web:41"));
        let planned = |image, changes| {
            DeployEvent::Planned { target: id(), image, current: current.clone(), changes }.to_string()
        };
        assert_eq!(planned(Some(image.clone()), true), format!("ecs/shop/web: web:41 -> {short}"));
        assert_eq!(planned(Some(image), false), format!("ecs/shop/web: web:41 already runs {short}"));
        assert_eq!(planned(None, true), "ecs/shop/web: restoring an earlier revision (current: web:41)");

        let progress =
            Progress { desired: 2, running: 1, old: 2, stage: "ramp".into(), ..Progress::default() };
        let event = DeployEvent::Progress { target: id(), progress };
        assert_eq!(event.to_string(), "ecs/shop/web: 1/2 running, 2 old still running (ramp)");

        let outcome = Outcome {
            verdict: Verdict::Deployed,
            revision: Some(revision("web:42")),
            ..Outcome::unproven(id())
        };
        let finished = |outcome: &Outcome| {
            let outcome = Box::new(outcome.clone());
            DeployEvent::Finished { outcome }.to_string()
        };
        assert_eq!(finished(&outcome), "ecs/shop/web: deployed (web:42)");
        let task = |verdict, code| Outcome { verdict, exit_code: Some(code), ..outcome.clone() };
        assert_eq!(finished(&task(Verdict::Deployed, 0)), "ecs/shop/web: exit code 0 (web:42)");
        let failed = finished(&task(Verdict::FailedInPlace, 3));
        assert_eq!(failed, "ecs/shop/web: exit code 3, failed and not rolled back (web:42)");
    }
}
