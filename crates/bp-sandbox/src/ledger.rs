//! Ledger: a record of every request to the sandbox, for assertions.

use std::sync::{Arc, Mutex, MutexGuard};

use jiff::Timestamp;
use serde::Serialize;

use crate::{fault::Effect, sync::lock};

/// One recorded request. Authorization headers and query signatures are not recorded.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Entry {
    /// When it arrived, by the sandbox's clock.
    pub at: Timestamp,
    /// The endpoint: a registry's host, `aws`, or a cluster's endpoint.
    pub endpoint: String,
    /// The operation, such as `GET manifest`, `ecs:DescribeServices`, `patch deployments`.
    pub operation: String,
    /// The HTTP method.
    pub method: String,
    /// The path, without its query.
    pub path: String,
    /// The response status; `None` while the request is in progress or when the connection was closed.
    pub status: Option<u16>,
    /// Bytes of the request body that were read.
    pub request_bytes: u64,
    /// Bytes of the response body that were sent.
    pub response_bytes: u64,
    /// The injected fault, if any.
    pub fault: Option<Effect>,
    /// The ARN of the caller of an AWS API.
    pub caller: Option<String>,
    /// The IAM actions that AWS requires for it, of AWS APIs and of registries with a host name of Amazon ECR.
    pub permissions: Vec<Permission>,
}

/// An IAM action and the ARN of the resource that it is required on; `*` for actions without resources.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[non_exhaustive]
pub struct Permission {
    /// The action, such as `ecs:UpdateService`.
    pub action: String,
    /// The ARN of the resource.
    pub resource: String,
}

impl Permission {
    pub(crate) fn new(action: impl Into<String>, resource: impl Into<String>) -> Self {
        Permission { action: action.into(), resource: resource.into() }
    }
}

/// The list of all requests. Cheap to clone; all clones share one ledger.
#[derive(Debug, Clone, Default)]
pub struct Ledger(Arc<Mutex<Vec<Entry>>>);

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        lock(&self.0)
    }

    /// A copy of all entries, in order of arrival.
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().clone()
    }

    /// The number of entries for which `matches` returns true.
    pub fn count(&self, matches: impl Fn(&Entry) -> bool) -> usize {
        self.lock().iter().filter(|entry| matches(entry)).count()
    }

    /// The number of requests for `operation`.
    pub fn count_of(&self, operation: &str) -> usize {
        self.count(|entry| entry.operation == operation)
    }

    /// The operations of one endpoint, in order.
    pub fn operations(&self, endpoint: &str) -> Vec<String> {
        self.lock().iter().filter(|e| e.endpoint == endpoint).map(|e| e.operation.clone()).collect()
    }

    /// Removes all entries.
    pub fn clear(&self) {
        self.lock().clear();
    }

    pub(crate) fn open(&self, entry: Entry) -> Line {
        let mut entries = self.lock();
        entries.push(entry);
        Line { ledger: self.clone(), at: entries.len() - 1 }
    }
}

/// The index of one request's entry. After a `clear`, updates have no effect.
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
