//! Joining concurrent requests for single items into calls for several.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::lock;

/// How long the first caller waits for others.
const WINDOW: Duration = Duration::from_millis(10);

/// The answer of a joint call for one item: the item, `None` if the answer lacks it, or the error of the call.
pub type JointAnswer<V, E> = Result<Option<V>, Arc<E>>;

/// Joins concurrent requests for single items: the first caller waits 10 ms for others and makes the calls for all.
///
/// ```
/// # use std::{collections::HashMap, convert::Infallible};
/// # use bp_artifact::sync::Batch;
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let batch: Batch<usize, Infallible> = Batch::new(100);
/// // One call for both.
/// let lengths = |keys: Vec<String>| async move {
///     Ok(keys.into_iter().map(|key| (key.clone(), key.len())).collect::<HashMap<_, _>>())
/// };
/// let (one, two) = tokio::join!(batch.get("a", lengths), batch.get("bb", lengths));
/// assert_eq!((one.unwrap().unwrap(), two.unwrap().unwrap()), (Some(1), Some(2)));
/// # });
/// ```
pub struct Batch<V, E> {
    waiting: Mutex<Vec<Waiter<V, E>>>,
    size: usize,
}

struct Waiter<V, E> {
    key: String,
    sender: oneshot::Sender<JointAnswer<V, E>>,
}

impl<V, E> fmt::Debug for Batch<V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("size", &self.size).finish_non_exhaustive()
    }
}

impl<V: Clone, E> Batch<V, E> {
    /// `size`: the maximum number of items per call, at least 1.
    pub fn new(size: usize) -> Self {
        Batch { waiting: Mutex::default(), size: size.max(1) }
    }

    /// Requests the item `key` by `call`, together with the items of concurrent callers.
    ///
    /// `None` if the caller that made the joint call was cancelled. In that case, and if the joint call failed,
    /// possibly because of another item, the caller may request its item alone.
    ///
    /// # Cancel safety
    ///
    /// Cancelling a caller never blocks the others.
    pub async fn get<F>(&self, key: &str, call: impl Fn(Vec<String>) -> F) -> Option<JointAnswer<V, E>>
    where
        F: Future<Output = Result<HashMap<String, V>, E>>,
    {
        let (sender, receiver) = oneshot::channel();
        let is_first = {
            let mut waiting = lock(&self.waiting);
            waiting.push(Waiter { key: key.to_owned(), sender });
            waiting.len() == 1
        };
        if is_first {
            self.call_for_all(&call).await;
        }
        receiver.await.ok()
    }

    async fn call_for_all<F>(&self, call: &impl Fn(Vec<String>) -> F)
    where
        F: Future<Output = Result<HashMap<String, V>, E>>,
    {
        let abandoned = ReleaseOnDrop(self);
        tokio::time::sleep(WINDOW).await;
        let waiters = std::mem::take(&mut *lock(&self.waiting));
        drop(abandoned);

        let mut by_key: HashMap<String, Vec<_>> = HashMap::new();
        for Waiter { key, sender } in waiters {
            by_key.entry(key).or_default().push(sender);
        }
        let mut keys: Vec<String> = by_key.keys().cloned().collect();
        keys.sort_unstable();
        let calls = keys.chunks(self.size).map(|some| async move { (some, call(some.to_vec()).await) });
        for (some, answer) in join_all(calls).await {
            let answer = answer.map_err(Arc::new);
            for key in some {
                for sender in by_key.remove(key).into_iter().flatten() {
                    let item = answer.as_ref().map(|items| items.get(key).cloned()).map_err(Arc::clone);
                    // A cancelled caller has dropped its receiver.
                    let _ = sender.send(item);
                }
            }
        }
    }
}

/// Releases the waiting callers when the first one is cancelled before its call; afterwards nobody waits here.
struct ReleaseOnDrop<'a, V, E>(&'a Batch<V, E>);

impl<V, E> Drop for ReleaseOnDrop<'_, V, E> {
    fn drop(&mut self) {
        lock(&self.0.waiting).clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    type TestBatch = Batch<String, &'static str>;

    async fn get(
        batch: &TestBatch,
        key: &str,
        calls: &AtomicUsize,
    ) -> Option<JointAnswer<String, &'static str>> {
        let call = |keys: Vec<String>| async move {
            calls.fetch_add(1, Ordering::SeqCst);
            assert!(keys.len() <= 3, "{keys:?}");
            if keys.iter().any(|key| key == "poison") {
                return Err("poison");
            }
            Ok(keys.into_iter().filter(|key| key != "missing").map(|key| (key.clone(), key)).collect())
        };
        batch.get(key, call).await
    }

    #[tokio::test(start_paused = true)]
    async fn joins_concurrent_calls() {
        let (batch, calls) = (Batch::new(3), AtomicUsize::new(0));
        let keys = ["a", "b", "a", "c", "missing"];
        let results = join_all(keys.map(|key| get(&batch, key, &calls))).await;
        for (key, result) in keys.iter().zip(results) {
            let found = result.unwrap().unwrap();
            assert_eq!(found.as_deref(), (*key != "missing").then_some(*key));
        }
        assert_eq!(calls.load(Ordering::SeqCst), 2, "four items, three per call");
    }

    #[tokio::test(start_paused = true)]
    async fn all_callers_of_a_failed_call_get_its_error() {
        let (batch, calls) = (Batch::new(3), AtomicUsize::new(0));
        for result in join_all(["a", "poison"].map(|key| get(&batch, key, &calls))).await {
            assert_eq!(*result.unwrap().unwrap_err(), "poison");
        }
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_during_a_call_is_in_the_next_call() {
        let (batch, calls) = (Batch::<String, ()>::new(3), AtomicUsize::new(0));
        let slow = |keys: Vec<String>| {
            calls.fetch_add(1, Ordering::SeqCst);
            async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok(keys.into_iter().map(|key| (key.clone(), key)).collect())
            }
        };
        let late = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            batch.get("b", slow).await
        };
        let (first, second) = tokio::join!(batch.get("a", slow), late);
        assert_eq!(first.unwrap().unwrap().as_deref(), Some("a"));
        assert_eq!(second.unwrap().unwrap().as_deref(), Some("b"));
        assert_eq!(calls.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn cancelling_the_first_caller_does_not_block_the_others() {
        let (batch, calls) = (Batch::new(3), AtomicUsize::new(0));
        let moment = Duration::from_millis(1);
        let mut first = Box::pin(get(&batch, "a", &calls));
        let mut second = Box::pin(get(&batch, "b", &calls));
        assert!(tokio::time::timeout(moment, &mut first).await.is_err());
        assert!(tokio::time::timeout(moment, &mut second).await.is_err());
        drop(first);
        assert!(second.await.is_none());
        assert_eq!(get(&batch, "c", &calls).await.unwrap().unwrap().as_deref(), Some("c"));
    }
}
