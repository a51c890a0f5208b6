//! Create and modify parameters in tests, without the API.

use super::{
    Ssm,
    parameter::{AccountRegion, Overflow, Parameter, Revision},
};
use crate::clock::Clock;

/// The parameters of one account and region, to create and modify: see [`Aws::ssm`](crate::aws::Aws::ssm).
#[derive(Debug)]
pub struct Parameters<'a> {
    service: &'a Ssm,
    clock: &'a Clock,
    account_region: AccountRegion,
}

impl<'a> Parameters<'a> {
    pub(in crate::aws) fn new(service: &'a Ssm, clock: &'a Clock, account: &str, region: &str) -> Self {
        Parameters { service, clock, account_region: (account.to_owned(), region.to_owned()) }
    }

    /// Creates a `String` parameter, or gives it a new version. Returns the version.
    ///
    /// # Panics
    /// When the oldest of 100 versions has a label.
    pub fn put(&self, name: &str, value: &str) -> i64 {
        self.put_as(name, "String", value)
    }

    /// Creates a `SecureString` parameter, or gives it a new version. Returns the version.
    ///
    /// # Panics
    /// When the oldest of 100 versions has a label.
    pub fn put_secure(&self, name: &str, value: &str) -> i64 {
        self.put_as(name, "SecureString", value)
    }

    fn put_as(&self, name: &str, kind: &str, value: &str) -> i64 {
        let mut state = self.service.lock();
        let parameters = state.entry(self.account_region.clone()).or_default();
        let new = || Parameter::new(&self.account_region, name, kind);
        let revision = Revision { value, key: None, data_type: None };
        let parameter = parameters.entry(name.to_owned()).or_insert_with(new);
        parameter.put(&revision, self.clock.now()).unwrap_or_else(|Overflow(oldest)| {
            panic!("version {oldest} of parameter {name:?} has a label, and there are too many versions")
        })
    }

    /// The parameter's ARN.
    pub fn arn(&self, name: &str) -> String {
        self.change(name, |parameter| parameter.arn.clone())
    }

    /// Moves a label to a version.
    pub fn label(&self, name: &str, version: i64, label: &str) {
        self.change(name, |parameter| parameter.label(version, label));
    }

    /// Denies an IAM action on the parameter: `ssm:GetParameters`, `ssm:GetParameter`, `kms:Decrypt`.
    pub fn deny(&self, name: &str, action: &str) {
        self.change(name, |parameter| parameter.denied.insert(action.to_owned()));
    }

    /// Allows another account to read the parameter by its ARN, as a resource share does.
    pub fn share(&self, name: &str, account: &str) {
        self.change(name, |parameter| parameter.shared_with.insert(account.to_owned()));
    }

    /// # Panics
    /// When no parameter has this name.
    fn change<T>(&self, name: &str, change: impl FnOnce(&mut Parameter) -> T) -> T {
        let mut state = self.service.lock();
        let parameter = state.get_mut(&self.account_region).and_then(|all| all.get_mut(name));
        change(
            parameter.unwrap_or_else(|| {
                panic!("the sandbox has no parameter {name:?} in {:?}", self.account_region)
            }),
        )
    }
}
