//! The public keys that a configuration trusts, by what they may sign.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use bp_artifact::{
    Config,
    config::{Environment, PolicyName},
};

use crate::attestation::{KeyError, KeyId, Keyring, PublicKey};

/// The keys that `bp.toml` trusts: of the records of each environment, and of each approver.
#[derive(Debug, Clone, Default)]
pub struct TrustedKeys {
    records: BTreeMap<Environment, Keyring>,
    approvers: BTreeMap<Environment, BTreeMap<PolicyName, PublicKey>>,
}

impl TrustedKeys {
    /// Reads the files of all environments. A relative path is below `directory`.
    ///
    /// # Errors
    /// When one cannot be read, or is not a public key on the curve P-256.
    pub fn read(config: &Config, directory: &Path) -> Result<Self, KeyError> {
        let mut keys = TrustedKeys::default();
        for environment in config.environments() {
            let (name, policy) = (&environment.name, environment.policy());
            if let Some(records) = &policy.records {
                let paths: Vec<PathBuf> = records.keys.iter().map(|path| directory.join(path)).collect();
                keys.trust_records(name.clone(), Keyring::read(paths.iter().map(PathBuf::as_path))?);
            }
            for (approver, found) in policy.approvals.iter().flat_map(|rule| &rule.approvers) {
                let key = PublicKey::read(&directory.join(&found.key))?;
                keys.trust_approver(name.clone(), approver.clone(), key);
            }
        }
        Ok(keys)
    }

    /// Trusts these keys to sign records of an environment.
    pub fn trust_records(&mut self, environment: Environment, keys: Keyring) {
        self.records.insert(environment, keys);
    }

    /// Trusts this key to sign approvals for an environment.
    pub fn trust_approver(&mut self, environment: Environment, approver: PolicyName, key: PublicKey) {
        self.approvers.entry(environment).or_default().insert(approver, key);
    }

    /// Whether no key is trusted: then nothing that is attached to an image counts.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.approvers.is_empty()
    }

    /// Whether an environment keeps records.
    pub fn keeps_records(&self, environment: &Environment) -> bool {
        self.records.contains_key(environment)
    }

    /// Whether the key may sign records of the environment.
    pub fn may_record(&self, environment: &Environment, key: &KeyId) -> bool {
        self.records.get(environment).is_some_and(|keys| keys.contains(key))
    }

    /// Whether the key may sign records of any environment: only these may recall an image.
    pub fn may_recall(&self, key: &KeyId) -> bool {
        self.records.values().any(|keys| keys.contains(key))
    }

    /// Whose key it is among the approvers of the environment, all of them: two names may have the same key.
    pub fn approvers<'a>(
        &'a self,
        environment: &Environment,
        key: &'a KeyId,
    ) -> impl Iterator<Item = &'a PolicyName> {
        let of = self.approvers.get(environment).into_iter().flatten();
        of.filter(move |(_, known)| known.id() == key).map(|(name, _)| name)
    }

    /// All keys, whatever they may sign.
    pub(super) fn all(&self) -> Keyring {
        let records = self.records.values().flat_map(Keyring::keys);
        let approvers = self.approvers.values().flat_map(BTreeMap::values);
        records.chain(approvers).cloned().collect()
    }
}
