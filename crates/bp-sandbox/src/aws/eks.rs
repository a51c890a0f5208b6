//! The model of the service `eks`.

use super::{
    Aws,
    wire::{Answer, Call},
};

/// The state of the service, by account and region.
#[derive(Debug, Default)]
pub(super) struct Eks {}

impl Eks {
    pub(super) async fn call(&self, _aws: &Aws, call: &Call) -> Answer {
        Err(call.unknown())
    }
}

/// The API's name of what a method and path ask for.
pub(super) fn operation(method: &http::Method, path: &[String]) -> String {
    format!("{method} /{}", path.join("/"))
}
