//! Long-running operations: a handle that streams events and resolves to a result.

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
};

use futures_core::{Stream, future::BoxFuture};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::sync::lock;

/// An event that an [`Operation`] emits.
pub trait Event: Send + 'static {
    /// Whether this event replaces an `earlier` unread one: progress of the same object does; state, failure and
    /// outcome never do.
    fn supersedes(&self, earlier: &Self) -> bool;

    /// Whether unread events of this kind may be dropped, oldest first: log lines may; state, failure and outcome may
    /// not.
    fn may_be_dropped(&self) -> bool {
        false
    }
}

/// How many unread events that may be dropped are kept.
const UNREAD: usize = 1000;

/// A running operation: a [`Stream`] of its events; awaiting it returns its result.
///
/// The work runs on its own task: a slow reader never blocks it. Unread progress is merged, the latest 1,000 unread
/// log lines are kept, and so are all events of state, failure and outcome. Dropping the handle cancels the work at
/// its next safe point; it never starts a rollback.
///
/// ```
/// use bp_artifact::{Operation, operation::Event};
/// use futures_util::StreamExt;
///
/// struct Percent(u8);
/// impl Event for Percent {
///     fn supersedes(&self, _: &Self) -> bool { true }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let mut work = Operation::spawn(|events| async move {
///     events.emit(Percent(50));
///     events.emit(Percent(100));
///     "done"
/// });
/// while let Some(Percent(percent)) = work.next().await {
///     assert_eq!(percent, 100); // 50 was unread and has been replaced.
/// }
/// assert_eq!(work.await, "done");
/// # }
/// ```
///
/// # Panics
/// Awaiting it panics when the work panicked.
#[must_use = "dropping an operation cancels it"]
pub struct Operation<E, R> {
    shared: Arc<Shared<E>>,
    cancel: CancellationToken,
    task: JoinHandle<R>,
}

struct Shared<E> {
    queue: Mutex<Queue<E>>,
}

struct Queue<E> {
    events: VecDeque<E>,
    reader: Option<Waker>,
    closed: bool,
}

impl<E: Event> Queue<E> {
    /// If too many events that may be dropped are unread, drops the oldest of them.
    fn make_room(&mut self) {
        let mut waiting = self.events.iter().enumerate().filter(|(_, event)| event.may_be_dropped());
        let oldest = waiting.next().map(|(at, _)| at);
        if waiting.count().saturating_add(1) >= UNREAD {
            oldest.and_then(|at| self.events.remove(at));
        }
    }
}

impl<E> Shared<E> {
    fn lock(&self) -> MutexGuard<'_, Queue<E>> {
        lock(&self.queue)
    }
}

impl<E: Event, R: Send + 'static> Operation<E, R> {
    /// Starts `work` on the current tokio runtime, in the caller's `tracing` span.
    pub fn spawn<W, F>(work: W) -> Self
    where
        W: FnOnce(Emitter<E>) -> F,
        F: Future<Output = R> + Send + 'static,
    {
        let queue = Queue { events: VecDeque::new(), reader: None, closed: false };
        let shared = Arc::new(Shared { queue: Mutex::new(queue) });
        let cancel = CancellationToken::new();
        let closer = Closer(Arc::clone(&shared));
        let work = work(Emitter { shared: Arc::clone(&shared), cancel: cancel.clone() });
        let work = async move {
            let _closer = closer;
            work.await
        };
        let task = tokio::spawn(work.in_current_span());
        Operation { shared, cancel, task }
    }

    /// Cancels the work at its next safe point. The result states how far it got.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// The next event, or `None` when the work has ended.
    ///
    /// # Cancel safety
    /// An event is taken only when it is returned.
    pub async fn next_event(&mut self) -> Option<E> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl<E: Event, T: Send + 'static, F: Send + 'static> Operation<E, Result<T, F>> {
    /// Maps the error of the operation.
    pub fn map_err<G: Send + 'static>(
        self,
        map: impl FnOnce(F) -> G + Send + 'static,
    ) -> Operation<E, Result<T, G>> {
        let (shared, cancel) = (Arc::clone(&self.shared), self.cancel.clone());
        let task = tokio::spawn(async move { self.await.map_err(map) });
        Operation { shared, cancel, task }
    }
}

impl<E, R> Stream for Operation<E, R> {
    type Item = E;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<E>> {
        let mut queue = self.shared.lock();
        match queue.events.pop_front() {
            Some(event) => Poll::Ready(Some(event)),
            None if queue.closed => Poll::Ready(None),
            None => {
                queue.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<E: Event, R: Send + 'static> IntoFuture for Operation<E, R> {
    type Output = R;
    type IntoFuture = BoxFuture<'static, R>;

    fn into_future(mut self) -> Self::IntoFuture {
        Box::pin(async move {
            match (&mut self.task).await {
                Ok(report) => report,
                Err(join) => match join.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // Only a runtime that shuts down aborts it, and with it the task that waits here.
                    Err(_) => std::future::pending().await,
                },
            }
        })
    }
}

impl<E, R> Drop for Operation<E, R> {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl<E, R> fmt::Debug for Operation<E, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operation").field("finished", &self.task.is_finished()).finish_non_exhaustive()
    }
}

/// Ends the stream when the work ends, even by a panic.
struct Closer<E>(Arc<Shared<E>>);

impl<E> Drop for Closer<E> {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.closed = true;
        if let Some(reader) = queue.reader.take() {
            reader.wake();
        }
    }
}

/// The work's side of an [`Operation`]: emits events and observes cancellation.
pub struct Emitter<E> {
    shared: Arc<Shared<E>>,
    cancel: CancellationToken,
}

impl<E: Event> Emitter<E> {
    /// Emits an event. Never blocks.
    pub fn emit(&self, event: E) {
        let mut queue = self.shared.lock();
        if event.may_be_dropped() {
            queue.make_room();
        }
        match queue.events.iter_mut().rev().find(|earlier| event.supersedes(earlier)) {
            Some(earlier) => *earlier = event,
            None => queue.events.push_back(event),
        }
        if let Some(reader) = queue.reader.take() {
            reader.wake();
        }
    }
}

impl<E> Emitter<E> {
    /// Whether the operation was cancelled, and the work should stop at its next safe point.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Completes when the operation is cancelled.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn cancelled(&self) {
        self.cancel.cancelled().await;
    }
}

impl<E> Clone for Emitter<E> {
    fn clone(&self) -> Self {
        Emitter { shared: Arc::clone(&self.shared), cancel: self.cancel.clone() }
    }
}

impl<E> fmt::Debug for Emitter<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emitter").field("cancelled", &self.is_cancelled()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[derive(Debug, PartialEq)]
    enum Emitted {
        Progress(u32, u32),
        State(&'static str),
        Line(usize),
    }

    impl Event for Emitted {
        fn supersedes(&self, earlier: &Self) -> bool {
            matches!((self, earlier), (Emitted::Progress(a, _), Emitted::Progress(b, _)) if a == b)
        }

        fn may_be_dropped(&self) -> bool {
            matches!(self, Emitted::Line(_))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn merges_progress_and_keeps_state() {
        let mut work = Operation::spawn(|events| async move {
            events.emit(Emitted::Progress(1, 10));
            events.emit(Emitted::State("a"));
            events.emit(Emitted::Progress(2, 10));
            events.emit(Emitted::Progress(1, 20));
            events.emit(Emitted::State("b"));
        });
        tokio::time::sleep(Duration::from_millis(1)).await;
        let mut emitted = Vec::new();
        while let Some(event) = work.next_event().await {
            emitted.push(event);
        }
        assert_eq!(
            emitted,
            [Emitted::Progress(1, 20), Emitted::State("a"), Emitted::Progress(2, 10), Emitted::State("b")]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn dropping_the_handle_cancels_the_work() {
        let (tx, rx) = tokio::sync::oneshot::channel();
        let work = Operation::<Emitted, ()>::spawn(|events| async move {
            events.cancelled().await;
            let _ = tx.send("stopped");
        });
        drop(work);
        assert_eq!(rx.await, Ok("stopped"));
    }

    #[tokio::test(start_paused = true)]
    async fn unread_events_do_not_block_the_work() {
        let work = Operation::<Emitted, u32>::spawn(|events| async move {
            for n in 0..1000 {
                events.emit(Emitted::Progress(7, n));
                tokio::task::yield_now().await;
            }
            7
        });
        assert_eq!(work.await, 7);
    }

    #[tokio::test(start_paused = true)]
    async fn keeps_the_latest_unread_log_lines_and_all_state() {
        let mut work = Operation::spawn(|events| async move {
            events.emit(Emitted::Line(0));
            events.emit(Emitted::State("a"));
            (1..=UNREAD + 1).for_each(|n| events.emit(Emitted::Line(n)));
            events.emit(Emitted::State("b"));
        });
        tokio::time::sleep(Duration::from_millis(1)).await;
        let mut emitted = Vec::new();
        while let Some(event) = work.next_event().await {
            emitted.push(event);
        }
        assert_eq!(emitted.len(), UNREAD + 2);
        assert_eq!(emitted[..2], [Emitted::State("a"), Emitted::Line(2)]);
        assert_eq!(emitted[UNREAD..], [Emitted::Line(UNREAD + 1), Emitted::State("b")]);
    }

    /// Reports a panic during which it is dropped.
    struct Watch(std::sync::mpsc::Sender<()>);

    impl Drop for Watch {
        fn drop(&mut self) {
            if std::thread::panicking() {
                let _ = self.0.send(());
            }
        }
    }

    #[test]
    fn a_runtime_that_shuts_down_aborts_it_without_a_panic() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let (panicked, panics) = std::sync::mpsc::channel();
        runtime.block_on(async {
            for _ in 0..100 {
                let (work, watch) =
                    (Operation::<Emitted, ()>::spawn(|_| std::future::pending()), Watch(panicked.clone()));
                tokio::spawn(async move {
                    let _watch = watch;
                    work.await;
                });
                tokio::task::yield_now().await;
            }
        });
        runtime.shutdown_timeout(Duration::from_secs(5));
        drop(panicked);
        assert!(panics.recv().is_err());
    }

    #[tokio::test]
    #[should_panic(expected = "the work failed")]
    async fn propagates_a_panic_to_the_caller() {
        let mut work = Operation::<Emitted, ()>::spawn(|_| async { panic!("the work failed") });
        assert_eq!(work.next_event().await, None);
        work.await;
    }
}
