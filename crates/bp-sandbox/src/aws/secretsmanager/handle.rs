//! Create and modify secrets in tests, without the API.

use super::{
    SecretsManager, replicate,
    secret::{AccountRegion, CURRENT, Content, Secret},
};
use crate::{aws::wire::request_id, clock::Clock};

/// The secrets of one account and region, to create and modify: see
/// [`Aws::secretsmanager`](crate::aws::Aws::secretsmanager).
#[derive(Debug)]
pub struct Secrets<'a> {
    service: &'a SecretsManager,
    clock: &'a Clock,
    account_region: AccountRegion,
}

impl<'a> Secrets<'a> {
    pub(in crate::aws) fn new(
        service: &'a SecretsManager,
        clock: &'a Clock,
        account: &str,
        region: &str,
    ) -> Self {
        Secrets { service, clock, account_region: (account.to_owned(), region.to_owned()) }
    }

    /// Creates a secret, or gives it a new current version. Returns its ARN.
    pub fn create(&self, name: &str, value: &str) -> String {
        self.put(name, Content::Text(value.to_owned())).0
    }

    /// Creates a binary secret, or gives it a new current version. Returns its ARN.
    pub fn create_binary(&self, name: &str, value: &[u8]) -> String {
        self.put(name, Content::Binary(value.to_owned())).0
    }

    /// Gives the secret a new current version (the previous one becomes `AWSPREVIOUS`). Returns the version id.
    pub fn rotate(&self, name: &str, value: &str) -> String {
        self.put(name, Content::Text(value.to_owned())).1
    }

    fn put(&self, name: &str, content: Content) -> (String, String) {
        let (id, now) = (request_id(), self.clock.now());
        let arn = {
            let mut state = self.service.lock();
            let secrets = state.entry(self.account_region.clone()).or_default();
            let new = || Secret::new(&self.account_region, name, now);
            let secret = secrets.entry(name.to_owned()).or_insert_with(new);
            secret.put(id.clone(), content, &[CURRENT.to_owned()], now).expect("a fresh id");
            secret.arn.clone()
        };
        self.change(name, |_| {});
        (arn, id)
    }

    /// Moves a staging label to a version.
    pub fn stage(&self, name: &str, stage: &str, version_id: &str) {
        self.change(name, |secret| secret.move_stage(stage, version_id));
    }

    /// Marks the secret for deletion, as `DeleteSecret` does.
    pub fn delete(&self, name: &str) {
        let date = self.clock.now() + jiff::SignedDuration::from_hours(24 * 30);
        self.change(name, |secret| secret.deleted = Some(date));
    }

    /// Denies an IAM action on the secret: `secretsmanager:GetSecretValue`, `secretsmanager:DescribeSecret`,
    /// `kms:Decrypt`; `secretsmanager:BatchGetSecretValue` denies batches in the whole account and region.
    pub fn deny(&self, name: &str, action: &str) {
        self.change(name, |secret| secret.denied.insert(action.to_owned()));
    }

    /// Removes a [denial](Self::deny).
    pub fn allow(&self, name: &str, action: &str) {
        self.change(name, |secret| secret.denied.remove(action));
    }

    /// Allows another account to read the secret by its ARN, as a resource policy does.
    pub fn share(&self, name: &str, account: &str) {
        self.change(name, |secret| secret.shared_with.insert(account.to_owned()));
    }

    /// Replicates the secret to another region. Returns the replica's ARN.
    pub fn replicate(&self, name: &str, region: &str) -> String {
        self.change(name, |secret| secret.replicas.insert(region.to_owned()));
        let state = self.service.lock();
        state[&(self.account_region.0.clone(), region.to_owned())][name].arn.clone()
    }

    /// # Panics
    /// When no secret has this name.
    fn change<T>(&self, name: &str, change: impl FnOnce(&mut Secret) -> T) {
        let mut state = self.service.lock();
        let secret = state.get_mut(&self.account_region).and_then(|secrets| secrets.get_mut(name));
        let secret = secret
            .unwrap_or_else(|| panic!("the sandbox has no secret {name:?} in {:?}", self.account_region));
        change(secret);
        let secret = secret.clone();
        replicate(&mut state, &self.account_region, &secret);
    }
}
