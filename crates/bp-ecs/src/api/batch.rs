//! Joining calls that several deployments make at the same moment into one.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use bp_artifact::{error::Classified, sync};
use tokio::sync::oneshot;

use crate::error::Error;

/// How long the first one waits for others.
const WINDOW: Duration = Duration::from_millis(10);

type Answer<T> = Result<Option<T>, Error>;

/// Who waits for which item. Whoever comes first asks for all.
#[derive(Debug)]
pub(crate) struct Batch<T> {
    waiting: Mutex<Vec<(String, oneshot::Sender<Answer<T>>)>>,
    /// How many items one call takes.
    size: usize,
}

impl<T: Clone> Batch<T> {
    pub(crate) fn new(size: usize) -> Self {
        Batch { waiting: Mutex::default(), size }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(String, oneshot::Sender<Answer<T>>)>> {
        sync::lock(&self.waiting)
    }

    /// The item `key`, asked for by `call` together with those that others want at this moment. `None` when the answer
    /// does not have it.
    ///
    /// What goes wrong with a joint call, and may be another item's fault, is tried again for each one alone.
    pub(crate) async fn ask<F>(
        &self,
        key: &str,
        call: impl Fn(Vec<String>) -> F,
        name: impl Fn(&T) -> String,
    ) -> Answer<T>
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
            let turn = Turn(self);
            tokio::time::sleep(WINDOW).await;
            let all = std::mem::take(&mut *self.lock());
            std::mem::forget(turn);
            self.ask_for_all(all, &call, &name).await;
        }
        match receiver.await {
            Ok(answer) => answer,
            // Whoever was to ask was cancelled, or the joint call failed.
            Err(_) => Ok(call(vec![key.to_owned()]).await?.into_iter().next()),
        }
    }

    async fn ask_for_all<F>(
        &self,
        mut all: Vec<(String, oneshot::Sender<Answer<T>>)>,
        call: &impl Fn(Vec<String>) -> F,
        name: &impl Fn(&T) -> String,
    ) where
        F: Future<Output = Result<Vec<T>, Error>>,
    {
        let mut keys: Vec<String> = all.iter().map(|(key, _)| key.clone()).collect();
        keys.sort_unstable();
        keys.dedup();
        for some in keys.chunks(self.size) {
            let (asked, later) = all.into_iter().partition(|(key, _)| some.contains(key));
            all = later;
            match call(some.to_vec()).await {
                Ok(found) => {
                    let found: HashMap<String, T> =
                        found.into_iter().map(|item| (name(&item), item)).collect();
                    for (key, sender) in asked {
                        // Whoever has gone needs no answer.
                        let _ = sender.send(Ok(found.get(&key).cloned()));
                    }
                }
                // Asking one by one would only add to an overload.
                Err(error) if error.is_retryable() => {
                    for (_, sender) in asked {
                        let _ = sender.send(Err(error.again()));
                    }
                }
                // Each asks alone, and gets an answer of its own.
                Err(_) => drop::<Vec<_>>(asked),
            }
        }
    }
}

/// The turn of the first one. Cancelled, it leaves nobody waiting for ever.
struct Turn<'a, T: Clone>(&'a Batch<T>);

impl<T: Clone> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        self.0.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;

    use super::*;

    async fn ask(batch: &Batch<String>, key: &str, calls: &AtomicUsize) -> Answer<String> {
        let call = |keys: Vec<String>| async move {
            calls.fetch_add(1, Ordering::SeqCst);
            assert!(keys.len() <= 3, "{keys:?}");
            match keys.iter().any(|key| key == "poison") {
                true => Err(Error::UnexpectedAnswer { operation: "ecs:Test", reason: "poison".into() }),
                false => Ok(keys.into_iter().filter(|key| key != "missing").collect()),
            }
        };
        batch.ask(key, call, String::clone).await
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_asked_at_once_is_one_call() {
        let (batch, calls) = (Batch::new(3), AtomicUsize::new(0));
        let keys = ["a", "b", "a", "c", "missing"];
        let answers = join_all(keys.map(|key| ask(&batch, key, &calls))).await;
        for (key, answer) in keys.iter().zip(answers) {
            assert_eq!(answer.unwrap().as_deref(), (*key != "missing").then_some(*key));
        }
        assert_eq!(calls.load(Ordering::SeqCst), 2, "four items, three a call");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_spoils_nothing_for_the_others() {
        let (batch, calls) = (Batch::new(3), AtomicUsize::new(0));
        let answers = join_all(["a", "poison"].map(|key| ask(&batch, key, &calls))).await;
        assert_eq!(answers[0].as_ref().unwrap().as_deref(), Some("a"));
        assert!(answers[1].is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_cancelled_leaves_nobody_waiting() {
        let (batch, calls) = (Batch::new(3), AtomicUsize::new(0));
        let moment = Duration::from_millis(1);
        let mut first = Box::pin(ask(&batch, "a", &calls));
        let mut second = Box::pin(ask(&batch, "b", &calls));
        assert!(tokio::time::timeout(moment, &mut first).await.is_err());
        assert!(tokio::time::timeout(moment, &mut second).await.is_err());
        drop(first);
        assert_eq!(second.await.unwrap().as_deref(), Some("b"));
    }
}
