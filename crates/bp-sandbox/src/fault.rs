//! Fault injection: which fault, for which requests, how often.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde::Serialize;

use crate::sync::lock;

/// The effect of a fault on a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum Effect {
    /// The request is answered with this status, these headers and this body, and not handled.
    Answer {
        /// The status.
        status: u16,
        /// Headers, such as `retry-after`.
        headers: Vec<(String, String)>,
        /// The body.
        body: String,
    },
    /// The request is handled after this delay (of tokio's clock).
    Delay(Duration),
    /// The connection is closed before the request is handled.
    Reset,
    /// The request is handled, but the connection is closed before the response.
    LoseAnswer,
    /// The request body ends after this number of bytes, and the connection is closed without a response.
    CutRequest(u64),
    /// The byte at this offset of the request body is corrupted.
    CorruptRequest(u64),
    /// The response body ends with an error after this number of bytes.
    CutBody(u64),
    /// The byte at this offset of the response body is corrupted.
    Corrupt(u64),
    /// The response body stalls for this duration after this number of bytes.
    Stall(u64, Duration),
}

/// An [`Effect`] and the requests that it applies to.
#[derive(Debug, Clone)]
pub struct Fault {
    pub(crate) effect: Effect,
    endpoint: Option<String>,
    operation: Option<String>,
    skip: u32,
    times: u32,
}

impl Fault {
    /// A fault that applies to the next request.
    pub fn new(effect: Effect) -> Self {
        Fault { effect, endpoint: None, operation: None, skip: 0, times: 1 }
    }

    /// A response with `status` and an empty body.
    pub fn status(status: u16) -> Self {
        Self::new(Effect::Answer { status, headers: Vec::new(), body: String::new() })
    }

    /// Restricts the fault to requests to this endpoint (see [`Entry::endpoint`](crate::Entry::endpoint)).
    pub fn at(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }

    /// Restricts the fault to this operation (see [`Entry::operation`](crate::Entry::operation)).
    pub fn on(mut self, operation: impl Into<String>) -> Self {
        self.operation = Some(operation.into());
        self
    }

    /// Skips the first `skip` matching requests.
    pub fn after(mut self, skip: u32) -> Self {
        self.skip = skip;
        self
    }

    /// Applies to `times` requests instead of one.
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    fn matches(&self, endpoint: &str, operation: &str) -> bool {
        self.endpoint.as_deref().is_none_or(|e| e == endpoint)
            && self.operation.as_deref().is_none_or(|o| o == operation)
    }
}

/// The pending faults. Cheap to clone; all clones share one list.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<VecDeque<Fault>>>);

impl Faults {
    /// Adds a fault. The first matching fault applies to a request.
    pub fn inject(&self, fault: Fault) {
        lock(&self.0).push_back(fault);
    }

    /// Whether no fault is pending.
    pub fn is_empty(&self) -> bool {
        lock(&self.0).is_empty()
    }

    /// Removes all pending faults.
    pub fn clear(&self) {
        lock(&self.0).clear();
    }

    pub(crate) fn take(&self, endpoint: &str, operation: &str) -> Option<Effect> {
        let mut faults = lock(&self.0);
        let mut found = None;
        for (at, fault) in faults.iter_mut().enumerate().filter(|(_, f)| f.matches(endpoint, operation)) {
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            fault.times = fault.times.saturating_sub(1);
            found = Some((at, fault.effect.clone(), fault.times == 0));
            break;
        }
        let (at, effect, spent) = found?;
        if spent {
            faults.remove(at);
        }
        Some(effect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_applies_to_matching_requests_and_is_removed_afterwards() {
        let faults = Faults::default();
        faults.inject(Fault::status(503).on("GET blob").at("a").after(1).times(2));
        assert_eq!(faults.take("a", "GET manifest"), None);
        assert_eq!(faults.take("b", "GET blob"), None);
        assert_eq!(faults.take("a", "GET blob"), None, "the first matching request is skipped");
        assert!(faults.take("a", "GET blob").is_some());
        assert!(faults.take("a", "GET blob").is_some());
        assert_eq!(faults.take("a", "GET blob"), None);
        assert!(faults.is_empty());
    }
}
