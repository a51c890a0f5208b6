//! Secret values that are wiped on drop, hidden in `Debug`, and not serialisable.

use std::{fmt, sync::Arc, time::Duration};

use secrecy::{ExposeSecret as _, SecretSlice, SecretString, zeroize::Zeroizing};

/// A secret value. `Debug` hides it, and it cannot be serialised:
///
/// ```compile_fail
/// fn print(value: bp_secrets::SecretValue) -> String {
///     serde_json::to_string(&value).unwrap()
/// }
/// ```
///
/// ```compile_fail
/// fn print(value: bp_secrets::SecretValue) -> String {
///     value.to_string()
/// }
/// ```
///
/// The copies of this crate are wiped when they are dropped; copies made by the SDK, TLS and the operating system are
/// not.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SecretValue {
    /// Text: a `SecretString`, or a parameter.
    Text(SecretString),
    /// Bytes: a `SecretBinary`.
    Binary(SecretSlice<u8>),
}

impl SecretValue {
    /// The text; `None` for a binary value.
    pub fn text(&self) -> Option<&SecretString> {
        match self {
            SecretValue::Text(text) => Some(text),
            SecretValue::Binary(_) => None,
        }
    }

    /// The bytes of the text or binary value.
    pub fn expose_bytes(&self) -> &[u8] {
        match self {
            SecretValue::Text(text) => text.expose_secret().as_bytes(),
            SecretValue::Binary(bytes) => bytes.expose_secret(),
        }
    }

    /// Copies a text into a secret value, and wipes the SDK's copy.
    #[cfg_attr(not(any(feature = "secretsmanager", feature = "ssm")), allow(dead_code))]
    pub(crate) fn take_text(text: String) -> Self {
        let text = Zeroizing::new(text);
        SecretValue::Text(SecretString::from(text.as_str()))
    }

    /// Copies bytes into a secret value, and wipes the SDK's copy.
    #[cfg_attr(not(feature = "secretsmanager"), allow(dead_code))]
    pub(crate) fn take_bytes(bytes: Vec<u8>) -> Self {
        let bytes = Zeroizing::new(bytes);
        SecretValue::Binary(SecretSlice::from(bytes.to_vec()))
    }
}

/// A whole value as read from a store. Cheap to clone; clones share one copy of the value.
///
/// ```
/// use bp_secrets::{SecretValue, value::Stored};
///
/// let value = SecretValue::Text("hush".to_owned().into());
/// let stored = Stored::new(value, "arn:aws:ssm:eu-central-1:111111111111:parameter/host", "3");
/// assert_eq!((stored.version(), stored.stale_for()), ("3", None));
/// assert!(!format!("{stored:?}").contains("hush"));
/// ```
#[derive(Debug, Clone)]
pub struct Stored {
    whole: Arc<Whole>,
    stale_for: Option<Duration>,
}

#[derive(Debug)]
struct Whole {
    value: SecretValue,
    arn: String,
    version: String,
}

impl Stored {
    /// A value with its ARN and its version id (for a parameter, version number).
    pub fn new(value: SecretValue, arn: impl Into<String>, version: impl Into<String>) -> Self {
        Stored { whole: Arc::new(Whole { value, arn: arn.into(), version: version.into() }), stale_for: None }
    }

    /// The value.
    pub fn value(&self) -> &SecretValue {
        &self.whole.value
    }

    /// The ARN that it was read from; when read from a replica, the replica's ARN.
    pub fn arn(&self) -> &str {
        &self.whole.arn
    }

    /// The id of the secret's version, or the parameter's version number.
    pub fn version(&self) -> &str {
        &self.whole.version
    }

    /// The age of a stale value, which a cache serves while the service is unreachable; `None` for a fresh one.
    pub fn stale_for(&self) -> Option<Duration> {
        self.stale_for
    }

    #[cfg(feature = "cache")]
    pub(crate) fn with_staleness(mut self, stale_for: Option<Duration>) -> Self {
        self.stale_for = stale_for;
        self
    }
}

/// The value of a reference: a whole value, or one key of it.
#[derive(Clone)]
pub struct Fetched {
    /// The value of the JSON key, if the reference has one.
    pub(crate) picked: Option<SecretValue>,
    pub(crate) stored: Stored,
    pub(crate) kind: Kind,
}

/// The kind of a reference's value, which decides how ECS and the CSI driver render it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A text, or a key whose value is a string.
    Text,
    /// Bytes.
    Binary,
    /// A key whose value is a number that every renderer formats alike.
    Number,
    /// A key whose value is a number that Go programs, such as the ECS agent, format differently: `1e+06`.
    GoNumber,
    /// A key whose value is `true` or `false`.
    Bool,
    /// A key whose value is an object or an array.
    Compound,
    /// A key whose value is `null`.
    Null,
}

impl Fetched {
    /// The value; for a key whose value is not a string, its JSON text.
    pub fn value(&self) -> &SecretValue {
        self.picked.as_ref().unwrap_or(self.stored.value())
    }

    /// A copy of the value.
    pub fn into_value(self) -> SecretValue {
        self.picked.unwrap_or_else(|| self.stored.value().clone())
    }

    /// The ARN that it was read from.
    pub fn arn(&self) -> &str {
        self.stored.arn()
    }

    /// The id of the secret's version, or the parameter's version number.
    pub fn version(&self) -> &str {
        self.stored.version()
    }

    /// The age of a stale value, which a cache serves while the service is unreachable; `None` for a fresh one.
    pub fn stale_for(&self) -> Option<Duration> {
        self.stored.stale_for()
    }

    /// The kind of the value.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetched")
            .field("arn", &self.arn())
            .field("version", &self.version())
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}
