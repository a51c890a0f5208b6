//! What is shown of the events of deployments and of copies: lines, and progress in place.

use std::collections::BTreeMap;

use bp_artifact::{
    Outcome,
    deploy::{DeployEvent, GateState, Progress, Revision, TargetId},
    saga::SagaEvent,
};
use tokio::time::Instant;

use super::{
    action::{Action, Detail, duration, tone},
    copies::Copies,
    names::{Names, abbreviated},
};
use crate::look::{Bar, Tone};

/// What is remembered of the events so far.
#[derive(Debug, Default)]
pub(super) struct Board {
    names: Names,
    targets: BTreeMap<TargetId, Seen>,
    pub(super) copies: Copies,
}

/// What is remembered of a deployment to one target.
#[derive(Debug)]
struct Seen {
    since: Instant,
    previous: Option<Revision>,
    applied: Option<Revision>,
    progress: Option<Progress>,
    notice: Option<String>,
    /// The planned changes, each on a line.
    changes: Vec<String>,
    /// Whether the target is being rolled back with others.
    is_restored: bool,
}

impl Default for Seen {
    fn default() -> Self {
        Seen {
            since: Instant::now(),
            previous: None,
            applied: None,
            progress: None,
            notice: None,
            changes: Vec::new(),
            is_restored: false,
        }
    }
}

impl Board {
    /// Forgets the names of earlier steps: another environment may have the same short ones.
    pub(super) fn start_step(&mut self) {
        self.names = Names::default();
    }

    /// The short name of a target.
    pub(super) fn name(&mut self, target: &TargetId) -> String {
        self.names.of(target)
    }

    /// An event of a deployment to one target.
    pub(super) fn deploy(&mut self, event: &DeployEvent, detail: Detail) -> Vec<Action> {
        let target = event.target();
        let name = self.names.of(target);
        let seen = self.targets.entry(target.clone()).or_default();
        let text = || {
            let shown = |line: &String| {
                // A command is copied.
                let is_command = line.trim_start().starts_with("inspect:");
                if is_command { line.clone() } else { abbreviated(line) }
            };
            let mut lines: Vec<String> = event.lines().iter().map(shown).collect();
            if detail == Detail::Tour {
                // The first evidence is the most relevant.
                lines.retain(|line| !line.starts_with("     "));
            }
            lines.join("\n")
        };
        let counts = seen.progress.clone().unwrap_or_default();
        let in_place = |message: String, counts: &Progress, logged: bool| {
            let (position, length) = (u64::from(counts.running), u64::from(counts.desired));
            let bar = Bar { name: name.clone(), position, length, message };
            Action::Bar { key: target.as_str().to_owned(), bar, logged }
        };
        match event {
            DeployEvent::Planned { image, current, changes, .. } => {
                seen.previous.clone_from(current);
                let is_unusual = image.is_none() || !*changes;
                let mut actions = vec![in_place(text(), &counts, false)];
                if is_unusual && detail == Detail::Log {
                    actions.push(Action::line(Tone::Plain, &name, &text()));
                }
                actions
            }
            DeployEvent::Applied { revision, .. } => {
                seen.applied = Some(revision.clone());
                let mut actions = vec![in_place(text(), &counts, false)];
                match detail {
                    Detail::Log => actions.push(Action::line(Tone::Plain, &name, &text())),
                    Detail::Terminal if !seen.changes.is_empty() => {
                        actions.push(Action::line(Tone::Plain, &name, &changes(&seen.changes)));
                    }
                    Detail::Terminal | Detail::Tour => {}
                }
                actions
            }
            DeployEvent::Progress { progress, .. } => {
                seen.progress = Some(progress.clone());
                vec![in_place(text(), progress, true)]
            }
            DeployEvent::Notice { message, .. } => {
                let is_repeated = seen.notice.replace(message.clone()).as_ref() == Some(message);
                match detail {
                    _ if is_repeated => Vec::new(),
                    Detail::Log => vec![Action::line(Tone::Plain, &name, &text())],
                    Detail::Terminal | Detail::Tour if is_change(message) => {
                        seen.changes.push(message.clone());
                        Vec::new()
                    }
                    Detail::Terminal if !is_routine(message) => {
                        vec![Action::line(Tone::Plain, &name, &text())]
                    }
                    Detail::Terminal | Detail::Tour => vec![in_place(text(), &counts, false)],
                }
            }
            DeployEvent::Log { .. } => {
                event.lines().iter().map(|line| Action::line(Tone::Plain, &name, line)).collect()
            }
            DeployEvent::Failing { .. } => {
                let state =
                    seen.state().map_or_else(String::new, |state| format!("\n    state:      {state}"));
                vec![Action::line(Tone::Bad, &name, &format!("{}{state}", text()))]
            }
            DeployEvent::RollingBack { .. } => {
                vec![in_place(text(), &counts, false), Action::line(Tone::Warning, &name, &text())]
            }
            DeployEvent::Finished { outcome } => {
                let (tone, text) = seen.finished(outcome);
                self.targets.remove(target);
                vec![Action::Gone(target.as_str().to_owned()), Action::line(tone, &name, &text)]
            }
            _ => vec![Action::line(Tone::Plain, &name, &text())],
        }
    }

    /// An event of a deployment to several targets.
    pub(super) fn saga(&mut self, event: &SagaEvent, detail: Detail) -> Vec<Action> {
        match event {
            SagaEvent::Target(event) => self.deploy(event, detail),
            SagaEvent::Noted { resumed: false, .. } if detail == Detail::Tour => Vec::new(),
            SagaEvent::Noted { previous, resumed: false, .. } => {
                let revision = |(target, revision): &(TargetId, Revision)| {
                    format!("{} {}", self.names.of(target), revision.short_id())
                };
                let revisions: Vec<String> = previous.iter().map(revision).collect();
                vec![Action::Line(Tone::Plain, format!("{event}: {}", revisions.join(", ")))]
            }
            SagaEvent::Checking { gate, check } if detail != Detail::Log => {
                let bar = Bar {
                    name: format!("gate {gate}"),
                    position: 0,
                    length: 0,
                    message: format!("checking {check}"),
                };
                vec![Action::Bar { key: format!("gate {gate}"), bar, logged: false }]
            }
            SagaEvent::Gate(gate) => {
                let tone = match gate.state {
                    GateState::Approved | GateState::Passed => Tone::Good,
                    GateState::Rejected | GateState::Failed => Tone::Bad,
                    GateState::AwaitingApproval | GateState::Unobserved => Tone::Warning,
                };
                vec![Action::Gone(format!("gate {}", gate.gate)), Action::Line(tone, gate.to_string())]
            }
            SagaEvent::Compensating { failed, targets } => {
                for target in targets {
                    self.targets.entry(target.clone()).or_default().is_restored = true;
                }
                let text = match failed {
                    Some(target) => format!("{}: failed, rolling back every target", self.names.of(target)),
                    None => event.to_string(),
                };
                vec![Action::Line(Tone::Warning, text)]
            }
            SagaEvent::NotNoted { .. } => vec![Action::Line(Tone::Warning, event.to_string())],
            SagaEvent::Ended { .. } => Vec::new(),
            _ => vec![Action::Line(Tone::Plain, event.to_string())],
        }
    }
}

/// Whether a notice is a planned change.
fn is_change(message: &str) -> bool {
    ["~ ", "+ ", "- ", "= "].iter().any(|sign| message.starts_with(sign))
}

/// Whether a notice only repeats what the counts and the result show.
fn is_routine(message: &str) -> bool {
    let is_checked = message.starts_with("rollback revision ") && message.ends_with(": ok");
    let starts = ["(service ", "deployment configuration of the service: ", "successful; watching "];
    is_checked || starts.iter().any(|start| message.starts_with(start))
}

/// The planned changes on one line. The result shows the image.
fn changes(changes: &[String]) -> String {
    /// How many are listed.
    const LISTED: usize = 3;
    let listed: Vec<String> = changes.iter().take(LISTED).map(|change| abbreviated(change)).collect();
    let more = changes.len().saturating_sub(LISTED);
    let more =
        if more > 0 { format!(" and {more} more changes (--check lists them)") } else { String::new() };
    format!("{}{more}", listed.join(", "))
}

impl Seen {
    /// What runs while the deployment is failing.
    fn state(&self) -> Option<String> {
        let applied = self.applied.as_ref()?.short_id();
        let before = self.previous.as_ref().map(Revision::short_id).filter(|before| *before != applied);
        let Some(Progress { desired, running, old, .. }) = &self.progress else {
            return Some(before.map_or_else(
                || format!("{applied} is deployed"),
                |before| format!("{applied} is deployed; before: {before}"),
            ));
        };
        let before = before.map_or_else(String::new, |before| format!("; {before}: {old} running"));
        Some(format!("{applied}: {running} of {desired} running{before}"))
    }

    /// How a deployment ended, with its duration.
    fn finished(&self, outcome: &Outcome) -> (Tone, String) {
        let is_success = outcome.verdict().is_success();
        let summary = if self.is_restored && is_success { "rolled back".into() } else { outcome.summary() };
        let now = outcome.revision.as_ref().map(Revision::short_id);
        let before = outcome.previous.as_ref().map(Revision::short_id);
        let revision = match (before, now) {
            (Some(before), Some(now)) if before != now && outcome.changed => format!(" ({before} -> {now})"),
            (_, Some(now)) if is_success && !outcome.changed => format!(" ({now}, unchanged)"),
            (_, Some(now)) => format!(" ({now})"),
            (_, None) => String::new(),
        };
        let proof = match &outcome.image {
            Some(image) if is_success && !outcome.proof.is_empty() => {
                format!(", {} running {}", outcome.proof.observations.len(), image.digest().abbreviated())
            }
            _ => String::new(),
        };
        (tone(outcome.verdict()), format!("{summary}{revision}{proof}, {}", duration(self.since.elapsed())))
    }
}
