//! How fast a registry is asked: as many requests at a time as it takes, and no faster than it allows.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use bp_artifact::sync::lock;

use http::Method;
use tokio::{sync::Notify, time::Instant};

use super::profile::{Quota, Quotas};

/// Requests to one registry. The bound on those under way halves when the registry throttles, and grows by one with
/// each round of requests that it takes.
pub(super) struct Pace {
    state: Mutex<State>,
    /// Wakes who waits with an upload, and who waits with anything else.
    freed: [Notify; 2],
    quotas: Option<Quotas>,
    budgets: Budgets,
}

struct State {
    bound: f64,
    under_way: usize,
    /// How many of those send a blob.
    uploads: usize,
    throttled: Option<Instant>,
}

impl State {
    /// Within one registry an upload may wait for its source to be read on. So one other request goes on even where
    /// uploads have taken all turns: else they would wait for each other for ever.
    fn is_free(&self, upload: bool) -> bool {
        self.under_way < self.bound as usize || !upload && self.under_way == self.uploads
    }
}

/// A request under way.
pub(super) struct Slot<'a> {
    pace: &'a Pace,
    upload: bool,
}

impl Pace {
    /// As many streams as servers of HTTP/2 usually allow, with some left for others.
    const MOST: f64 = 64.0;
    /// Requests that were under way together are throttled together: that counts once.
    const ROUND: Duration = Duration::from_secs(1);

    pub(super) fn new(quotas: Option<Quotas>) -> Self {
        let state = State { bound: Self::MOST, under_way: 0, uploads: 0, throttled: None };
        Pace { state: Mutex::new(state), freed: Default::default(), quotas, budgets: Budgets::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Waits for a turn.
    pub(super) async fn turn(&self, method: &Method, path: &str) -> Slot<'_> {
        if let Some(quota) = self.quotas.and_then(|quota| quota(method, path)) {
            tokio::time::sleep_until(self.budgets.take(quota)).await;
        }
        let upload = matches!(*method, Method::PUT | Method::PATCH) && path.contains("/blobs/uploads/");
        loop {
            {
                let mut state = self.lock();
                if state.is_free(upload) {
                    state.under_way += 1;
                    state.uploads += usize::from(upload);
                    return Slot { pace: self, upload };
                }
            }
            self.freed[usize::from(upload)].notified().await;
        }
    }

    /// The registry took a request.
    pub(super) fn taken(&self) {
        let mut state = self.lock();
        if state.bound < Self::MOST {
            state.bound = (state.bound + 1.0 / state.bound).min(Self::MOST);
            self.freed.iter().for_each(Notify::notify_one);
        }
    }

    /// The registry throttled a request.
    pub(super) fn throttled(&self) {
        let mut state = self.lock();
        if state.throttled.is_none_or(|last| last.elapsed() >= Self::ROUND) {
            state.throttled = Some(Instant::now());
            state.bound = (state.bound / 2.0).max(1.0);
        }
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut state = self.pace.lock();
        state.under_way -= 1;
        state.uploads -= usize::from(self.upload);
        drop(state);
        self.pace.freed.iter().for_each(Notify::notify_one);
    }
}

/// How much of each quota is left: a second's worth at once, then evenly.
#[derive(Default)]
struct Budgets(Mutex<HashMap<Quota, Instant>>);

impl Budgets {
    /// Takes one, and tells when it may be used.
    fn take(&self, quota: Quota) -> Instant {
        let now = Instant::now();
        let mut full = lock(&self.0);
        // When the budget will be whole again, and no sooner than now.
        let whole = full.entry(quota).or_insert(now);
        *whole = (*whole).max(now) + Duration::from_secs(1) / quota.rate;
        (*whole - Duration::from_secs(1)).max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "/v2/shop/web/manifests/v1";

    /// Ten pushes a second, and as many reads.
    fn ten(method: &Method, _: &str) -> Option<Quota> {
        let name = if *method == Method::PUT { "push" } else { "read" };
        Some(Quota { name, rate: 10 })
    }

    #[tokio::test(start_paused = true)]
    async fn a_seconds_worth_goes_at_once_and_the_rest_at_the_published_rate() {
        let pace = Pace::new(Some(ten));
        let start = Instant::now();
        for _ in 0..10 {
            pace.turn(&Method::PUT, MANIFEST).await;
        }
        assert!(start.elapsed() < Duration::from_millis(10), "{:?}", start.elapsed());
        for _ in 0..30 {
            pace.turn(&Method::PUT, MANIFEST).await;
        }
        let took = start.elapsed();
        assert!((Duration::from_millis(2_900)..Duration::from_millis(3_100)).contains(&took), "{took:?}");
        pace.turn(&Method::GET, MANIFEST).await;
        assert_eq!(start.elapsed(), took, "each quota has its own budget");
        let other = Pace::new(None);
        for _ in 0..100 {
            other.turn(&Method::PUT, MANIFEST).await;
        }
        assert_eq!(start.elapsed(), took, "without a quota there is no pause");
    }

    #[tokio::test(start_paused = true)]
    async fn throttling_halves_the_bound_once_a_round_and_success_raises_it() {
        let pace = Pace::new(None);
        let bound = || pace.lock().bound as usize;
        for _ in 0..20 {
            pace.throttled();
        }
        assert_eq!(bound(), 32, "what was under way together counts once");
        for _ in 0..10 {
            tokio::time::advance(Pace::ROUND).await;
            pace.throttled();
        }
        assert_eq!(bound(), 1, "one always goes");
        let held = pace.turn(&Method::GET, MANIFEST).await;
        let waits = tokio::time::timeout(Duration::from_secs(5), pace.turn(&Method::GET, MANIFEST)).await;
        assert!(waits.is_err());
        drop(held);
        pace.turn(&Method::GET, MANIFEST).await;
        for _ in 0..3_000 {
            pace.taken();
        }
        assert_eq!(bound(), 64);
    }

    #[tokio::test(start_paused = true)]
    async fn uploads_that_took_all_turns_leave_one_for_what_they_wait_for() {
        const UPLOAD: &str = "/v2/a/blobs/uploads/1";
        let pace = Pace::new(None);
        pace.lock().bound = 2.0;
        let soon = |turn| tokio::time::timeout(Duration::from_secs(1), turn);
        let uploads = [pace.turn(&Method::PUT, UPLOAD).await, pace.turn(&Method::PATCH, UPLOAD).await];
        assert!(soon(pace.turn(&Method::PUT, UPLOAD)).await.is_err());
        let read = soon(pace.turn(&Method::GET, "/v2/a/blobs/x")).await.ok();
        assert!(read.is_some(), "the source is read on");
        assert!(soon(pace.turn(&Method::GET, "/v2/a/blobs/y")).await.is_err(), "one is enough");
        // Who waits with a read is woken beside who waits with an upload.
        let (upload, next) = (pace.turn(&Method::PUT, UPLOAD), pace.turn(&Method::GET, "/v2/a/blobs/y"));
        let free = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            drop(read);
        };
        let next = async { soon(next).await.is_ok() };
        let (upload, next, ()) = tokio::join!(soon(upload), next, free);
        assert!(upload.is_err() && next);
        drop(uploads);
    }
}
