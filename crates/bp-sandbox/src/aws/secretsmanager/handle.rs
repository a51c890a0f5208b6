//! Secrets Manager from the outside of its API: secrets to seed and to change.

use super::{
    CURRENT, Place, SecretsManager, replicate, request_id,
    secret::{Content, Secret},
};
use crate::clock::Clock;

/// The secrets of one account and region, to seed and to change: see [`Aws::secretsmanager`](crate::aws::Aws::secretsmanager).
#[derive(Debug)]
pub struct Secrets<'a> {
    service: &'a SecretsManager,
    clock: &'a Clock,
    place: Place,
}

impl<'a> Secrets<'a> {
    pub(in crate::aws) fn new(
        service: &'a SecretsManager,
        clock: &'a Clock,
        account: &str,
        region: &str,
    ) -> Self {
        Secrets { service, clock, place: (account.to_owned(), region.to_owned()) }
    }

    /// Creates a secret, or gives it a new current version. Returns its ARN.
    pub fn create(&self, name: &str, value: &str) -> String {
        self.put(name, Content::Text(value.to_owned())).0
    }

    /// Creates a binary secret, or gives it a new current version. Returns its ARN.
    pub fn create_binary(&self, name: &str, value: &[u8]) -> String {
        self.put(name, Content::Binary(value.to_owned())).0
    }

    /// Gives the secret a new current version (the last one becomes `AWSPREVIOUS`). Returns the version's id.
    pub fn rotate(&self, name: &str, value: &str) -> String {
        self.put(name, Content::Text(value.to_owned())).1
    }

    fn put(&self, name: &str, content: Content) -> (String, String) {
        let (id, now) = (request_id(), self.clock.now());
        let arn = {
            let mut state = self.service.lock();
            let secrets = state.entry(self.place.clone()).or_default();
            let new = || Secret::new(&self.place, name, now);
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

    /// Refuses an IAM action on the secret: `secretsmanager:GetSecretValue`, `secretsmanager:DescribeSecret`,
    /// `kms:Decrypt`; `secretsmanager:BatchGetSecretValue` refuses batches in the whole account and region.
    pub fn deny(&self, name: &str, action: &str) {
        self.change(name, |secret| secret.denied.insert(action.to_owned()));
    }

    /// Takes back what [`deny`](Self::deny) refused.
    pub fn allow(&self, name: &str, action: &str) {
        self.change(name, |secret| secret.denied.remove(action));
    }

    /// Lets another account read the secret by its ARN, as a resource policy does.
    pub fn share(&self, name: &str, account: &str) {
        self.change(name, |secret| secret.shared_with.insert(account.to_owned()));
    }

    /// Keeps a replica of the secret in another region. Returns the replica's ARN.
    pub fn replicate(&self, name: &str, region: &str) -> String {
        self.change(name, |secret| secret.replicas.insert(region.to_owned()));
        let state = self.service.lock();
        state[&(self.place.0.clone(), region.to_owned())][name].arn.clone()
    }

    /// # Panics
    /// When there is no secret of this name.
    fn change<T>(&self, name: &str, change: impl FnOnce(&mut Secret) -> T) {
        let mut state = self.service.lock();
        let secret = state.get_mut(&self.place).and_then(|secrets| secrets.get_mut(name));
        let secret =
            secret.unwrap_or_else(|| panic!("the sandbox has no secret {name:?} in {:?}", self.place));
        change(secret);
        let secret = secret.clone();
        replicate(&mut state, &self.place, &secret);
    }
}
