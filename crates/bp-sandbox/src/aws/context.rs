//! What all AWS services share: clock, container runtime, identities of the callers, and denied actions.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use super::{
    identity::Identities,
    wire::{ApiError, Call, Protocol},
};
use crate::{clock::Clock, runtime::Runtime, sync::lock};

/// The context of every call.
pub(super) struct Context {
    pub(super) clock: Clock,
    pub(super) runtime: Arc<Runtime>,
    pub(super) identities: Arc<Identities>,
    /// IAM actions that are denied to all callers.
    denied: Mutex<BTreeSet<String>>,
}

impl Context {
    pub(super) fn new(clock: Clock, runtime: Arc<Runtime>, identities: Arc<Identities>) -> Self {
        Context { clock, runtime, identities, denied: Mutex::default() }
    }

    /// Denies an IAM action to all callers.
    pub(super) fn deny(&self, action: &str) {
        lock(&self.denied).insert(action.to_owned());
    }

    /// Removes a denial.
    pub(super) fn allow(&self, action: &str) {
        lock(&self.denied).remove(action);
    }

    /// Rejects a call whose action is denied, with the message of IAM.
    pub(super) fn authorize(&self, call: &Call) -> Result<(), ApiError> {
        self.authorize_action(call, &format!("{}:{}", call.service, call.operation))
    }

    /// Refuses a call that needs `action` besides its own, if that is denied.
    pub(super) fn authorize_action(&self, call: &Call, action: &str) -> Result<(), ApiError> {
        if !lock(&self.denied).contains(action) {
            return Ok(());
        }
        let caller = self.identities.of(&call.access_key_id).arn;
        let message = format!(
            "User: {caller} is not authorized to perform: {action} on resource: * because no identity-based policy \
             allows the {action} action"
        );
        let (status, code) = match call.protocol {
            Protocol::Json => (400, "AccessDeniedException"),
            Protocol::Rest => (403, "AccessDeniedException"),
            Protocol::Cbor | Protocol::Query | Protocol::RestXml | Protocol::S3 => (403, "AccessDenied"),
            Protocol::Ec2 => (403, "UnauthorizedOperation"),
        };
        Err(ApiError::new(status, code, message))
    }
}
