//! Check that references to secrets and parameters can be resolved, without showing or keeping a value.

use std::collections::BTreeSet;

use futures_util::future::join;
use serde::Serialize;

use crate::{
    error::Error,
    lint::Lint,
    permissions::{AccountScope, Grant, grants},
    projection::Renderer,
    reference::{Reference, SecretVersion},
    store::{Description, Store},
    value::Fetched,
};

/// How much a check may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Depth {
    /// Never reads a value. Whether a JSON key exists is not checked.
    ///
    /// # Permissions
    /// `secretsmanager:DescribeSecret`, `ssm:GetParameters`.
    Describe,
    /// Reads a secret only to check its JSON key or version id, and describes everything else.
    ///
    /// # Permissions
    /// Those of [`Describe`](Depth::Describe), and `secretsmanager:GetSecretValue` (with `kms:Decrypt` on a customer
    /// managed key) for references with a key or version id.
    #[default]
    Keys,
    /// Reads everything as the ECS agent would; with the execution role's credentials this also verifies decryption.
    ///
    /// # Permissions
    /// Those of [`Store::read`].
    Read,
}

/// Result of a check: one [`Checked`] per reference, in their order.
///
/// ```
/// use bp_secrets::{Depth, Store, check};
///
/// # async fn example(store: impl Store) -> Result<(), bp_secrets::reference::ParseError> {
/// let report = check(&store, &["/prod/host".parse()?], Depth::Describe).await;
/// for error in report.errors() {
///     eprintln!("{error}");
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct CheckReport {
    /// The checked references.
    pub checked: Vec<Checked>,
}

/// Result of the check of one reference.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    /// The reference.
    pub reference: Reference,
    /// The id or number of the version that it currently points to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Whether its JSON key was checked; `None` when it has no key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_seen: Option<bool>,
    /// The customer managed KMS key, if the service reports one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kms_key: Option<String>,
    /// Why the reference cannot be resolved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
    /// Where ECS would render the value differently from how it is stored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Lint>,
}

impl CheckReport {
    /// Whether every reference can be resolved. Warnings are ignored.
    pub fn is_ok(&self) -> bool {
        self.checked.iter().all(|checked| checked.error.is_none())
    }

    /// The errors of all references.
    pub fn errors(&self) -> impl Iterator<Item = &Error> {
        self.checked.iter().filter_map(|checked| checked.error.as_ref())
    }

    /// The permissions that the execution role needs to read all references, including the KMS keys found.
    pub fn grants(&self, scope: Option<&AccountScope>) -> Vec<Grant> {
        let references: Vec<Reference> =
            self.checked.iter().map(|checked| checked.reference.clone()).collect();
        let keys: BTreeSet<&String> =
            self.checked.iter().filter_map(|checked| checked.kms_key.as_ref()).collect();
        let decrypt = |key: &String| Grant::new("kms:Decrypt", key.clone());
        grants(&references, scope).into_iter().chain(keys.into_iter().map(decrypt)).collect()
    }
}

/// Checks that every reference can be resolved: that it exists, in that version and with that JSON key.
///
/// Values that must be read are dropped and wiped immediately.
///
/// # Permissions
/// Those of the [`Depth`].
///
/// # Cancel safety
/// Cancel safe: it changes nothing.
#[tracing::instrument(name = "check_secrets", skip_all, fields(references = references.len(), ?depth))]
pub async fn check(store: &impl Store, references: &[Reference], depth: Depth) -> CheckReport {
    let reads = |reference: &Reference| match depth {
        Depth::Describe => false,
        Depth::Keys => match reference {
            Reference::Secret(secret) => {
                secret.key().is_some() || matches!(secret.version(), SecretVersion::Id(_))
            }
            Reference::Parameter(_) => false,
        },
        Depth::Read => true,
    };
    let (read, described): (Vec<Reference>, Vec<Reference>) =
        references.iter().cloned().partition(|reference| reads(reference));
    let (fetched, descriptions) = join(store.fetch(&read), store.describe(&described)).await;
    let (mut fetched, mut descriptions) = (fetched.into_iter(), descriptions.into_iter());
    let checked = references.iter().filter_map(|reference| {
        if reads(reference) {
            fetched.next().map(|answer| by_reading(reference, answer))
        } else {
            descriptions.next().map(|answer| by_describing(reference, answer))
        }
    });
    CheckReport { checked: checked.collect() }
}

fn by_reading(reference: &Reference, answer: Result<Fetched, Error>) -> Checked {
    let mut checked = Checked::new(reference);
    match answer {
        Ok(fetched) => {
            checked.version = Some(fetched.version().to_owned());
            checked.key_seen = reference.key().map(|_| true);
            checked.warnings.extend(Lint::of(Renderer::Ecs, fetched.kind()));
        }
        Err(error) => checked.error = Some(error),
    }
    checked
}

fn by_describing(reference: &Reference, answer: Result<Description, Error>) -> Checked {
    let mut checked = Checked::new(reference);
    match answer {
        Ok(description) => {
            checked.version = Some(description.version).filter(|version| !version.is_empty());
            checked.key_seen = reference.key().map(|_| false);
            checked.kms_key = description.kms_key;
        }
        Err(error) => checked.error = Some(error),
    }
    checked
}

impl Checked {
    fn new(reference: &Reference) -> Self {
        Checked {
            reference: reference.clone(),
            version: None,
            key_seen: None,
            kms_key: None,
            error: None,
            warnings: Vec::new(),
        }
    }
}
