//! Faults: what goes wrong, for which requests, how often.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde::Serialize;

use crate::sync::lock;

/// What goes wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum Effect {
    /// Answered with this status, these headers and this body, and not handled.
    Answer {
        /// The status.
        status: u16,
        /// Headers, such as `retry-after`.
        headers: Vec<(String, String)>,
        /// The body.
        body: String,
    },
    /// Handled after this time (of tokio's clock).
    Delay(Duration),
    /// The connection is cut before the request is handled.
    Reset,
    /// The request is handled, but the answer is lost: the connection is cut.
    LoseAnswer,
    /// The connection is cut after this many bytes of the request's body: the handler has no more, and nobody hears of it.
    CutRequest(u64),
    /// The byte at this offset of the request's body is flipped.
    CorruptRequest(u64),
    /// The answer's body ends with an error after this many bytes.
    CutBody(u64),
    /// The byte at this offset of the answer's body is flipped.
    Corrupt(u64),
    /// The answer's body stands still for this time after this many bytes.
    Stall(u64, Duration),
}

/// An [`Effect`] and the requests that it meets.
#[derive(Debug, Clone)]
pub struct Fault {
    pub(crate) effect: Effect,
    endpoint: Option<String>,
    operation: Option<String>,
    skip: u32,
    times: u32,
}

impl Fault {
    /// A fault that meets the next request, whatever it is.
    pub fn new(effect: Effect) -> Self {
        Fault { effect, endpoint: None, operation: None, skip: 0, times: 1 }
    }

    /// An answer with `status` and an empty body.
    pub fn status(status: u16) -> Self {
        Self::new(Effect::Answer { status, headers: Vec::new(), body: String::new() })
    }

    /// Only requests to this endpoint (see [`Entry::endpoint`](crate::Entry::endpoint)).
    pub fn at(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }

    /// Only this operation (see [`Entry::operation`](crate::Entry::operation)).
    pub fn on(mut self, operation: impl Into<String>) -> Self {
        self.operation = Some(operation.into());
        self
    }

    /// Lets the first `skip` matching requests pass.
    pub fn after(mut self, skip: u32) -> Self {
        self.skip = skip;
        self
    }

    /// Meets this many requests instead of one.
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    fn meets(&self, endpoint: &str, operation: &str) -> bool {
        self.endpoint.as_deref().is_none_or(|e| e == endpoint)
            && self.operation.as_deref().is_none_or(|o| o == operation)
    }
}

/// The faults that wait for their requests. Cheap to clone; all clones are the same list.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<VecDeque<Fault>>>);

impl Faults {
    /// Adds a fault. The first that matches a request is the one that it meets.
    pub fn inject(&self, fault: Fault) {
        lock(&self.0).push_back(fault);
    }

    /// Whether every fault has met its requests.
    pub fn is_empty(&self) -> bool {
        lock(&self.0).is_empty()
    }

    /// Takes all waiting faults back.
    pub fn clear(&self) {
        lock(&self.0).clear();
    }

    pub(crate) fn take(&self, endpoint: &str, operation: &str) -> Option<Effect> {
        let mut faults = lock(&self.0);
        let mut found = None;
        for (at, fault) in faults.iter_mut().enumerate().filter(|(_, f)| f.meets(endpoint, operation)) {
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
    fn meets_the_requests_it_names_and_then_is_spent() {
        let faults = Faults::default();
        faults.inject(Fault::status(503).on("GET blob").at("a").after(1).times(2));
        assert_eq!(faults.take("a", "GET manifest"), None);
        assert_eq!(faults.take("b", "GET blob"), None);
        assert_eq!(faults.take("a", "GET blob"), None, "the first passes");
        assert!(faults.take("a", "GET blob").is_some());
        assert!(faults.take("a", "GET blob").is_some());
        assert_eq!(faults.take("a", "GET blob"), None);
        assert!(faults.is_empty());
    }
}
