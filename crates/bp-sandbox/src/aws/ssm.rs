//! The model of the service `ssm`.

use super::{
    Aws,
    wire::{Answer, Call},
};

/// The state of the service, by account and region.
#[derive(Debug, Default)]
pub(super) struct Ssm {}

impl Ssm {
    pub(super) async fn call(&self, _aws: &Aws, call: &Call) -> Answer {
        Err(call.unknown())
    }
}
