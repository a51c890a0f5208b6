//! Render events as progress in place, lines or JSON lines; `docs/output.md` describes the output.

mod action;
mod board;
mod copies;
mod names;
#[cfg(test)]
mod snapshots;
mod started;
mod summary;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use bp_artifact::{
    Operation,
    deploy::{DeployEvent, TargetId},
    operation::Event,
    saga::SagaEvent,
    sync::lock,
    text,
};
use bp_promote::copy::CopyEvent;
use futures_util::FutureExt as _;
use serde::Serialize;
use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior};

pub use self::started::Started;
use self::{
    action::{Action, Detail, duration},
    board::Board,
};
use crate::{
    Failure,
    ci::Ci,
    look::{Bar, Entry, Tone},
    printer::{self, Printer, Stream},
    stop::{Counted, Stop},
};

/// How often progress in place is redrawn.
const TICK: Duration = Duration::from_secs(1);
/// How long a log is silent about progress that changes.
const CHANGED: Duration = Duration::from_secs(10);
/// How long a log is silent about progress that does not change: build systems stop jobs that print nothing.
const UNCHANGED: Duration = Duration::from_secs(60);

/// A step that takes no longer has no duration.
const MOMENT: Duration = Duration::from_millis(50);

/// The output format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Output {
    /// Progress in place on a terminal, lines otherwise
    #[default]
    Auto,
    /// Plain lines, for CI logs
    Lines,
    /// One JSON object per line on standard output, and nothing else there
    Json,
}

/// An event that is rendered for people.
pub trait Show: Event + Serialize {
    /// The event to render.
    fn event(&self) -> Shown<'_>;
}

/// An event to render.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Shown<'e> {
    /// Of a deployment to one target.
    Deploy(&'e DeployEvent),
    /// Of a deployment to several targets.
    Saga(&'e SagaEvent),
    /// Of a copy.
    Copy(&'e CopyEvent),
}

impl Show for DeployEvent {
    fn event(&self) -> Shown<'_> {
        Shown::Deploy(self)
    }
}

impl Show for SagaEvent {
    fn event(&self) -> Shown<'_> {
        Shown::Saga(self)
    }
}

impl Show for CopyEvent {
    fn event(&self) -> Shown<'_> {
        Shown::Copy(self)
    }
}

/// Renders events and results. Cheap to clone; clones share the output.
#[derive(Clone)]
pub struct Ui {
    state: Arc<UiState>,
    detail: Detail,
}

struct UiState {
    json: bool,
    printer: Printer,
    board: Mutex<Board>,
    /// Progress, by its key.
    live: Mutex<BTreeMap<String, Live>>,
    /// When the current step started.
    step: Mutex<Option<Instant>>,
    stop: Stop,
    ci: Ci,
}

/// Progress of one object.
struct Live {
    /// On the terminal, if bars are drawn.
    bar: Option<printer::Bar>,
    state: Bar,
    since: Instant,
    /// Whether a log contains it.
    logged: bool,
    /// What was printed last, and when anything was.
    printed: (String, Instant),
}

impl Ui {
    /// Shows progress in place if `output` is [`Output::Auto`], standard error is a terminal, and `CI` is not set.
    pub fn new(output: Output) -> Self {
        Self::in_ci(output, Ci::default())
    }

    /// As [`new`](Self::new), in a CI system.
    pub fn in_ci(output: Output, ci: Ci) -> Self {
        Self::with(Printer::new(output != Output::Auto), output == Output::Json, ci)
    }

    fn with(printer: Printer, json: bool, ci: Ci) -> Self {
        let (board, live, step) = (Mutex::default(), Mutex::default(), Mutex::default());
        let detail = if printer.draws() { Detail::Terminal } else { Detail::Log };
        Ui {
            state: Arc::new(UiState { json, printer, board, live, step, stop: Stop::default(), ci }),
            detail,
        }
    }

    /// The same output with results and failures only, on a terminal and in a log. For tours, not for pipelines.
    pub fn brief(&self) -> Self {
        Ui { detail: Detail::Tour, ..self.clone() }
    }

    pub(crate) fn stop(&self) -> &Stop {
        &self.state.stop
    }

    /// Cancels the operations that are followed, now and later: they stop at their next safe point, and their reports
    /// describe how far they got. The program frame calls it at a signal.
    pub fn interrupt(&self) {
        self.state.stop.request();
    }

    #[cfg(feature = "cli")]
    pub(crate) fn printer(&self) -> &Printer {
        &self.state.printer
    }

    /// Starts a step: prints its title on standard error. What follows belongs to it, up to the next step, result or
    /// error, which prints its duration.
    pub fn step(&self, title: impl Display) {
        self.end_step();
        if self.state.json {
            return;
        }
        if !self.state.ci.group(&self.state.printer, Stream::Err, &title.to_string()) {
            self.print(Tone::Heading, &format!("== {title}"), 0);
        }
        lock(&self.state.board).start_step();
        *lock(&self.state.step) = Some(Instant::now());
    }

    /// Ends a step with what it has done, and its duration.
    pub fn done(&self, what: impl Display) {
        let step = lock(&self.state.step).take();
        let took = step.map_or_else(String::new, |since| format!(", {}", duration(since.elapsed())));
        self.line_at(Tone::Good, &format!("{what}{took}"), usize::from(step.is_some()));
        self.state.ci.end_group(&self.state.printer);
    }

    fn end_step(&self) {
        let step = lock(&self.state.step).take();
        // Nothing was waited for, or the results have their durations.
        let is_shown = |since: &Instant| self.detail != Detail::Tour && since.elapsed() >= MOMENT;
        let step = step.filter(is_shown);
        if let Some(since) = step {
            self.line_at(Tone::Plain, &format!("took {}", duration(since.elapsed())), 1);
        }
        self.state.ci.end_group(&self.state.printer);
    }

    /// Prints a human-readable entry on standard error. Its first line starts at column 1 or below the title of its
    /// step, further lines are indented. Prints nothing with [`Output::Json`].
    pub fn say(&self, entry: impl Display) {
        self.line(Tone::Plain, &entry.to_string());
    }

    /// As [`say`](Self::say), about a target, which is shown by its short name.
    pub fn say_of(&self, target: &TargetId, entry: impl Display) {
        let name = lock(&self.state.board).name(target);
        self.line(Tone::Plain, &format!("{name}: {entry}"));
    }

    /// Prints a warning on standard error, as [`say`](Self::say).
    pub fn warn(&self, entry: impl Display) {
        self.line(Tone::Warning, &format!("warning: {entry}"));
    }

    fn line(&self, tone: Tone, text: &str) {
        let depth = usize::from(lock(&self.state.step).is_some());
        self.line_at(tone, text, depth);
    }

    fn line_at(&self, tone: Tone, text: &str, depth: usize) {
        if !self.state.json {
            self.print(tone, text, depth);
        }
    }

    fn print(&self, tone: Tone, text: &str, depth: usize) {
        self.state.printer.entry(Stream::Err, Entry { tone, depth, text });
    }

    /// Prints the result on standard output: `entry`, or `value` with [`Output::Json`].
    pub fn result(&self, entry: impl Display, value: &impl Serialize) {
        self.results([entry], value);
    }

    /// Prints a result of several entries, each of which starts at column 1.
    pub fn results(&self, entries: impl IntoIterator<Item = impl Display>, value: &impl Serialize) {
        self.conclude(Tone::Plain, entries, value);
    }

    fn conclude(&self, tone: Tone, entries: impl IntoIterator<Item = impl Display>, value: &impl Serialize) {
        self.end_step();
        let entries: Vec<String> = entries.into_iter().map(|entry| entry.to_string()).collect();
        self.state.ci.result(&entries, || serde_json::to_value(value).unwrap_or_default());
        if self.state.json {
            self.json("result", value);
        } else {
            for text in entries {
                self.state.printer.entry(Stream::Out, Entry { tone, depth: 0, text: &text });
            }
        }
    }

    /// Prints a result that is a JSON document in every output format.
    pub fn document(&self, value: &Value) {
        self.end_step();
        if self.state.json {
            self.json("result", value);
        } else {
            self.state.printer.json(Stream::Out, &format!("{value:#}"));
        }
    }

    /// Prints the error that ends the program.
    pub fn error(&self, line: &str) {
        self.failed(&Failure::unexpected(line));
    }

    /// Prints the failure that ends the program: one line in a log, the hints on lines of their own on a terminal.
    pub(crate) fn failed(&self, failure: &Failure) {
        self.end_step();
        self.state.ci.failed(failure);
        let line = failure.to_string();
        if self.state.json {
            self.json("error", &line);
        }
        let text = if self.state.printer.draws() {
            let (error, hints) = failure.parts();
            let hints = hints.iter().map(|hint| format!("\n    what to do: {}", text::single_line(hint)));
            hints.fold(text::single_line(error), |text, hint| text + &hint)
        } else {
            text::single_line(&line)
        };
        self.print(Tone::Bad, &format!("error: {text}"), 0);
    }

    /// Writes what the CI system reads at the end of the program.
    #[cfg(feature = "cli")]
    pub(crate) fn end(&self, verb: &str, code: bp_artifact::ExitCode) {
        self.end_step();
        self.state.ci.end(&self.state.printer, verb, code);
    }

    /// Removes all progress, and ends the step.
    pub fn close(&self) {
        lock(&self.state.live).clear();
        self.end_step();
    }

    fn json(&self, kind: &str, value: &impl Serialize) {
        self.state.printer.value(&JsonLine { kind, data: value });
    }

    /// Renders the events of an operation until it ends, and returns its report. At [`interrupt`](Self::interrupt) the
    /// operation is cancelled.
    ///
    /// # Cancel safety
    /// Dropping it drops the operation, which stops at its next safe point.
    pub async fn follow<E: Show, R: Send + 'static>(&self, work: Operation<E, R>) -> R {
        let _followed = self.state.stop.following();
        self.follow_while(work, self.state.stop.requested(), |_| true).await
    }

    /// As [`follow`](Self::follow), for a rollback that was started because of an interruption, which does not cancel it.
    pub(crate) async fn follow_rollback<E: Show, R: Send + 'static>(&self, work: Operation<E, R>) -> R {
        let _rolling_back = self.rolling_back();
        self.follow_while(work, std::future::pending(), |_| true).await
    }

    /// Until it is dropped, the program is not ended for being late to stop.
    pub(crate) fn rolling_back(&self) -> Counted<'_> {
        self.state.stop.rolling_back()
    }

    /// Renders the events of a deployment until its change is applied, and then cancels it: the deployment continues on
    /// the platform. Also returns what was started; `None` if it ended before that.
    ///
    /// # Cancel safety
    /// As [`follow`](Self::follow).
    pub async fn start<R: Send + 'static>(&self, work: Operation<DeployEvent, R>) -> (R, Option<Started>) {
        let _followed = self.state.stop.following();
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
        let report = self.follow_while(work, self.state.stop.requested(), is_starting).await;
        (report, started)
    }

    /// Renders events, and cancels the operation when `stop` completes or `continues` is false for an event.
    async fn follow_while<E: Show, R: Send + 'static>(
        &self,
        mut work: Operation<E, R>,
        stop: impl Future<Output = ()>,
        mut continues: impl FnMut(&E) -> bool,
    ) -> R {
        let mut stop = pin!(stop.fuse());
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut keys = BTreeSet::new();
        let mut is_copy = false;
        loop {
            let event = tokio::select! {
                event = work.next_event() => event,
                () = &mut stop => {
                    work.cancel();
                    continue;
                }
                _ = tick.tick(), if !self.state.json => {
                    self.refresh();
                    continue;
                }
            };
            let Some(event) = event else { break };
            if self.state.json {
                self.json("event", &event);
            } else {
                is_copy |= matches!(event.event(), Shown::Copy(_));
                self.act(self.actions(event.event()), &mut keys);
            }
            if !continues(&event) {
                work.cancel();
            }
        }
        if is_copy {
            let end = lock(&self.state.board).copies.end(self.detail);
            self.act(end, &mut keys);
        }
        lock(&self.state.live).retain(|key, _| !keys.contains(key));
        work.await
    }

    fn actions(&self, event: Shown<'_>) -> Vec<Action> {
        let mut board = lock(&self.state.board);
        match event {
            Shown::Deploy(event) => board.deploy(event, self.detail),
            Shown::Saga(event) => board.saga(event, self.detail),
            Shown::Copy(event) => board.copies.event(event, self.detail),
        }
    }

    /// Shows what an event changes. `keys` are those of the progress that it has started.
    fn act(&self, actions: Vec<Action>, keys: &mut BTreeSet<String>) {
        for action in actions {
            match action {
                Action::Line(tone, text) => {
                    if tone == Tone::Bad {
                        // A failure is never folded.
                        self.state.ci.end_group(&self.state.printer);
                    }
                    self.line(tone, &text);
                }
                Action::Gone(key) => drop(lock(&self.state.live).remove(&key)),
                Action::Bar { key, bar, logged } => {
                    keys.insert(key.clone());
                    self.show(key, bar, logged);
                }
            }
        }
    }

    fn show(&self, key: String, state: Bar, logged: bool) {
        let printer = &self.state.printer;
        let now = Instant::now();
        let mut live = lock(&self.state.live);
        let live = live.entry(key).or_insert_with(|| Live {
            bar: printer.draws().then(|| printer.bar()),
            state: state.clone(),
            since: now,
            logged,
            printed: (String::new(), now),
        });
        (live.state, live.logged) = (state, logged);
        if let Some(bar) = &live.bar {
            printer.update(bar, &live.state, live.since.elapsed().as_secs());
        }
    }

    /// Redraws progress in place with the time that has passed; in a log, prints what has changed, seldom.
    fn refresh(&self) {
        let mut lines = Vec::new();
        for live in lock(&self.state.live).values_mut() {
            let seconds = live.since.elapsed();
            if let Some(bar) = &live.bar {
                self.state.printer.update(bar, &live.state, seconds.as_secs());
                continue;
            }
            let (printed, at) = &live.printed;
            let silence = if *printed == live.state.message { UNCHANGED } else { CHANGED };
            if live.logged && at.elapsed() >= silence {
                let Bar { name, message, .. } = &live.state;
                lines.push(format!("{name}: {message} ({})", duration(seconds)));
                live.printed = (message.clone(), Instant::now());
            }
        }
        for text in lines {
            self.line(Tone::Plain, &text);
        }
    }
}

/// One line of JSON output: its type and the value.
#[derive(Serialize)]
struct JsonLine<'a, T: Serialize> {
    #[serde(rename = "type")]
    kind: &'a str,
    data: &'a T,
}
