//! The parts of the sandbox that the tasks of one account and region use.

use super::{hooks::Functions, names::Place};
use crate::{
    aws::{secretsmanager::SecretsManager, ssm::Ssm},
    runtime::Runtime,
};

pub(super) struct World<'a> {
    pub(super) runtime: &'a Runtime,
    pub(super) secretsmanager: &'a SecretsManager,
    pub(super) ssm: &'a Ssm,
    pub(super) functions: &'a Functions,
    pub(super) place: Place,
}

impl World<'_> {
    /// Checks that a container's `secrets[].valueFrom` can be read; the error is the ECS agent's message.
    pub(super) fn secret_exists(&self, value_from: &str) -> Result<(), String> {
        let Place { account, region } = &self.place;
        match value_from.split(':').nth(2) {
            Some("secretsmanager") => self.secretsmanager.exists(account, region, value_from),
            _ => self.ssm.exists(account, region, value_from),
        }
    }
}
