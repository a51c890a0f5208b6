//! A cache in front of a store.

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

/// A cache in front of a store, itself a store. Cheap to clone; all clones are the same cache.
///
/// - *One flight for each place*: a thousand readers that miss at the same time make one call, and one reader's misses
///   go out in one batch. When the reader that made the call is dropped, another makes it again.
/// - *Keyed by version*: a secret by name, by ARN and by version id is one value in memory. Only what a stage or label
///   points at grows old, at a moment with jitter; a version by its id or number never does.
/// - *Stale rather than nothing*: while the service is unreachable, the last value is served up to a hard age, and
///   [`Stored::stale_for`] says so. What is deleted or denied is not served.
/// - *Absence is remembered* for a short time, so that a missing secret is not asked for a thousand times.
/// - *[`refresh`](Cache::refresh) reads through*, and no answer to a question from before it is kept after it.
/// - *Bounded*: the values least recently used go when there are too many bytes or places.
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

    /// Reads whole values from the store, whatever the cache holds, and keeps what it finds. A failure is told, not
    /// covered by a stale value, and changes nothing in the cache unless the value is gone or denied.
    ///
    /// # Permissions
    /// Those of the store's `read`.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn refresh(&self, references: &[Reference]) -> Vec<Result<Stored, Error>> {
        self.through(references, true).await
    }

    /// Makes every place of the secret or parameter with this name or ARN old, so that the next reader asks again: what
    /// to call with the `name` of EventBridge's `Secret Label Updated`.
    pub fn expire(&self, name_or_arn: &str) {
        self.lock().expire(name_or_arn, Instant::now());
    }

    /// Forgets everything, and wipes what no reader still has.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// How many places are known and how many bytes of values are held.
    pub fn size(&self) -> CacheSize {
        let state = self.lock();
        CacheSize { places: state.places(), versions: state.versions(), bytes: state.bytes() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.0.state)
    }

    async fn through(&self, references: &[Reference], force: bool) -> Vec<Result<Stored, Error>> {
        let wholes: Vec<Reference> = references.iter().map(Reference::whole).collect();
        let mut answers: Vec<Option<Answer>> = vec![None; wholes.len()];
        while answers.iter().any(Option::is_none) {
            let (lead, waits) = self.begin(&wholes, &mut answers, force);
            // Polled together: two readers that lead what the other waits for do not lock each other out.
            let ((), landed) = join(lead.fly(), join_all(waits)).await;
            for (at, answer) in landed {
                answers[at] = answer;
            }
        }
        let answers = references.iter().zip(answers.into_iter().flatten());
        answers.map(|(reference, answer)| answer.map_err(|error| error.about(reference))).collect()
    }

    /// Answers what the cache can, and says which flights to wait for: those under way, and the one to lead.
    fn begin(
        &self,
        wholes: &[Reference],
        answers: &mut [Option<Answer>],
        force: bool,
    ) -> (Lead<S>, Vec<impl Future<Output = (usize, Option<Answer>)> + use<S>>) {
        let now = Instant::now();
        let mut state = self.lock();
        let mut lead =
            Lead { cache: self.clone(), flight: state.next_flight(), force, senders: HashMap::new() };
        let mut waits = Vec::new();
        for (at, whole) in
            wholes.iter().enumerate().filter(|(at, _)| answers[*at].is_none()).collect::<Vec<_>>()
        {
            let found = match lead.senders.get(whole) {
                Some(sender) => Found::UnderWay(sender.subscribe()),
                None if force => Found::Nothing,
                None => state.find(whole, now),
            };
            match found {
                Found::Answer(answer) => answers[at] = Some(answer),
                Found::UnderWay(flight) => waits.push(landing(at, flight)),
                Found::Nothing => {
                    let (sender, flight) = watch::channel(None);
                    state.take_off(whole, lead.flight, flight.clone());
                    lead.senders.insert(whole.clone(), sender);
                    waits.push(landing(at, flight));
                }
            }
        }
        (lead, waits)
    }
}

/// The answer of a flight, `None` when whoever led it was dropped.
async fn landing(at: usize, mut flight: watch::Receiver<Option<Answer>>) -> (usize, Option<Answer>) {
    let answer = flight.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone());
    (at, answer)
}

/// The places that one reader asks the store for.
struct Lead<S: Store> {
    cache: Cache<S>,
    flight: u64,
    force: bool,
    senders: HashMap<Reference, watch::Sender<Option<Answer>>>,
}

impl<S: Store> Lead<S> {
    async fn fly(mut self) {
        if self.senders.is_empty() {
            return;
        }
        let places: Vec<Reference> = self.senders.keys().cloned().collect();
        let answers = self.cache.0.store.read(&places).await;
        let now = Instant::now();
        let cache = self.cache.clone();
        let mut state = cache.lock();
        for (place, answer) in places.into_iter().zip(answers) {
            let answer = state.land(&place, self.flight, answer, self.force, now);
            if let Some(sender) = self.senders.remove(&place) {
                sender.send_replace(Some(answer));
            }
        }
    }
}

/// Dropped under way: the waiters find their flight gone, and one of them leads another.
impl<S: Store> Drop for Lead<S> {
    fn drop(&mut self) {
        if !self.senders.is_empty() {
            let mut state = self.cache.lock();
            self.senders.keys().for_each(|place| state.cancel(place, self.flight));
        }
    }
}

impl<S: Store> Store for Cache<S> {
    async fn read(&self, references: &[Reference]) -> Vec<Result<Stored, Error>> {
        self.through(references, false).await
    }

    /// A hit takes one look under the lock, and copies nothing but the value of a key.
    async fn fetch_one(&self, reference: &Reference) -> Result<Fetched, Error> {
        let whole = match reference.key() {
            None => Cow::Borrowed(reference),
            Some(_) => Cow::Owned(reference.whole()),
        };
        let hit = self.lock().fresh(&whole, Instant::now());
        match hit {
            Some(Ok(stored)) => json::pick(reference, &stored),
            Some(Err(error)) => Err(error.about(reference)),
            None => {
                let mut answers = self.fetch(std::slice::from_ref(reference)).await;
                answers.pop().unwrap_or_else(|| Err(Error::new(reference, ErrorKind::Unreadable)))
            }
        }
    }

    /// Asks the store: what is there is not cached.
    async fn describe(&self, references: &[Reference]) -> Vec<Result<Description, Error>> {
        self.0.store.describe(references).await
    }
}

/// What a cache holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheSize {
    /// Places that are known: names, ARNs, stages, and those known to be absent.
    pub places: usize,
    /// Versions whose values are held.
    pub versions: usize,
    /// Bytes of these values.
    pub bytes: usize,
}

impl<S> fmt::Debug for Cache<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.0.state);
        f.debug_struct("Cache")
            .field("places", &state.places())
            .field("versions", &state.versions())
            .field("bytes", &state.bytes())
            .finish_non_exhaustive()
    }
}
