//! Every request that reached the sandbox, for assertions.

use std::sync::{Arc, Mutex, MutexGuard};

use jiff::Timestamp;
use serde::Serialize;

use crate::{fault::Effect, sync::lock};

/// One request. Authorization and query signatures are not kept.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Entry {
    /// When it arrived, in the model's time.
    pub at: Timestamp,
    /// The endpoint: a registry's host, `aws`, or a cluster's endpoint.
    pub endpoint: String,
    /// What was asked for: `GET manifest`, `ecs:DescribeServices`, `patch deployments`.
    pub operation: String,
    /// The HTTP method.
    pub method: String,
    /// The path, without its query.
    pub path: String,
    /// The status that was answered, `None` while it is under way or when the connection was cut.
    pub status: Option<u16>,
    /// Bytes of the request's body that were read.
    pub request_bytes: u64,
    /// Bytes of the response's body that were sent.
    pub response_bytes: u64,
    /// What went wrong with it by an injected fault.
    pub fault: Option<Effect>,
}

/// The list of all requests. Cheap to clone; all clones are the same ledger.
#[derive(Debug, Clone, Default)]
pub struct Ledger(Arc<Mutex<Vec<Entry>>>);

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        lock(&self.0)
    }

    /// A copy of all entries so far, in order of arrival.
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().clone()
    }

    /// How many entries `matches`.
    pub fn count(&self, matches: impl Fn(&Entry) -> bool) -> usize {
        self.lock().iter().filter(|entry| matches(entry)).count()
    }

    /// How many requests asked for `operation`.
    pub fn count_of(&self, operation: &str) -> usize {
        self.count(|entry| entry.operation == operation)
    }

    /// The operations of one endpoint in order.
    pub fn operations(&self, endpoint: &str) -> Vec<String> {
        self.lock().iter().filter(|e| e.endpoint == endpoint).map(|e| e.operation.clone()).collect()
    }

    /// Forgets everything so far: what comes next is counted from zero.
    pub fn clear(&self) {
        self.lock().clear();
    }

    pub(crate) fn open(&self, entry: Entry) -> Line {
        let mut entries = self.lock();
        entries.push(entry);
        Line { ledger: self.clone(), at: entries.len() - 1 }
    }
}

/// The place of one request in the ledger. After a `clear` it writes nowhere.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    ledger: Ledger,
    at: usize,
}

impl Line {
    pub(crate) fn update(&self, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.ledger.lock().get_mut(self.at) {
            change(entry);
        }
    }
}
