//! Drop work at any of its polls, to test that a rerun completes it and that nothing is left behind.

use std::{
    cell::Cell,
    sync::{Arc, Mutex},
};

use tokio::{runtime::Runtime, sync::Notify};
use tracing::{
    Event, Instrument as _, Metadata, Subscriber,
    span::{Attributes, Id, Record},
};
use tracing_core::span::Current;

use crate::sync::lock;

/// Runs `test` again and again, each time on a new runtime of `runtime`. The work that it passes to [`Cut::run`] is
/// dropped after its first poll, then after its second, until it completes. Returns the number of times that it was
/// dropped.
///
/// Polls are counted by the `tracing` spans that they enter: those of the work itself, and of the tasks that it starts in
/// its span. After `dense` polls, the steps between them grow by one quarter, so that long work takes some dozens of runs
/// more. The runtime must have one thread; build it with an `event_interval` of 1, so that no other task is polled between
/// the poll and the drop.
///
/// ```
/// use std::cell::Cell;
/// use tokio::runtime::Builder;
///
/// let runtime = || Builder::new_current_thread().event_interval(1).build().unwrap();
/// let steps = async |done: &Cell<u32>| {
///     for _ in 0..5 {
///         tokio::task::yield_now().await;
///         done.set(done.get() + 1);
///     }
/// };
/// let cuts = bp_sandbox::cut::at_every_poll(runtime, usize::MAX, async |cut| {
///     let done = Cell::new(0);
///     let ended = cut.run(|| steps(&done)).await;
///     assert_eq!(done.get(), if ended.is_some() { 5 } else { cut.polls() as u32 - 1 });
/// });
/// assert_eq!(cuts, 5);
/// ```
pub fn at_every_poll(runtime: impl Fn() -> Runtime, dense: usize, test: impl AsyncFn(&Cut)) -> usize {
    let (mut polls, mut cuts) = (1, 0);
    loop {
        let cut = Cut { polls, completed: Cell::new(false) };
        runtime().block_on(test(&cut));
        if cut.completed.get() {
            return cuts;
        }
        cuts += 1;
        polls += if polls < dense { 1 } else { polls.div_ceil(4) };
    }
}

/// The poll after which work is dropped.
#[derive(Debug)]
pub struct Cut {
    polls: usize,
    completed: Cell<bool>,
}

impl Cut {
    /// The number of that poll, from 1.
    pub fn polls(&self) -> usize {
        self.polls
    }

    /// Runs the work until it completes, or until that poll; then it is dropped, and `None` returned.
    ///
    /// # Cancel safety
    /// Dropping it drops the work.
    pub async fn run<T, F: Future<Output = T>>(&self, work: impl FnOnce() -> F) -> Option<T> {
        let reached = Arc::new(Notify::new());
        // The span is entered once more, when the work is created.
        let counter =
            Counter { last: self.polls + 1, spans: Mutex::default(), reached: Arc::clone(&reached) };
        let _guard = tracing::subscriber::set_default(counter);
        let span = tracing::info_span!("work");
        let work = span.in_scope(work).instrument(span);
        let done = tokio::select! {
            biased;
            () = reached.notified() => None,
            done = work => Some(done),
        };
        self.completed.set(done.is_some());
        done
    }
}

/// Counts how often a span is entered.
struct Counter {
    last: usize,
    spans: Mutex<Spans>,
    reached: Arc<Notify>,
}

#[derive(Default)]
struct Spans {
    polls: usize,
    /// The metadata of the spans; the ID of a span is its position, from 1.
    all: Vec<&'static Metadata<'static>>,
    /// The spans that are entered, the current one last.
    entered: Vec<Id>,
}

impl Subscriber for Counter {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span()
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut spans = lock(&self.spans);
        spans.all.push(span.metadata());
        Id::from_u64(spans.all.len() as u64)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, span: &Id) {
        let mut spans = lock(&self.spans);
        spans.entered.push(span.clone());
        spans.polls += 1;
        if spans.polls == self.last {
            self.reached.notify_one();
        }
    }

    fn exit(&self, span: &Id) {
        let mut spans = lock(&self.spans);
        if let Some(at) = spans.entered.iter().rposition(|entered| entered == span) {
            spans.entered.remove(at);
        }
    }

    fn current_span(&self) -> Current {
        let spans = lock(&self.spans);
        match spans.entered.last() {
            Some(id) => Current::new(id.clone(), spans.all[id.into_u64() as usize - 1]),
            None => Current::none(),
        }
    }
}
