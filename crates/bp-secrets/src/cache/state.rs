//! State of the cache, behind its lock: entries, values and in-flight requests.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bp_artifact::time::after;
use tokio::{sync::watch, time::Instant};

use super::CacheOptions;
use crate::{
    error::{Error, ErrorKind},
    reference::{ParameterVersion, Reference, SecretVersion},
    value::Stored,
};

/// The result of a read.
pub(super) type Answer = Result<Stored, Error>;

/// Key of a value: the full ARN and the version id, whose value never changes.
type Version = (String, String);

/// Result of a cache lookup.
pub(super) enum Found {
    Answer(Answer),
    InFlight(watch::Receiver<Option<Answer>>),
    Nothing,
}

/// The cached result for a reference, and how long it is fresh.
struct Entry {
    target: Target,
    /// When the store returned it.
    read: Instant,
    /// `None`: never expires, because the reference is to a version id or number.
    fresh_until: Option<Instant>,
    used: u64,
}

enum Target {
    Value(Arc<CachedValue>),
    Absent(Error),
}

/// The value of one version. It has one `Arc` in `values`, and one in each entry that points to it.
struct CachedValue {
    stored: Stored,
    used: AtomicU64,
}

impl CachedValue {
    fn version(&self) -> Version {
        (self.stored.arn().to_owned(), self.stored.version().to_owned())
    }

    fn bytes(&self) -> usize {
        self.stored.value().expose_bytes().len()
    }
}

/// An in-flight request for one reference; the number identifies the batch that it is sent in.
struct Flight {
    number: u64,
    answer: watch::Receiver<Option<Answer>>,
}

pub(super) struct State {
    options: CacheOptions,
    entries: HashMap<Reference, Entry>,
    values: HashMap<Version, Arc<CachedValue>>,
    flights: HashMap<Reference, Flight>,
    bytes: usize,
    /// Logical clock: incremented for each use and each request.
    ticks: u64,
}

impl State {
    pub(super) fn new(options: CacheOptions) -> Self {
        State {
            options,
            entries: HashMap::new(),
            values: HashMap::new(),
            flights: HashMap::new(),
            bytes: 0,
            ticks: 0,
        }
    }

    pub(super) fn entries(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn versions(&self) -> usize {
        self.values.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn tick(&mut self) -> u64 {
        self.ticks += 1;
        self.ticks
    }

    pub(super) fn next_flight(&mut self) -> u64 {
        self.tick()
    }

    pub(super) fn find(&mut self, reference: &Reference, now: Instant) -> Found {
        if let Some(answer) = self.fresh(reference, now) {
            return Found::Answer(answer);
        }
        match self.flights.get(reference) {
            Some(flight) => Found::InFlight(flight.answer.clone()),
            None => Found::Nothing,
        }
    }

    pub(super) fn fresh(&mut self, reference: &Reference, now: Instant) -> Option<Answer> {
        let tick = self.tick();
        let entry = self.entries.get_mut(reference)?;
        if entry.fresh_until.is_some_and(|until| now >= until) {
            return None;
        }
        entry.used = tick;
        match &entry.target {
            Target::Value(value) => {
                value.used.store(tick, Relaxed);
                // While the service is unreachable, `fresh_until` of a stale value is extended; the value is still
                // stale.
                let age = now - entry.read;
                let stale = entry.fresh_until.is_some() && age > self.options.fresh_for;
                Some(Ok(value.stored.clone().with_staleness(stale.then_some(age))))
            }
            Target::Absent(error) => Some(Err(error.clone())),
        }
    }

    /// Records an in-flight request. It replaces an older one for the same reference, which then answers only the
    /// readers that already wait for it.
    pub(super) fn start_flight(
        &mut self,
        reference: &Reference,
        number: u64,
        answer: watch::Receiver<Option<Answer>>,
    ) {
        self.flights.insert(reference.clone(), Flight { number, answer });
    }

    pub(super) fn cancel(&mut self, reference: &Reference, number: u64) {
        if self.flights.get(reference).is_some_and(|flight| flight.number == number) {
            self.flights.remove(reference);
        }
    }

    /// Caches the store's answer, and returns the answer for the readers.
    pub(super) fn finish_flight(
        &mut self,
        reference: &Reference,
        number: u64,
        answer: Answer,
        force: bool,
        now: Instant,
    ) -> Answer {
        // Not the latest: superseded by a refresh or an expiry, so the answer may be older and is not cached.
        let latest = self.flights.get(reference).is_some_and(|flight| flight.number == number);
        self.cancel(reference, number);
        match answer {
            Ok(stored) if latest => Ok(self.insert(reference, stored, now)),
            Ok(stored) => Ok(stored),
            Err(error) if is_transient(&error) && !force => {
                // A concurrent refresh may have succeeded.
                self.fresh(reference, now)
                    .or_else(|| self.stale(reference, now).map(Ok))
                    .unwrap_or(Err(error))
            }
            Err(error) if is_transient(&error) => Err(error),
            Err(error) => {
                if latest {
                    self.insert_absent(reference, &error, now);
                }
                Err(error)
            }
        }
    }

    fn insert(&mut self, reference: &Reference, stored: Stored, now: Instant) -> Stored {
        let used = self.tick();
        let version = (stored.arn().to_owned(), stored.version().to_owned());
        let bytes = &mut self.bytes;
        let value = self.values.entry(version).or_insert_with(|| {
            let value = CachedValue { stored, used: AtomicU64::new(used) };
            *bytes += value.bytes();
            Arc::new(value)
        });
        value.used.store(used, Relaxed);
        let value = Arc::clone(value);
        let stored = value.stored.clone();
        let fresh_until = (!is_immutable(reference)).then(|| after(now, jittered(self.options.fresh_for)));
        let new = Entry { target: Target::Value(value), read: now, fresh_until, used };
        self.replace(reference, new);
        self.evict();
        stored
    }

    fn replace(&mut self, reference: &Reference, new: Entry) {
        let old = self.entries.insert(reference.clone(), new);
        self.release(old);
    }

    fn insert_absent(&mut self, reference: &Reference, error: &Error, now: Instant) {
        let used = self.tick();
        match self.options.absent_for {
            Duration::ZERO => {
                let old = self.entries.remove(reference);
                self.release(old);
            }
            time => {
                let fresh_until = Some(after(now, jittered(time)));
                let target = Target::Absent(error.clone());
                self.replace(reference, Entry { target, read: now, fresh_until, used });
            }
        }
        self.evict();
    }

    /// The last value, unless it exceeds the maximum age. Postpones the next call to the store.
    fn stale(&mut self, reference: &Reference, now: Instant) -> Option<Stored> {
        let (max_age, pause) = (self.options.max_age, self.options.fresh_for / 10);
        let entry = self.entries.get_mut(reference)?;
        let Target::Value(value) = &entry.target else { return None };
        let age = now - entry.read;
        if age > max_age {
            return None;
        }
        let left = max_age - age;
        entry.fresh_until = Some(now + jittered(pause).min(left));
        Some(value.stored.clone().with_staleness(Some(age)))
    }

    /// Expires the entries of a secret or parameter. Answers of requests in flight are not cached.
    pub(super) fn expire(&mut self, id: &str, now: Instant) {
        let parsed: Option<Reference> = id.parse().ok();
        let name = parsed.as_ref().map_or(id, Reference::name);
        self.flights.retain(|reference, _| !has_name(reference, name));
        for (reference, entry) in self.entries.iter_mut().filter(|(reference, _)| has_name(reference, name)) {
            if !is_immutable(reference) {
                entry.fresh_until = Some(now);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.flights.clear();
        self.entries.clear();
        self.values.clear();
        self.bytes = 0;
    }

    /// Wipes the value of a removed entry, unless another entry points to it.
    fn release(&mut self, entry: Option<Entry>) {
        if let Some(Entry { target: Target::Value(value), .. }) = entry
            && Arc::strong_count(&value) == 2
        {
            self.wipe(&value.version());
        }
    }

    fn wipe(&mut self, version: &Version) {
        if let Some(value) = self.values.remove(version) {
            self.bytes -= value.bytes();
        }
    }

    /// When a limit is exceeded, evicts the least recently used down to three quarters of it.
    fn evict(&mut self) {
        if self.bytes > self.options.max_bytes {
            let used =
                |(version, value): (&Version, &Arc<CachedValue>)| (value.used.load(Relaxed), version.clone());
            let mut versions: Vec<(u64, Version)> = self.values.iter().map(used).collect();
            versions.sort_unstable();
            for (_, version) in versions {
                if self.bytes <= self.options.max_bytes / 4 * 3 {
                    break;
                }
                self.wipe(&version);
            }
            // A removed value is still referenced by its entries.
            self.entries.retain(|_, entry| match &entry.target {
                Target::Value(value) => self.values.contains_key(&value.version()),
                Target::Absent(_) => true,
            });
        }
        if self.entries.len() > self.options.max_entries {
            let mut uses: Vec<u64> = self.entries.values().map(|entry| entry.used).collect();
            uses.sort_unstable();
            let oldest_kept = uses[self.entries.len() - self.options.max_entries.div_ceil(4) * 3];
            let evicted: Vec<Entry> = self
                .entries
                .extract_if(|_, entry| entry.used < oldest_kept)
                .map(|(_, entry)| entry)
                .collect();
            evicted.into_iter().for_each(|entry| self.release(Some(entry)));
        }
    }
}

/// Whether the error may be temporary, so that the last value is served instead.
fn is_transient(error: &Error) -> bool {
    error.is_retryable() || *error.kind() == ErrorKind::Credentials
}

/// Whether the reference is to a version that never changes.
fn is_immutable(reference: &Reference) -> bool {
    match reference {
        Reference::Secret(secret) => matches!(secret.version(), SecretVersion::Id(_)),
        Reference::Parameter(parameter) => matches!(parameter.version(), ParameterVersion::Number(_)),
    }
}

/// Whether the reference is to the secret or parameter with this name. The name in an ARN may lack its leading slash,
/// or end in characters that only resemble a suffix; then unrelated entries may match and expire early.
fn has_name(reference: &Reference, name: &str) -> bool {
    let name = name.trim_start_matches('/');
    reference.name().trim_start_matches('/') == name
        || reference.arn().is_some_and(|arn| arn.resource() == name)
}

/// Reduces `time` by up to a fifth, so that values that were read together do not expire together.
fn jittered(time: Duration) -> Duration {
    time.mul_f64(1.0 - 0.2 * fastrand::f64())
}
