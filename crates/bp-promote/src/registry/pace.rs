//! Rate limiting per registry: an adaptive limit on concurrent requests, and published quotas.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "counts of this process, and one of two places"
)]

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use bp_artifact::sync::lock;

use http::Method;
use tokio::{sync::Notify, time::Instant};

use super::profile::{Quota, Quotas};

/// Limits the requests to one registry. The concurrency limit is halved when the registry throttles, and grows by one
/// with each round of successful requests.
pub(super) struct Pace {
    state: Mutex<State>,
    /// Wakes waiting uploads, and waiting requests of other kinds.
    freed: [Notify; 2],
    quotas: Option<Quotas>,
    budgets: Budgets,
}

struct State {
    bound: f64,
    in_flight: usize,
    /// How many of the requests in flight are blob uploads.
    uploads: usize,
    throttled: Option<Instant>,
}

impl State {
    /// Within one registry an upload may depend on reading its source. So one other request is allowed even if uploads
    /// occupy all slots, to avoid a deadlock.
    fn is_free(&self, upload: bool) -> bool {
        self.in_flight < self.bound as usize || !upload && self.in_flight == self.uploads
    }
}

/// A request in flight.
pub(super) struct Slot<'a> {
    pace: &'a Pace,
    upload: bool,
}

impl Pace {
    /// Below the usual limit of HTTP/2 streams per connection.
    const MAX: f64 = 64.0;
    /// Requests in flight at the same time are often throttled together: within this time they count as one.
    const ROUND: Duration = Duration::from_secs(1);

    pub(super) fn new(quotas: Option<Quotas>) -> Self {
        let state = State { bound: Self::MAX, in_flight: 0, uploads: 0, throttled: None };
        Pace { state: Mutex::new(state), freed: Default::default(), quotas, budgets: Budgets::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Waits until the request may be sent.
    pub(super) async fn acquire(&self, method: &Method, path: &str) -> Slot<'_> {
        if let Some(quota) = self.quotas.and_then(|quota| quota(method, path)) {
            tokio::time::sleep_until(self.budgets.take(quota)).await;
        }
        let upload = matches!(*method, Method::PUT | Method::PATCH) && path.contains("/blobs/uploads/");
        loop {
            {
                let mut state = self.lock();
                if state.is_free(upload) {
                    state.in_flight += 1;
                    state.uploads += usize::from(upload);
                    return Slot { pace: self, upload };
                }
            }
            self.freed[usize::from(upload)].notified().await;
        }
    }

    /// Records a successful request.
    pub(super) fn succeeded(&self) {
        let mut state = self.lock();
        if state.bound < Self::MAX {
            state.bound = (state.bound + 1.0 / state.bound).min(Self::MAX);
            self.freed.iter().for_each(Notify::notify_one);
        }
    }

    /// Records a throttled request.
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
        state.in_flight -= 1;
        state.uploads -= usize::from(self.upload);
        drop(state);
        self.pace.freed.iter().for_each(Notify::notify_one);
    }
}

/// The remaining budget per quota: a burst of one second's requests, then an even rate.
#[derive(Default)]
struct Budgets(Mutex<HashMap<Quota, Instant>>);

impl Budgets {
    /// Takes one request from the budget; returns when it may be sent.
    fn take(&self, quota: Quota) -> Instant {
        let now = Instant::now();
        let mut refills = lock(&self.0);
        // When the budget is completely refilled; not in the past.
        let refilled_at = refills.entry(quota).or_insert(now);
        *refilled_at = (*refilled_at).max(now) + Duration::from_secs(1) / quota.rate;
        (*refilled_at - Duration::from_secs(1)).max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "/v2/shop/web/manifests/v1";

    /// A quota of ten writes, and one of ten reads, per second.
    fn ten(method: &Method, _: &str) -> Option<Quota> {
        let name = if *method == Method::PUT { "push" } else { "read" };
        Some(Quota { name, rate: 10 })
    }

    #[tokio::test(start_paused = true)]
    async fn allows_a_burst_of_one_second_then_the_published_rate() {
        let pace = Pace::new(Some(ten));
        let start = Instant::now();
        for _ in 0..10 {
            pace.acquire(&Method::PUT, MANIFEST).await;
        }
        assert!(start.elapsed() < Duration::from_millis(10), "{:?}", start.elapsed());
        for _ in 0..30 {
            pace.acquire(&Method::PUT, MANIFEST).await;
        }
        let took = start.elapsed();
        assert!((Duration::from_millis(2_900)..Duration::from_millis(3_100)).contains(&took), "{took:?}");
        pace.acquire(&Method::GET, MANIFEST).await;
        assert_eq!(start.elapsed(), took, "each quota has its own budget");
        let other = Pace::new(None);
        for _ in 0..100 {
            other.acquire(&Method::PUT, MANIFEST).await;
        }
        assert_eq!(start.elapsed(), took, "no delay without a quota");
    }

    #[tokio::test(start_paused = true)]
    async fn throttling_halves_the_limit_once_per_round_and_success_raises_it() {
        let pace = Pace::new(None);
        let bound = || pace.lock().bound as usize;
        for _ in 0..20 {
            pace.throttled();
        }
        assert_eq!(bound(), 32, "requests in flight together count once");
        for _ in 0..10 {
            tokio::time::advance(Pace::ROUND).await;
            pace.throttled();
        }
        assert_eq!(bound(), 1, "one request is always allowed");
        let slot = pace.acquire(&Method::GET, MANIFEST).await;
        let waits = tokio::time::timeout(Duration::from_secs(5), pace.acquire(&Method::GET, MANIFEST)).await;
        assert!(waits.is_err());
        drop(slot);
        pace.acquire(&Method::GET, MANIFEST).await;
        for _ in 0..3_000 {
            pace.succeeded();
        }
        assert_eq!(bound(), 64);
    }

    #[tokio::test(start_paused = true)]
    async fn uploads_in_all_slots_leave_one_for_reading_their_source() {
        const UPLOAD: &str = "/v2/a/blobs/uploads/1";
        let pace = Pace::new(None);
        pace.lock().bound = 2.0;
        let soon = |acquire| tokio::time::timeout(Duration::from_secs(1), acquire);
        let uploads = [pace.acquire(&Method::PUT, UPLOAD).await, pace.acquire(&Method::PATCH, UPLOAD).await];
        assert!(soon(pace.acquire(&Method::PUT, UPLOAD)).await.is_err());
        let read = soon(pace.acquire(&Method::GET, "/v2/a/blobs/x")).await.ok();
        assert!(read.is_some(), "the source can be read");
        assert!(
            soon(pace.acquire(&Method::GET, "/v2/a/blobs/y")).await.is_err(),
            "only one more request is allowed"
        );
        // A waiting read is woken even if an upload waits too.
        let (upload, next) =
            (pace.acquire(&Method::PUT, UPLOAD), pace.acquire(&Method::GET, "/v2/a/blobs/y"));
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
