//! Results: what a command has done, readable without the progress before it, with complete names.

use std::{collections::BTreeSet, fmt::Write as _};

use bp_artifact::{
    DigestRef, ExitCode, Outcome, Verdict,
    deploy::{FailureReport, Receipt, Revision, TargetReceipt, preflight::Preflight},
};
use bp_eks::traffic::{SlotState, Traffic};
use bp_promote::copy::RunPlan;
use serde_json::json;

use super::{Started, Ui, action::tone};
use crate::look::Tone;

impl Ui {
    /// Prints a deployment that was started and is not followed.
    pub fn started(&self, started: &Started) -> ExitCode {
        let Started { target, revision, deployment, adopted } = started;
        let what = if *adopted { "was already in progress" } else { "started" };
        self.result(
            format!(
                "{target}: {deployment} ({}) {what} and is not watched: its end is unknown and no digest is proven; \
                 follow it with the command `wait`",
                revision.short_id()
            ),
            started,
        );
        ExitCode::Done
    }

    /// Prints the outcome of one target, and returns its exit code.
    pub fn ended(&self, outcome: Outcome) -> ExitCode {
        let detail = if outcome.detail.is_empty() { String::new() } else { format!(" ({})", outcome.detail) };
        let mut text = format!("{}: {}{detail}", outcome.target, outcome.summary());
        if let Some(image) = &outcome.image {
            add(&mut text, 1, "image", image);
        }
        describe(&mut text, 1, &outcome);
        self.conclude(tone(outcome.verdict()), [text], &outcome);
        outcome.verdict().into()
    }

    /// Prints the preflight report, and returns the exit code: whether a deployment would fail.
    pub fn checked(&self, found: &Preflight) -> ExitCode {
        let tone = if found.is_ready() { Tone::Good } else { Tone::Bad };
        self.conclude(tone, [found], &json!({ "ready": found.is_ready(), "preflight": found }));
        found.into()
    }

    /// Prints the plan of a copy, and returns the exit code: whether the copy would fail.
    pub fn planned(&self, plan: &RunPlan) -> ExitCode {
        self.results(plan.to_string().lines(), plan);
        let fails = plan.findings.iter().any(|finding| finding.state.is_fatal());
        if fails { ExitCode::Refused } else { ExitCode::Done }
    }

    /// Prints which slot receives the traffic of a Service.
    pub fn traffic(&self, traffic: &Traffic) -> ExitCode {
        let line = |role: &str, state: &SlotState| {
            let SlotState { slot, image, replicas, available, .. } = state;
            let image = image.as_deref().unwrap_or("no Deployment");
            format!("{role}: {} ({}): {available}/{replicas} available, {image}", slot.name, slot.deployment)
        };
        self.results([line("live", &traffic.live), line("idle", &traffic.idle)], traffic);
        ExitCode::Done
    }

    /// Prints the outcome of a deployment to several targets.
    pub fn receipt(&self, receipt: &Receipt) {
        match receipt.verdict {
            Some(verdict) => self.targets(receipt, tone(verdict), &verdict.to_string()),
            None => self.targets(receipt, Tone::Bad, "nothing was changed"),
        }
    }

    /// Prints the outcome of a rollback of several targets.
    pub fn rollback(&self, receipt: &Receipt) {
        match receipt.rollback_verdict() {
            Verdict::Deployed => self.targets(receipt, Tone::Good, "rolled back to the previous revisions"),
            verdict => self.targets(receipt, tone(verdict), &verdict.to_string()),
        }
    }

    fn targets(&self, receipt: &Receipt, tone: Tone, verdict: &str) {
        let mut text = verdict.to_owned();
        let others = receipt.targets.iter().filter_map(|target| target.image.as_ref());
        let images: BTreeSet<&DigestRef> =
            others.chain([&receipt.image]).map(|image| &image.reference).collect();
        for image in images {
            add(&mut text, 1, "image", image);
        }
        for target in &receipt.targets {
            describe_target(&mut text, target);
        }
        for gate in receipt.gates.iter().filter(|gate| !gate.state.is_open()) {
            let _ = write!(text, "\n  {gate}");
        }
        self.conclude(tone, [text], receipt);
    }
}

/// Adds a line with a label.
fn add(text: &mut String, depth: usize, label: &str, value: impl std::fmt::Display) {
    let label = format!("{label}:");
    let _ = write!(text, "\n{:1$}{label:<11} {value}", "", 2 * depth);
}

/// Adds what happened at a target of a receipt.
fn describe_target(text: &mut String, target: &TargetReceipt) {
    let TargetReceipt { target: id, outcome, restored, error, .. } = target;
    let _ = match (outcome, restored) {
        (Some(outcome), Some(restored)) if restored.verdict().is_success() && outcome.failure.is_some() => {
            write!(text, "\n  {id}: failed and rolled back")
        }
        (_, Some(restored)) if restored.verdict().is_success() => write!(text, "\n  {id}: rolled back"),
        (_, Some(restored)) => write!(text, "\n  {id}: rollback: {}", restored.summary()),
        (Some(outcome), None) => write!(text, "\n  {id}: {}", outcome.summary()),
        (None, None) => write!(text, "\n  {id}: not started"),
    };
    if let Some(now) = restored.as_ref().or(outcome.as_ref()) {
        if let Some(revision) = &now.revision {
            let _ = write!(text, " ({})", revision.short_id());
        }
        if !now.verdict().is_success() && !now.detail.is_empty() {
            let _ = write!(text, " ({})", now.detail);
        }
    }
    if let Some(error) = error {
        add(text, 2, "error", error);
    }
    match (outcome, restored) {
        // Why it failed is in the outcome, what is left behind in that of the rollback.
        (Some(outcome), Some(restored)) => {
            cause(text, 2, outcome.failure.as_ref());
            match &restored.revision {
                Some(now) if restored.verdict().is_success() && outcome.failure.is_some() => {
                    add(text, 2, "state", format!("{} runs again", now.short_id()));
                }
                _ => describe(text, 2, restored),
            }
        }
        (Some(only), None) | (None, Some(only)) => describe(text, 2, only),
        (None, None) => {}
    }
}

/// Adds why a deployment has failed, and the state that is left behind.
fn describe(text: &mut String, depth: usize, outcome: &Outcome) {
    cause(text, depth, outcome.failure.as_ref());
    if let Some(state) = left_behind(outcome) {
        add(text, depth, "state", state);
    }
}

fn cause(text: &mut String, depth: usize, failure: Option<&FailureReport>) {
    if let Some(failure) = failure {
        add(text, depth, "cause", failure);
        add(text, depth, "what to do", failure.advice());
    }
}

/// What is left behind by a deployment that did not succeed.
fn left_behind(outcome: &Outcome) -> Option<String> {
    let name = |revision: &Option<Revision>, unknown: &str| {
        revision.as_ref().map_or_else(|| unknown.to_owned(), |revision| revision.short_id().to_owned())
    };
    let now = name(&outcome.revision, "the new revision");
    let before = name(&outcome.previous, "the previous revision");
    match outcome.verdict() {
        Verdict::Deployed | Verdict::AwaitingApproval => None,
        Verdict::Unproven => Some(format!("{now} is in place, no running digest proves it")),
        Verdict::DigestMismatch => {
            Some(format!("{now} is in place, and another digest than the image's runs"))
        }
        Verdict::RolledBack => Some(format!("{now} runs again")),
        Verdict::RollbackFailed => {
            Some(format!("{before} does not run again: correct the cause, then run rollback"))
        }
        Verdict::FailedInPlace if !outcome.changed => Some("nothing was changed".to_owned()),
        Verdict::FailedInPlace => Some(format!("{now} is in place and fails; rollback restores {before}")),
        Verdict::Stopped | Verdict::Superseded => Some(format!("{now} is in place, set by another party")),
        Verdict::Gone => Some("the target does not exist".to_owned()),
        Verdict::DeadlineExceeded | Verdict::Unobserved => {
            Some("the platform continues; the same command follows it".to_owned())
        }
    }
}
