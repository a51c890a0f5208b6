//! The model of the service `ecr`.

use super::{
    Aws,
    wire::{Answer, Call},
};

/// The state of the service, by account and region.
#[derive(Debug, Default)]
pub(super) struct Ecr {}

impl Ecr {
    pub(super) async fn call(&self, _aws: &Aws, call: &Call) -> Answer {
        Err(call.unknown())
    }
}
