//! What a person or a program sees of the events: bars, lines or JSON lines, all from the same stream.

use std::{
    collections::HashMap,
    fmt::Display,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bp_artifact::{
    DeployEvent, Digest, Event, ExitCode, FailureReport, Operation, Outcome, Progress, Receipt, Revision,
    SagaEvent, TargetReceipt, text,
};
use bp_eks::{SlotState, Traffic};
use bp_promote::copy::{Carried, CopyEvent};
use futures_util::FutureExt as _;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::Value;

use crate::{
    cli::Output,
    printer::{Printer, Stream, for_bar},
};

/// Shows events. Cheap to clone; all clones draw to the same place.
#[derive(Clone)]
pub struct Ui(Arc<Inner>);

struct Inner {
    json: bool,
    printer: Printer,
    /// Whether bars are drawn; if not, progress is printed as lines when it changes.
    draws: bool,
    open: Mutex<HashMap<String, ProgressBar>>,
}

impl Ui {
    /// Bars when standard error is a terminal and nobody asked for something else.
    pub fn new(output: Output) -> Self {
        let terminal = Printer::has_terminal() && std::env::var_os("CI").is_none();
        let draws = output == Output::Auto && terminal;
        let json = output == Output::Json;
        Ui(Arc::new(Inner { json, printer: Printer::new(draws), draws, open: Mutex::default() }))
    }

    pub(crate) fn printer(&self) -> &Printer {
        &self.0.printer
    }

    /// An entry for people, on standard error. Its first line begins at column 1, further ones are indented.
    pub fn say(&self, entry: impl Display) {
        if !self.0.json {
            self.0.printer.entry(Stream::Err, &entry.to_string());
        }
    }

    /// The result, on standard output: as `entry` for people and shells, as `value` for programs.
    pub fn result(&self, entry: impl Display, value: &impl Serialize) {
        self.results([entry], value);
    }

    /// A result of several entries, each of which begins at column 1.
    pub fn results(&self, entries: impl IntoIterator<Item = impl Display>, value: &impl Serialize) {
        if self.0.json {
            self.json("result", value);
        } else {
            for entry in entries {
                self.0.printer.entry(Stream::Out, &entry.to_string());
            }
        }
    }

    /// A result that is a JSON document for people and programs alike.
    pub fn document(&self, value: &Value) {
        if self.0.json {
            self.json("result", value);
        } else {
            self.0.printer.json(Stream::Out, &format!("{value:#}"));
        }
    }

    /// The last line before a failing end.
    pub fn error(&self, line: &str) {
        if self.0.json {
            self.json("error", &line);
        }
        self.0.printer.entry(Stream::Err, &format!("error: {}", text::single_line(line)));
    }

    /// Takes all bars down.
    pub fn close(&self) {
        for (_, bar) in self.0.open.lock().unwrap_or_else(PoisonError::into_inner).drain() {
            bar.finish_and_clear();
        }
    }

    fn json(&self, kind: &str, value: &impl Serialize) {
        self.0.printer.value(&Line { kind, data: value });
    }

    /// Shows the events of an operation to its end and gives its report.
    pub async fn follow<E: Show, R: Send + 'static>(&self, work: Operation<E, R>) -> R {
        self.follow_until(work, std::future::pending()).await
    }

    /// The same; when `stop` completes, the operation is asked to stop, and its report says how far it came.
    pub async fn follow_until<E: Show, R: Send + 'static>(
        &self,
        mut work: Operation<E, R>,
        stop: impl Future<Output = ()>,
    ) -> R {
        let mut stop = pin!(stop.fuse());
        loop {
            let event = tokio::select! {
                event = work.next_event() => event,
                () = &mut stop => {
                    work.cancel();
                    continue;
                }
            };
            match (event, self.0.json) {
                (Some(event), true) => self.json("event", &event),
                (Some(event), false) => event.show(self),
                (None, _) => break,
            }
        }
        self.close();
        work.await
    }

    /// The end of work on one target, and the exit code that says so.
    pub fn ended(&self, outcome: Outcome) -> ExitCode {
        let detail = if outcome.detail.is_empty() { String::new() } else { format!(" ({})", outcome.detail) };
        self.result(format!("{}: {}{detail}", outcome.target, outcome.verdict), &outcome);
        outcome.verdict.into()
    }

    /// Who has the traffic of a Service.
    pub fn traffic(&self, traffic: &Traffic) -> ExitCode {
        let line = |word: &str, state: &SlotState| {
            let SlotState { slot, image, replicas, available, .. } = state;
            let image = image.as_deref().unwrap_or("no Deployment");
            format!("{word}: {} ({}): {available}/{replicas} available, {image}", slot.name, slot.deployment)
        };
        self.results([line("live", &traffic.live), line("idle", &traffic.idle)], traffic);
        ExitCode::Done
    }

    /// The end of a deployment to several targets.
    pub fn receipt(&self, receipt: &Receipt) {
        for target in &receipt.targets {
            if let Some(error) = &target.error {
                self.say(format!("{}: {error}", target.target));
            }
        }
        let verdict = receipt.verdict.map_or_else(|| "nothing was changed".to_owned(), |v| v.to_string());
        let targets: String = receipt.targets.iter().filter_map(not_done).collect();
        self.result(format!("{}: {verdict}{targets}", receipt.image.reference), receipt);
    }

    fn deploy(&self, event: &DeployEvent) {
        let target = event.target();
        match event {
            DeployEvent::Planned { image, current, changes, .. } => {
                let now = current.as_ref().map_or("nothing", name);
                match (image, changes) {
                    (Some(image), true) => self.say(format!("{target}: {now} -> {}", short(image.digest()))),
                    (Some(image), false) => {
                        self.say(format!("{target}: {now} runs {} already", short(image.digest())))
                    }
                    (None, _) => self.say(format!("{target}: back to {now}")),
                }
            }
            DeployEvent::Applied { revision, deployment, adopted, .. } => {
                let what = if *adopted { "follows" } else { "started" };
                self.say(format!("{target}: {what} {deployment} ({})", name(revision)));
            }
            DeployEvent::Progress { progress, .. } => self.progress(target.as_str(), progress),
            DeployEvent::Notice { message, .. } => self.say(format!("{target}: {message}")),
            DeployEvent::Log { source, line, left_out, .. } => {
                if *left_out > 0 {
                    self.say(format!("{target}: {source}: ({left_out} lines left out)"));
                }
                self.say(format!("{target}: {source}: {line}"));
            }
            DeployEvent::Failing { failure, .. } => self.failure(target, failure),
            DeployEvent::RollingBack { to, .. } => {
                let to = to.as_ref().map_or("the previous revision", name);
                self.say(format!("{target}: going back to {to}"));
            }
            DeployEvent::Finished { outcome } => self.finished(outcome),
            _ => {}
        }
    }

    fn progress(&self, target: &str, progress: &Progress) {
        let Progress { desired, running, pending, failed, old, stage } = progress;
        let mut text = format!("{running}/{desired} running");
        for (count, word) in [(pending, "starting"), (failed, "failed"), (old, "old")] {
            if *count > 0 {
                text.push_str(&format!(", {count} {word}"));
            }
        }
        if !stage.is_empty() {
            text.push_str(&format!(" ({stage})"));
        }
        if !self.0.draws {
            return self.say(format!("{target}: {text}"));
        }
        let bar = self.bar(target, u64::from(*desired));
        bar.set_length(u64::from(*desired));
        bar.set_position(u64::from(*running));
        bar.set_message(for_bar(&text));
    }

    /// How far a copy is. Lines of a log would say nothing that the blobs' own lines do not.
    fn bytes(&self, sent: u64, total: u64) {
        if self.0.draws {
            let bar = self.bar("copy", total);
            bar.set_length(total);
            bar.set_position(sent);
            bar.set_message(format!("{} / {}", HumanBytes(sent), HumanBytes(total)));
        }
    }

    /// The bar of `key`, made when it is first asked for.
    fn bar(&self, key: &str, length: u64) -> ProgressBar {
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = open.entry(key.to_owned()).or_insert_with(|| {
            let style = ProgressStyle::with_template("{prefix} {bar:24.green} {wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::new(length).with_style(style).with_prefix(for_bar(key));
            let bar = self.0.printer.bars().add(bar);
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        bar.clone()
    }

    fn failure(&self, target: &impl Display, failure: &FailureReport) {
        self.say(format!("{target}: FAILING: {failure}"));
        for evidence in &failure.evidence {
            let message = text::printable(&evidence.message);
            let lines: Vec<String> =
                message.lines().map(|line| format!("    {}: {line}", evidence.source)).collect();
            if !lines.is_empty() {
                self.say(lines.join("\n"));
            }
        }
        self.say(format!("    what to do: {}", failure.advice()));
    }

    fn finished(&self, outcome: &Outcome) {
        if let Some(bar) =
            self.0.open.lock().unwrap_or_else(PoisonError::into_inner).remove(outcome.target.as_str())
        {
            bar.finish_and_clear();
        }
        let revision = outcome.revision.as_ref().map(|r| format!(" ({})", name(r))).unwrap_or_default();
        self.say(format!("{}: {}{revision}", outcome.target, outcome.verdict));
    }
}

/// A line of JSON: what it is, and the value.
#[derive(Serialize)]
struct Line<'a, T: Serialize> {
    #[serde(rename = "type")]
    kind: &'a str,
    data: &'a T,
}

/// The line of a target that is not as it was to be: how its deployment, or its rollback, ended, and why.
fn not_done(target: &TargetReceipt) -> Option<String> {
    let outcome = target.restored.as_ref().or(target.outcome.as_ref())?;
    let rollback = if target.restored.is_some() { "rollback: " } else { "" };
    let Outcome { verdict, detail, .. } = outcome;
    let told = verdict.is_success() || detail.is_empty() || target.error.is_some();
    (!told).then(|| format!("\n  {}: {rollback}{verdict} ({detail})", target.target))
}

/// A digest as a log's line has room for it. Results and files have it whole.
fn short(digest: &Digest) -> String {
    format!("{}:{}", digest.algorithm().name(), digest.short())
}

/// A revision without the account and region of its ARN.
fn name(revision: &Revision) -> &str {
    revision.id.rsplit('/').next().unwrap_or(&revision.id)
}

/// An event that people can be shown.
pub trait Show: Event + Serialize {
    /// Shows it.
    fn show(&self, ui: &Ui);
}

impl Show for DeployEvent {
    fn show(&self, ui: &Ui) {
        ui.deploy(self);
    }
}

impl Show for CopyEvent {
    fn show(&self, ui: &Ui) {
        match self {
            CopyEvent::Resolved { source, destination, digest, present } => {
                let how = if *present { "there already" } else { "new there" };
                ui.say(format!("{}: {source} -> {destination}, {how}", short(digest)));
            }
            CopyEvent::Progress(progress) => ui.bytes(progress.bytes, progress.bytes_total),
            CopyEvent::Blob { digest, size, how: Carried::Sent } => {
                ui.say(format!("blob {} sent ({size} bytes)", digest.short()))
            }
            CopyEvent::Manifest { digest, how: Carried::Sent } => {
                ui.say(format!("manifest {} sent", digest.short()))
            }
            CopyEvent::Retrying { side, reason, pause } => {
                ui.say(format!("{side:?}: {reason}; again in {pause:?}"))
            }
            CopyEvent::Kept(kept) => ui.say(format!(
                "warning: {}:{} still points to {}; {} was not merged into it: {}",
                kept.destination,
                kept.tag,
                kept.digest.short(),
                kept.wanted.short(),
                kept.reason
            )),
            CopyEvent::Tagged { tag, digest } => ui.say(format!("{tag} names {}", digest.short())),
            _ => {}
        }
    }
}

impl Show for SagaEvent {
    fn show(&self, ui: &Ui) {
        match self {
            SagaEvent::Noted { receipt, resumed, .. } => {
                let how = if *resumed { "goes on from" } else { "the way back is noted in" };
                ui.say(format!("{how} {}", receipt.display()));
            }
            SagaEvent::Compensating { failed, .. } => match failed {
                Some(target) => ui.say(format!("{target} failed: every target goes back")),
                None => ui.say("every target goes back"),
            },
            SagaEvent::NotNoted { message } => {
                ui.say(format!("warning: a step could not be noted: {message}"))
            }
            SagaEvent::Ended { .. } => {}
            SagaEvent::Target(event) => ui.deploy(event),
            _ => {}
        }
    }
}
