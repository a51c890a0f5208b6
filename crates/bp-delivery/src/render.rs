//! Render events as progress bars, lines or JSON lines.

use std::{
    collections::{BTreeSet, HashMap},
    fmt::Display,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard},
};

use bp_artifact::{
    DigestRef, ExitCode, Operation, Outcome, Verdict,
    deploy::{DeployEvent, Receipt, Revision, TargetId, TargetReceipt, preflight::Preflight},
    operation::Event,
    saga::SagaEvent,
    sync::lock,
    text,
};
use bp_eks::traffic::{SlotState, Traffic};
use bp_promote::copy::{CopyEvent, RunPlan, Transfer};
use futures_util::FutureExt as _;
use indicatif::HumanBytes;
use serde::Serialize;
use serde_json::{Value, json};

#[cfg(feature = "cli")]
use crate::Failure;
use crate::{
    ci::Ci,
    printer::{Bar, Printer, Stream},
    stop::{Counted, Stop},
};

/// The output format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Output {
    /// Progress bars on a terminal, lines otherwise
    #[default]
    Auto,
    /// Plain lines, for CI logs
    Lines,
    /// One JSON object per line on standard output, and nothing else there
    Json,
}

/// An event with a human-readable form: its `Display` is a log entry.
pub trait Show: Event + Serialize + Display {
    /// How it is rendered.
    fn view(&self) -> View<'_>;

    /// The title of the log lines of an operation with these events, where a CI system folds them.
    fn title() -> &'static str
    where
        Self: Sized,
    {
        "progress"
    }

    /// Whether it reports a failure, which is never folded.
    fn is_failure(&self) -> bool {
        false
    }
}

/// How an event is rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum View<'a> {
    /// A log entry: the event's `Display`.
    Entry,
    /// A progress bar on a terminal; otherwise a log entry, if `logged`.
    Bar {
        /// Identifies the bar; a later event with the same key updates it.
        key: &'a str,
        /// The current position.
        position: u64,
        /// The position at completion.
        length: u64,
        /// The text beside the bar.
        message: String,
        /// Whether a log entry is printed if no bars are drawn.
        logged: bool,
    },
    /// A log entry that removes the bar with this key.
    End(&'a str),
    /// Not rendered.
    Nothing,
}

/// Renders events and results. Cheap to clone; clones share the output.
#[derive(Clone)]
pub struct Ui(Arc<UiState>);

struct UiState {
    json: bool,
    printer: Printer,
    /// Whether bars are drawn; otherwise progress is printed as lines when it changes.
    draws: bool,
    open: Mutex<HashMap<String, Bar>>,
    /// The last progress that was printed as a line, by the bar's key.
    printed: Mutex<HashMap<String, String>>,
    stop: Stop,
    ci: Ci,
}

impl Ui {
    /// Draws bars if `output` is [`Output::Auto`], standard error is a terminal, and `CI` is not set.
    pub fn new(output: Output) -> Self {
        Self::in_ci(output, Ci::default())
    }

    /// As [`new`](Self::new), in a CI system.
    pub fn in_ci(output: Output, ci: Ci) -> Self {
        let terminal = Printer::has_terminal() && std::env::var_os("CI").is_none();
        let draws = output == Output::Auto && terminal;
        let json = output == Output::Json;
        let (printer, open, printed) = (Printer::new(draws), Mutex::default(), Mutex::default());
        Ui(Arc::new(UiState { json, printer, draws, open, printed, stop: Stop::default(), ci }))
    }

    pub(crate) fn stop(&self) -> &Stop {
        &self.0.stop
    }

    /// Cancels the operations that are followed, now and later: they stop at their next safe point, and their reports
    /// describe how far they got. The program frame calls it at a signal.
    pub fn interrupt(&self) {
        self.0.stop.request();
    }

    pub(crate) fn printer(&self) -> &Printer {
        &self.0.printer
    }

    /// Prints a human-readable entry on standard error. Its first line starts at column 1, further lines are indented.
    /// Prints nothing with [`Output::Json`].
    pub fn say(&self, entry: impl Display) {
        if !self.0.json {
            self.0.printer.entry(Stream::Err, &entry.to_string());
        }
    }

    /// Prints the result on standard output: `entry`, or `value` with [`Output::Json`].
    pub fn result(&self, entry: impl Display, value: &impl Serialize) {
        self.results([entry], value);
    }

    /// Prints a result of several entries, each of which starts at column 1.
    pub fn results(&self, entries: impl IntoIterator<Item = impl Display>, value: &impl Serialize) {
        let entries: Vec<String> = entries.into_iter().map(|entry| entry.to_string()).collect();
        self.0.ci.result(&entries, || serde_json::to_value(value).unwrap_or_default());
        if self.0.json {
            self.json("result", value);
        } else {
            for entry in entries {
                self.0.printer.entry(Stream::Out, &entry);
            }
        }
    }

    /// Prints a result that is a JSON document in every output format.
    pub fn document(&self, value: &Value) {
        if self.0.json {
            self.json("result", value);
        } else {
            self.0.printer.json(Stream::Out, &format!("{value:#}"));
        }
    }

    /// Prints the error that ends the program.
    pub fn error(&self, line: &str) {
        if self.0.json {
            self.json("error", &line);
        }
        self.0.printer.entry(Stream::Err, &format!("error: {}", text::single_line(line)));
    }

    /// Prints the failure that ends the program.
    #[cfg(feature = "cli")]
    pub(crate) fn failed(&self, failure: &Failure) {
        self.0.ci.end_group(&self.0.printer);
        self.0.ci.failed(failure);
        self.error(&failure.to_string());
    }

    /// Writes what the CI system reads at the end of the program.
    #[cfg(feature = "cli")]
    pub(crate) fn end(&self, verb: &str, code: ExitCode) {
        self.0.ci.end(&self.0.printer, verb, code);
    }

    /// Removes all bars.
    pub fn close(&self) {
        for (_, bar) in self.open().drain() {
            bar.remove();
        }
    }

    fn json(&self, kind: &str, value: &impl Serialize) {
        self.0.printer.value(&Line { kind, data: value });
    }

    /// Renders the events of an operation until it ends, and returns its report. At [`interrupt`](Self::interrupt) the
    /// operation is cancelled.
    ///
    /// # Cancel safety
    /// Dropping it drops the operation, which stops at its next safe point.
    pub async fn follow<E: Show, R: Send + 'static>(&self, work: Operation<E, R>) -> R {
        let _followed = self.0.stop.following();
        self.follow_while(E::title(), work, self.0.stop.requested(), |_| true).await
    }

    /// As [`follow`](Self::follow), for a rollback that was started because of an interruption, which does not cancel it.
    pub(crate) async fn follow_rollback<E: Show, R: Send + 'static>(&self, work: Operation<E, R>) -> R {
        let _rolling_back = self.rolling_back();
        self.follow_while("rollback", work, std::future::pending(), |_| true).await
    }

    /// Until it is dropped, the program is not ended for being late to stop.
    pub(crate) fn rolling_back(&self) -> Counted<'_> {
        self.0.stop.rolling_back()
    }

    /// Renders the events of a deployment until its change is applied, and then cancels it: the deployment continues on
    /// the platform. Also returns what was started; `None` if it ended before that.
    ///
    /// # Cancel safety
    /// As [`follow`](Self::follow).
    pub async fn start<R: Send + 'static>(&self, work: Operation<DeployEvent, R>) -> (R, Option<Started>) {
        let _followed = self.0.stop.following();
        let mut started = None;
        let is_starting = |event: &DeployEvent| {
            if let DeployEvent::Applied { target, revision, deployment, adopted } = event {
                started = Some(Started {
                    target: target.clone(),
                    revision: revision.clone(),
                    deployment: deployment.clone(),
                    adopted: *adopted,
                });
            }
            started.is_none()
        };
        let result =
            self.follow_while(DeployEvent::title(), work, self.0.stop.requested(), is_starting).await;
        (result, started)
    }

    /// Renders the events of an operation; cancels it when `stop` completes, and after an event for which `continues` is
    /// false.
    async fn follow_while<E: Show, R: Send + 'static>(
        &self,
        title: &str,
        mut work: Operation<E, R>,
        stop: impl Future<Output = ()>,
        mut continues: impl FnMut(&E) -> bool,
    ) -> R {
        let mut stop = pin!(stop.fuse());
        if !self.0.json {
            self.0.ci.group(&self.0.printer, Stream::Err, title);
        }
        loop {
            let event = tokio::select! {
                event = work.next_event() => event,
                () = &mut stop => {
                    work.cancel();
                    continue;
                }
            };
            let Some(event) = event else { break };
            if self.0.json {
                self.json("event", &event);
            } else {
                if event.is_failure() {
                    self.0.ci.end_group(&self.0.printer);
                }
                self.show(&event);
            }
            if !continues(&event) {
                work.cancel();
            }
        }
        self.close();
        let report = work.await;
        self.0.ci.end_group(&self.0.printer);
        report
    }

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
        self.result(format!("{}: {}{detail}", outcome.target, outcome.summary()), &outcome);
        outcome.verdict().into()
    }

    /// Prints the preflight report, and returns the exit code: whether a deployment would fail.
    pub fn checked(&self, found: &Preflight) -> ExitCode {
        self.result(found, &json!({ "ready": found.is_ready(), "preflight": found }));
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
        let verdict = receipt.verdict.map_or_else(|| "nothing was changed".to_owned(), |v| v.to_string());
        self.targets(receipt, &verdict);
    }

    /// Prints the outcome of a rollback of several targets.
    pub fn rollback(&self, receipt: &Receipt) {
        match receipt.rollback_verdict() {
            Verdict::Deployed => self.targets(receipt, "rolled back to the previous revisions"),
            verdict => self.targets(receipt, &verdict.to_string()),
        }
    }

    fn targets(&self, receipt: &Receipt, verdict: &str) {
        for target in &receipt.targets {
            if let Some(error) = &target.error {
                self.say(format!("{}: {error}", target.target));
            }
        }
        let others = receipt.targets.iter().filter_map(|target| target.image.as_ref());
        let images: BTreeSet<&DigestRef> =
            others.chain([&receipt.image]).map(|image| &image.reference).collect();
        let images: Vec<String> = images.into_iter().map(ToString::to_string).collect();
        let targets: String = receipt.targets.iter().filter_map(failure_line).collect();
        let gates = receipt.gates.iter().filter(|gate| !gate.state.is_open());
        let gates: String = gates.map(|gate| format!("\n  {gate}")).collect();
        self.result(format!("{}: {verdict}{targets}{gates}", images.join(", ")), receipt);
    }

    fn show(&self, event: &impl Show) {
        match event.view() {
            View::Entry => self.say(event),
            View::Bar { key, position, length, message, .. } if self.0.draws => {
                let mut open = self.open();
                let bar = open.entry(key.to_owned()).or_insert_with(|| self.0.printer.bar(key, length));
                bar.update(position, length, &message);
            }
            View::Bar { logged: true, key, message, .. } => {
                let before = lock(&self.0.printed).insert(key.to_owned(), message.clone());
                if before.as_ref() != Some(&message) {
                    self.say(event);
                }
            }
            View::End(key) => {
                if let Some(bar) = self.open().remove(key) {
                    bar.remove();
                }
                lock(&self.0.printed).remove(key);
                self.say(event);
            }
            View::Bar { logged: false, .. } | View::Nothing => {}
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, Bar>> {
        lock(&self.0.open)
    }
}

/// A deployment that was started and is not followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Started {
    /// The target.
    pub target: TargetId,
    /// The revision that is deployed.
    pub revision: Revision,
    /// The platform's ID of the deployment.
    pub deployment: String,
    /// Whether it was already in progress.
    pub adopted: bool,
}

/// One line of JSON output: its type and the value.
#[derive(Serialize)]
struct Line<'a, T: Serialize> {
    #[serde(rename = "type")]
    kind: &'a str,
    data: &'a T,
}

/// The line of a target whose deployment or rollback did not succeed: the verdict and the reason.
fn failure_line(target: &TargetReceipt) -> Option<String> {
    let outcome = target.restored.as_ref().or(target.outcome.as_ref())?;
    let rollback = if target.restored.is_some() { "rollback: " } else { "" };
    let (verdict, detail) = (outcome.verdict(), &outcome.detail);
    let is_reported = verdict.is_success() || detail.is_empty() || target.error.is_some();
    (!is_reported).then(|| format!("\n  {}: {rollback}{verdict} ({detail})", target.target))
}

impl Show for DeployEvent {
    fn title() -> &'static str {
        "deployment"
    }

    fn is_failure(&self) -> bool {
        matches!(self, DeployEvent::Failing { .. })
    }

    fn view(&self) -> View<'_> {
        match self {
            DeployEvent::Progress { target, progress } => View::Bar {
                key: target.as_str(),
                position: u64::from(progress.running),
                length: u64::from(progress.desired),
                message: progress.to_string(),
                logged: true,
            },
            DeployEvent::Finished { outcome } => View::End(outcome.target.as_str()),
            _ => View::Entry,
        }
    }
}

impl Show for CopyEvent {
    fn title() -> &'static str {
        "copy"
    }

    fn view(&self) -> View<'_> {
        match self {
            CopyEvent::Progress(progress) => View::Bar {
                key: "copy",
                position: progress.bytes,
                length: progress.bytes_total,
                message: format!("{} of {}", HumanBytes(progress.bytes), HumanBytes(progress.bytes_total)),
                // The entries of the blobs already report it.
                logged: false,
            },
            CopyEvent::Blob { how, .. } | CopyEvent::Manifest { how, .. } if *how != Transfer::Sent => {
                View::Nothing
            }
            CopyEvent::Referrer { .. } => View::Nothing,
            _ => View::Entry,
        }
    }
}

impl Show for SagaEvent {
    fn title() -> &'static str {
        "deployment to all targets"
    }

    fn is_failure(&self) -> bool {
        matches!(self, SagaEvent::Target(event) if event.is_failure())
    }

    fn view(&self) -> View<'_> {
        match self {
            SagaEvent::Target(event) => event.view(),
            SagaEvent::Ended { .. } => View::Nothing,
            _ => View::Entry,
        }
    }
}
