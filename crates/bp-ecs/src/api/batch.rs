//! Batching: joins concurrent API calls of several deployments into one.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use bp_artifact::{error::Classified, sync};
use tokio::sync::oneshot;

use crate::error::Error;

/// How long the first caller waits for others.
const WINDOW: Duration = Duration::from_millis(10);

type ItemResult<T> = Result<Option<T>, Error>;

/// Callers that wait for items. The first one makes the call for all.
#[derive(Debug)]
pub(crate) struct Batch<T> {
    waiting: Mutex<Vec<(String, oneshot::Sender<ItemResult<T>>)>>,
    /// The maximum number of items per call.
    size: usize,
}

impl<T: Clone> Batch<T> {
    pub(crate) fn new(size: usize) -> Self {
        Batch { waiting: Mutex::default(), size }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(String, oneshot::Sender<ItemResult<T>>)>> {
        sync::lock(&self.waiting)
    }

    /// Returns the item `key`, requested by `call` together with the items of concurrent callers. `None` when the
    /// response lacks it.
    ///
    /// A joint call that fails, possibly because of another item, is repeated for each item alone.
    pub(crate) async fn get<F>(
        &self,
        key: &str,
        call: impl Fn(Vec<String>) -> F,
        name: impl Fn(&T) -> String,
    ) -> ItemResult<T>
    where
        F: Future<Output = Result<Vec<T>, Error>>,
    {
        let (sender, receiver) = oneshot::channel();
        let first = {
            let mut waiting = self.lock();
            waiting.push((key.to_owned(), sender));
            waiting.len() == 1
        };
        if first {
            let guard = LeaderGuard(self);
            tokio::time::sleep(WINDOW).await;
            let all = std::mem::take(&mut *self.lock());
            std::mem::forget(guard);
            self.call_for_all(all, &call, &name).await;
        }
        match receiver.await {
            Ok(result) => result,
            // The first caller was cancelled, or the joint call failed.
            Err(_) => Ok(call(vec![key.to_owned()]).await?.into_iter().next()),
        }
    }

    async fn call_for_all<F>(
        &self,
        mut all: Vec<(String, oneshot::Sender<ItemResult<T>>)>,
        call: &impl Fn(Vec<String>) -> F,
        name: &impl Fn(&T) -> String,
    ) where
        F: Future<Output = Result<Vec<T>, Error>>,
    {
        let mut keys: Vec<String> = all.iter().map(|(key, _)| key.clone()).collect();
        keys.sort_unstable();
        keys.dedup();
        for some in keys.chunks(self.size) {
            let (requested, later) = all.into_iter().partition(|(key, _)| some.contains(key));
            all = later;
            match call(some.to_vec()).await {
                Ok(found) => {
                    let found: HashMap<String, T> =
                        found.into_iter().map(|item| (name(&item), item)).collect();
                    for (key, sender) in requested {
                        // A cancelled caller has dropped its receiver.
                        let _ = sender.send(Ok(found.get(&key).cloned()));
                    }
                }
                // Single calls would add to an overload.
                Err(error) if error.is_retryable() => {
                    for (_, sender) in requested {
                        let _ = sender.send(Err(error.copy_for_waiter()));
                    }
                }
                // Dropping the senders makes each caller repeat the call alone.
                Err(_) => drop::<Vec<_>>(requested),
            }
        }
    }
}

/// Releases the waiting callers when the first one is cancelled.
struct LeaderGuard<'a, T: Clone>(&'a Batch<T>);

impl<T: Clone> Drop for LeaderGuard<'_, T> {
    fn drop(&mut self) {
        self.0.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;

    use super::*;

    async fn get(batch: &Batch<String>, key: &str, calls: &AtomicUsize) -> ItemResult<String> {
        let call = |keys: Vec<String>| async move {
            calls.fetch_add(1, Ordering::SeqCst);
            assert!(keys.len() <= 3, "{keys:?}");
            if keys.iter().any(|key| key == "poison") {
                Err(Error::UnexpectedAnswer { operation: "ecs:Test", reason: "poison".into() })
            } else {
                Ok(keys.into_iter().filter(|key| key != "missing").collect())
            }
        };
        batch.get(key, call, String::clone).await
    }

    #[tokio::test(start_paused = true)]
    async fn joins_concurrent_calls() {
        let (batch, calls) = (Batch::new(3), AtomicUsize::new(0));
        let keys = ["a", "b", "a", "c", "missing"];
        let results = join_all(keys.map(|key| get(&batch, key, &calls))).await;
        for (key, result) in keys.iter().zip(results) {
            assert_eq!(result.unwrap().as_deref(), (*key != "missing").then_some(*key));
        }
        assert_eq!(calls.load(Ordering::SeqCst), 2, "four items, three per call");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_item_does_not_affect_the_others() {
        let (batch, calls) = (Batch::new(3), AtomicUsize::new(0));
        let results = join_all(["a", "poison"].map(|key| get(&batch, key, &calls))).await;
        assert_eq!(results[0].as_ref().unwrap().as_deref(), Some("a"));
        assert!(results[1].is_err());
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
        assert_eq!(second.await.unwrap().as_deref(), Some("b"));
    }
}
