//! What the cache knows, under its lock.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::CacheOptions;
use crate::{
    error::{Error, ErrorKind},
    reference::{ParameterVersion, Reference, SecretVersion},
    value::Stored,
};

/// What a read is answered with.
pub(super) type Answer = Result<Stored, Error>;

/// The canonical ARN and the version's id: their value never changes.
type Version = (String, String);

/// What the cache can say of a place.
pub(super) enum Found {
    Answer(Answer),
    UnderWay(watch::Receiver<Option<Answer>>),
    Nothing,
}

/// What a reference points at, and for how long that is trusted.
struct Place {
    points: Points,
    /// When the store said it.
    read: Instant,
    /// `None`: for ever, since it is a version by its id.
    fresh_until: Option<Instant>,
    used: u64,
}

enum Points {
    To(Arc<Held>),
    Nowhere(Error),
}

/// One version's value: `values` has it once, and each place that points at it once more.
struct Held {
    stored: Stored,
    used: AtomicU64,
}

impl Held {
    fn version(&self) -> Version {
        (self.stored.arn().to_owned(), self.stored.version().to_owned())
    }

    fn bytes(&self) -> usize {
        self.stored.value().expose_bytes().len()
    }
}

/// A question under way, and the flight that asks it.
struct Flight {
    number: u64,
    answer: watch::Receiver<Option<Answer>>,
}

pub(super) struct State {
    options: CacheOptions,
    places: HashMap<Reference, Place>,
    values: HashMap<Version, Arc<Held>>,
    flights: HashMap<Reference, Flight>,
    bytes: usize,
    /// Counts uses and flights.
    ticks: u64,
}

impl State {
    pub(super) fn new(options: CacheOptions) -> Self {
        State {
            options,
            places: HashMap::new(),
            values: HashMap::new(),
            flights: HashMap::new(),
            bytes: 0,
            ticks: 0,
        }
    }

    pub(super) fn places(&self) -> usize {
        self.places.len()
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

    pub(super) fn find(&mut self, place: &Reference, now: Instant) -> Found {
        if let Some(answer) = self.fresh(place, now) {
            return Found::Answer(answer);
        }
        match self.flights.get(place) {
            Some(flight) => Found::UnderWay(flight.answer.clone()),
            None => Found::Nothing,
        }
    }

    pub(super) fn fresh(&mut self, place: &Reference, now: Instant) -> Option<Answer> {
        let tick = self.tick();
        let place = self.places.get_mut(place)?;
        if place.fresh_until.is_some_and(|until| now >= until) {
            return None;
        }
        place.used = tick;
        match &place.points {
            Points::To(held) => {
                held.used.store(tick, Relaxed);
                // While the service is down, an old value is trusted again for a little; it is stale all the same.
                let age = now - place.read;
                let stale = place.fresh_until.is_some() && age > self.options.fresh_for;
                Some(Ok(held.stored.clone().with_staleness(stale.then_some(age))))
            }
            Points::Nowhere(error) => Some(Err(error.clone())),
        }
    }

    /// A flight asks for the place. One that asked before answers its own waiters and nobody else.
    pub(super) fn take_off(
        &mut self,
        place: &Reference,
        number: u64,
        answer: watch::Receiver<Option<Answer>>,
    ) {
        self.flights.insert(place.clone(), Flight { number, answer });
    }

    pub(super) fn cancel(&mut self, place: &Reference, number: u64) {
        if self.flights.get(place).is_some_and(|flight| flight.number == number) {
            self.flights.remove(place);
        }
    }

    /// Takes the store's answer, and says what the readers are told.
    pub(super) fn land(
        &mut self,
        place: &Reference,
        number: u64,
        answer: Answer,
        force: bool,
        now: Instant,
    ) -> Answer {
        // Overtaken by a refresh or an expiry: the answer may be from before it, and is not kept.
        let latest = self.flights.get(place).is_some_and(|flight| flight.number == number);
        self.cancel(place, number);
        match answer {
            Ok(stored) if latest => Ok(self.keep(place, stored, now)),
            Ok(stored) => Ok(stored),
            Err(error) if is_transient(&error) && !force => {
                // A refresh may have read it meanwhile.
                self.fresh(place, now).or_else(|| self.stale(place, now).map(Ok)).unwrap_or(Err(error))
            }
            Err(error) if is_transient(&error) => Err(error),
            Err(error) => {
                if latest {
                    self.remember_absence(place, &error, now);
                }
                Err(error)
            }
        }
    }

    fn keep(&mut self, place: &Reference, stored: Stored, now: Instant) -> Stored {
        let used = self.tick();
        let version = (stored.arn().to_owned(), stored.version().to_owned());
        let bytes = &mut self.bytes;
        let held = self.values.entry(version).or_insert_with(|| {
            let held = Held { stored, used: AtomicU64::new(used) };
            *bytes += held.bytes();
            Arc::new(held)
        });
        held.used.store(used, Relaxed);
        let held = Arc::clone(held);
        let stored = held.stored.clone();
        let fresh_until = (!is_immutable(place)).then(|| now + jittered(self.options.fresh_for));
        let new = Place { points: Points::To(held), read: now, fresh_until, used };
        self.replace(place, new);
        self.shrink();
        stored
    }

    fn replace(&mut self, place: &Reference, new: Place) {
        let old = self.places.insert(place.clone(), new);
        self.release(old);
    }

    fn remember_absence(&mut self, place: &Reference, error: &Error, now: Instant) {
        let used = self.tick();
        match self.options.absent_for {
            Duration::ZERO => {
                let old = self.places.remove(place);
                self.release(old);
            }
            time => {
                let fresh_until = Some(now + jittered(time));
                let points = Points::Nowhere(error.clone());
                self.replace(place, Place { points, read: now, fresh_until, used });
            }
        }
        self.shrink();
    }

    /// The last value, unless it is too old. The store is left alone for a little.
    fn stale(&mut self, place: &Reference, now: Instant) -> Option<Stored> {
        let (most_age, pause) = (self.options.most_age, self.options.fresh_for / 10);
        let place = self.places.get_mut(place)?;
        let Points::To(held) = &place.points else { return None };
        let age = now - place.read;
        if age > most_age {
            return None;
        }
        let left = most_age - age;
        place.fresh_until = Some(now + jittered(pause).min(left));
        Some(held.stored.clone().with_staleness(Some(age)))
    }

    /// Makes the places of a secret or parameter old. What was asked about them before is not kept.
    pub(super) fn expire(&mut self, id: &str, now: Instant) {
        let named: Option<Reference> = id.parse().ok();
        let name = named.as_ref().map_or(id, Reference::name);
        self.flights.retain(|place, _| !is_named(place, name));
        for (place, known) in self.places.iter_mut().filter(|(place, _)| is_named(place, name)) {
            if !is_immutable(place) {
                known.fresh_until = Some(now);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.flights.clear();
        self.places.clear();
        self.values.clear();
        self.bytes = 0;
    }

    /// Wipes what a place pointed at that is gone, unless another one does.
    fn release(&mut self, place: Option<Place>) {
        if let Some(Place { points: Points::To(held), .. }) = place
            && Arc::strong_count(&held) == 2
        {
            self.wipe(&held.version());
        }
    }

    fn wipe(&mut self, version: &Version) {
        if let Some(held) = self.values.remove(version) {
            self.bytes -= held.bytes();
        }
    }

    /// Lets a quarter go, the least recently used first, when a bound is passed.
    fn shrink(&mut self) {
        if self.bytes > self.options.most_bytes {
            let used = |(version, held): (&Version, &Arc<Held>)| (held.used.load(Relaxed), version.clone());
            let mut versions: Vec<(u64, Version)> = self.values.iter().map(used).collect();
            versions.sort_unstable();
            for (_, version) in versions {
                if self.bytes <= self.options.most_bytes / 4 * 3 {
                    break;
                }
                self.wipe(&version);
            }
            // What is wiped is held by its places alone.
            self.places.retain(|_, place| match &place.points {
                Points::To(held) => self.values.contains_key(&held.version()),
                Points::Nowhere(_) => true,
            });
        }
        if self.places.len() > self.options.most_places {
            let mut uses: Vec<u64> = self.places.values().map(|place| place.used).collect();
            uses.sort_unstable();
            let oldest_kept = uses[self.places.len() - self.options.most_places.div_ceil(4) * 3];
            let gone: Vec<Place> =
                self.places.extract_if(|_, place| place.used < oldest_kept).map(|(_, place)| place).collect();
            gone.into_iter().for_each(|place| self.release(Some(place)));
        }
    }
}

/// What may be well again soon, so that the last value is better than none.
fn is_transient(error: &Error) -> bool {
    error.is_retryable() || *error.kind() == ErrorKind::Credentials
}

/// Whether the reference names a version that never changes.
fn is_immutable(place: &Reference) -> bool {
    match place {
        Reference::Secret(secret) => matches!(secret.version(), SecretVersion::Id(_)),
        Reference::Parameter(parameter) => matches!(parameter.version(), ParameterVersion::Number(_)),
    }
}

/// Whether the place is of the secret or parameter with this name. An ARN's name may lack its slash, or end in what
/// only looks like a suffix: then more grows old than must.
fn is_named(place: &Reference, name: &str) -> bool {
    let name = name.trim_start_matches('/');
    place.name().trim_start_matches('/') == name || place.arn().is_some_and(|arn| arn.resource() == name)
}

/// Up to a fifth less, so that what was read together does not grow old together.
fn jittered(time: Duration) -> Duration {
    time.mul_f64(1.0 - 0.2 * fastrand::f64())
}
