//! Cache for secrets and parameters: request coalescing, time to live, stale reads and size limits.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "counts, ages and positions that the cache keeps itself"
)]

mod options;
mod state;

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard},
};

use bp_artifact::sync::lock;

use futures_util::future::{join, join_all};
use tokio::{sync::watch, time::Instant};

pub use self::options::{CacheOptions, CacheOptionsError};
use self::state::{Answer, Found, State};
use crate::{
    error::{Error, ErrorKind},
    json,
    reference::Reference,
    store::{Description, Store},
    value::{Fetched, Stored},
};

/// A cache in front of a store; it implements [`Store`] itself. Cheap to clone; all clones share one cache.
///
/// - *Coalesces requests*: a thousand readers that miss concurrently make one call, and the misses of one reader are
///   sent in one batch. When the reader that makes the call is dropped, another reader repeats it.
/// - *Keyed by version*: a secret by name, by ARN and by version id share one value in memory. A reference to a stage
///   or label expires, with jitter; a reference to a version id or number never does.
/// - *Serves stale values*: while the service is unreachable, the last value is served up to a maximum age, and
///   [`Stored::stale_for`] returns that age. A deleted secret, or one whose access is denied, is not served.
/// - *Caches absence* for a short time, so that a missing secret is not requested again and again.
/// - *[`refresh`](Cache::refresh) bypasses the cache*; responses to requests sent before it are not cached after it.
/// - *Bounded*: the least recently used values are evicted when a limit of bytes or entries is exceeded.
///
/// ```no_run
/// use bp_secrets::{Cache, SecretsManager, Store as _, cache::CacheOptions};
///
/// # async fn example(config: aws_types::SdkConfig) -> Result<(), Box<dyn std::error::Error>> {
/// let store = SecretsManager::new(aws_sdk_secretsmanager::Client::new(&config));
/// let secrets = Cache::new(store, CacheOptions::default());
/// let password = secrets.fetch_one(&"secretsmanager:prod/db:password::".parse()?).await?;
/// if let Some(age) = password.stale_for() {
///     println!("Secrets Manager is unreachable: the password was read {age:?} ago");
/// }
/// # Ok(()) }
/// ```
pub struct Cache<S>(Arc<Shared<S>>);

struct Shared<S> {
    store: S,
    state: Mutex<State>,
}

impl<S> Clone for Cache<S> {
    fn clone(&self) -> Self {
        Cache(Arc::clone(&self.0))
    }
}

impl<S: Store> Cache<S> {
    /// Puts a cache in front of `store`.
    pub fn new(store: S, options: CacheOptions) -> Self {
        Cache(Arc::new(Shared { store, state: Mutex::new(State::new(options)) }))
    }

    /// Reads whole values from the store, bypassing the cache, and caches them. A failure is returned, not replaced by
    /// a stale value, and leaves the cache unchanged unless the value is missing, deleted or denied.
    ///
    /// # Permissions
    /// Those of [`Store::read`] of the wrapped store.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn refresh(&self, references: &[Reference]) -> Vec<Result<Stored, Error>> {
        self.read_all(references, true).await
    }

    /// Expires every entry of the secret or parameter with this name or ARN, so that the next reader reads it again.
    /// Call it with the `name` of EventBridge's `Secret Label Updated` event.
    pub fn expire(&self, name_or_arn: &str) {
        self.lock().expire(name_or_arn, Instant::now());
    }

    /// Removes all entries, and wipes the values that no reader still holds.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// The number of entries and values, and the bytes of the values.
    pub fn size(&self) -> CacheSize {
        let state = self.lock();
        CacheSize { entries: state.entries(), versions: state.versions(), bytes: state.bytes() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.0.state)
    }

    async fn read_all(&self, references: &[Reference], force: bool) -> Vec<Result<Stored, Error>> {
        let whole_refs: Vec<Reference> = references.iter().map(Reference::whole).collect();
        let mut answers: Vec<Option<Answer>> = vec![None; whole_refs.len()];
        while answers.iter().any(Option::is_none) {
            let (leader, waits) = self.begin(&whole_refs, &mut answers, force);
            // Polled together: two readers that each wait for the other's request would deadlock otherwise.
            let ((), received) = join(leader.run(), join_all(waits)).await;
            for (at, answer) in received {
                answers[at] = answer;
            }
        }
        let answers = references.iter().zip(answers.into_iter().flatten());
        answers.map(|(reference, answer)| answer.map_err(|error| error.for_reference(reference))).collect()
    }

    /// Fills in the answers that are cached; returns the request to send, and all in-flight requests to wait for.
    fn begin(
        &self,
        whole_refs: &[Reference],
        answers: &mut [Option<Answer>],
        force: bool,
    ) -> (Leader<S>, Vec<impl Future<Output = (usize, Option<Answer>)> + use<S>>) {
        let now = Instant::now();
        let mut state = self.lock();
        let mut leader =
            Leader { cache: self.clone(), flight: state.next_flight(), force, senders: HashMap::new() };
        let mut waits = Vec::new();
        for (at, whole) in
            whole_refs.iter().enumerate().filter(|(at, _)| answers[*at].is_none()).collect::<Vec<_>>()
        {
            let found = match leader.senders.get(whole) {
                Some(sender) => Found::InFlight(sender.subscribe()),
                None if force => Found::Nothing,
                None => state.find(whole, now),
            };
            match found {
                Found::Answer(answer) => answers[at] = Some(answer),
                Found::InFlight(flight) => waits.push(receive(at, flight)),
                Found::Nothing => {
                    let (sender, flight) = watch::channel(None);
                    state.start_flight(whole, leader.flight, flight.clone());
                    leader.senders.insert(whole.clone(), sender);
                    waits.push(receive(at, flight));
                }
            }
        }
        (leader, waits)
    }
}

/// Waits for the answer of an in-flight request; `None` when its leader was dropped.
async fn receive(at: usize, mut flight: watch::Receiver<Option<Answer>>) -> (usize, Option<Answer>) {
    let answer = flight.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone());
    (at, answer)
}

/// The reader that sends a request to the store on behalf of all readers that wait for it.
struct Leader<S: Store> {
    cache: Cache<S>,
    flight: u64,
    force: bool,
    senders: HashMap<Reference, watch::Sender<Option<Answer>>>,
}

impl<S: Store> Leader<S> {
    async fn run(mut self) {
        if self.senders.is_empty() {
            return;
        }
        let whole_refs: Vec<Reference> = self.senders.keys().cloned().collect();
        let answers = self.cache.0.store.read(&whole_refs).await;
        let now = Instant::now();
        let cache = self.cache.clone();
        let mut state = cache.lock();
        for (whole, answer) in whole_refs.into_iter().zip(answers) {
            let answer = state.finish_flight(&whole, self.flight, answer, self.force, now);
            if let Some(sender) = self.senders.remove(&whole) {
                sender.send_replace(Some(answer));
            }
        }
    }
}

/// Dropped before the response: the waiting readers notice that the sender is closed, and one of them becomes the
/// leader.
impl<S: Store> Drop for Leader<S> {
    fn drop(&mut self) {
        if !self.senders.is_empty() {
            let mut state = self.cache.lock();
            self.senders.keys().for_each(|whole| state.cancel(whole, self.flight));
        }
    }
}

impl<S: Store> Store for Cache<S> {
    async fn read(&self, references: &[Reference]) -> Vec<Result<Stored, Error>> {
        self.read_all(references, false).await
    }

    /// A hit locks the cache once, and copies only the value of a JSON key.
    async fn fetch_one(&self, reference: &Reference) -> Result<Fetched, Error> {
        let whole = match reference.key() {
            None => Cow::Borrowed(reference),
            Some(_) => Cow::Owned(reference.whole()),
        };
        let hit = self.lock().fresh(&whole, Instant::now());
        match hit {
            Some(Ok(stored)) => json::pick(reference, &stored),
            Some(Err(error)) => Err(error.for_reference(reference)),
            None => {
                let mut answers = self.fetch(std::slice::from_ref(reference)).await;
                answers.pop().unwrap_or_else(|| Err(Error::new(reference, ErrorKind::Unreadable)))
            }
        }
    }

    /// Calls the store: descriptions are not cached.
    async fn describe(&self, references: &[Reference]) -> Vec<Result<Description, Error>> {
        self.0.store.describe(references).await
    }
}

/// The size of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheSize {
    /// Cached references: by name, ARN, stage or version, including those cached as absent.
    pub entries: usize,
    /// Distinct versions whose values are cached.
    pub versions: usize,
    /// Bytes of these values.
    pub bytes: usize,
}

impl<S> fmt::Debug for Cache<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.0.state);
        f.debug_struct("Cache")
            .field("entries", &state.entries())
            .field("versions", &state.versions())
            .field("bytes", &state.bytes())
            .finish_non_exhaustive()
    }
}
