//! What the controllers of load balancers know of the objects.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use crate::kube::store::Key;

/// The Services of one action or rule with their weights.
pub(in crate::kube) type Shares = Vec<(String, u64)>;

/// The state of the controllers.
#[derive(Debug, Default)]
pub(in crate::kube) struct LoadBalancers {
    pub(super) stopped: bool,
    pub(super) objects: BTreeMap<Key, Reconciled>,
}

/// What a controller knows of an object.
#[derive(Debug, Default)]
pub(super) struct Reconciled {
    /// The parts of the object that a controller reads, as of the last attempt.
    pub(super) input: Value,
    /// When the next attempt is due; `None` after a success.
    pub(super) due: Option<Timestamp>,
    /// The shares that were in effect, the present ones last: of every action or rule.
    pub(super) history: Vec<Vec<Shares>>,
}

/// The items of a list.
pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}
