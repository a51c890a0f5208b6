//! Errors of reading and checking secrets and parameters.

use std::{error::Error as StdError, fmt, sync::Arc};

use serde::{Serialize, Serializer, ser::SerializeStruct};

use bp_artifact::error::{Classified, ErrorClass};

use crate::{permissions::Grant, reference::Reference};

/// The cause of an error. Never an HTTP response: its body may contain the value.
pub(crate) type Source = Arc<dyn StdError + Send + Sync>;

/// A reference's value could not be read. The error contains the reference, and never a value or a part of one.
///
/// Cheap to clone: one failed call may apply to many references.
///
/// ```
/// use bp_secrets::{Error, ErrorKind};
///
/// fn advice(error: &Error) -> String {
///     match error.kind() {
///         ErrorKind::Missing => format!("create {}", error.reference()),
///         ErrorKind::Denied { grant } => format!("allow {grant}"),
///         _ if error.is_retryable() => "try again".to_owned(),
///         _ => error.to_string(),
///     }
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Error {
    reference: Box<Reference>,
    kind: ErrorKind,
    request_id: Option<String>,
    source: Option<Source>,
}

/// The kind of an [`Error`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The secret or parameter does not exist.
    Missing,
    /// It exists, but not in that version or with that stage or label.
    NoSuchVersion,
    /// The JSON object does not have the key.
    NoSuchKey {
        /// The number of keys that it has.
        keys: usize,
    },
    /// The reference has a JSON key, but the value is not a JSON object.
    NotJson {
        /// The line of the syntax error.
        line: usize,
        /// The column in that line.
        column: usize,
    },
    /// The reference has a JSON key, but the value is binary.
    Binary,
    /// The secret is scheduled for deletion.
    Deleted,
    /// An IAM action is not allowed.
    Denied {
        /// The permission to add.
        grant: Grant,
    },
    /// The credentials are missing, expired or invalid.
    Credentials,
    /// The service is unreachable, fails or throttles; a retry may succeed.
    Unavailable,
    /// The service rejected the request for another reason.
    Refused {
        /// The service's error code.
        code: String,
    },
    /// The response could not be parsed. It is not shown, since it may contain the value.
    Unreadable,
    /// No store is configured for this service or region.
    NoStore,
}

impl ErrorKind {
    /// A stable identifier of the kind, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            ErrorKind::Missing => "missing",
            ErrorKind::NoSuchVersion => "no-such-version",
            ErrorKind::NoSuchKey { .. } => "no-such-key",
            ErrorKind::NotJson { .. } => "not-json",
            ErrorKind::Binary => "binary",
            ErrorKind::Deleted => "deleted",
            ErrorKind::Denied { .. } => "denied",
            ErrorKind::Credentials => "credentials",
            ErrorKind::Unavailable => "unavailable",
            ErrorKind::Refused { .. } => "refused",
            ErrorKind::Unreadable => "unreadable",
            ErrorKind::NoStore => "no-store",
        }
    }
}

impl Error {
    pub(crate) fn new(reference: &Reference, kind: ErrorKind) -> Self {
        Error { reference: Box::new(reference.clone()), kind, request_id: None, source: None }
    }

    /// Adds the id of the failed request.
    #[cfg_attr(not(any(feature = "secretsmanager", feature = "ssm")), allow(dead_code))]
    pub(crate) fn in_request(mut self, id: Option<String>) -> Self {
        self.request_id = id;
        self
    }

    #[cfg_attr(not(any(feature = "secretsmanager", feature = "ssm")), allow(dead_code))]
    pub(crate) fn caused_by(mut self, source: Source) -> Self {
        self.source = Some(source);
        self
    }

    /// The reference that could not be read.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// The kind of error.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// A stable identifier of the kind, for programs.
    pub fn code(&self) -> &'static str {
        self.kind.code()
    }

    /// The AWS request id, for a support case.
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    /// Whether a retry may succeed without any change.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, ErrorKind::Unavailable | ErrorKind::Unreadable)
    }

    /// Whether the secret or parameter, its version or its key does not exist.
    pub fn is_missing(&self) -> bool {
        use ErrorKind::{Deleted, Missing, NoSuchKey, NoSuchVersion};
        matches!(self.kind, Missing | NoSuchVersion | NoSuchKey { .. } | Deleted)
    }

    /// The same failure for another reference, when one call answers for many.
    pub(crate) fn for_reference(&self, other: &Reference) -> Self {
        Error { reference: Box::new(other.clone()), ..self.clone() }
    }
}

impl Classified for Error {
    fn class(&self) -> ErrorClass {
        match self.kind {
            ErrorKind::Missing
            | ErrorKind::NoSuchVersion
            | ErrorKind::NoSuchKey { .. }
            | ErrorKind::NotJson { .. }
            | ErrorKind::Binary
            | ErrorKind::Deleted
            | ErrorKind::Refused { .. }
            | ErrorKind::NoStore => ErrorClass::BadInput,
            ErrorKind::Denied { .. }
            | ErrorKind::Credentials
            | ErrorKind::Unavailable
            | ErrorKind::Unreadable => ErrorClass::Unavailable,
        }
    }

    fn is_retryable(&self) -> bool {
        Error::is_retryable(self)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reference = &self.reference;
        write!(f, "{reference} ")?;
        match &self.kind {
            ErrorKind::Missing => {
                f.write_str("does not exist: create it, or correct its name, account or region")
            }
            ErrorKind::NoSuchVersion => {
                f.write_str("exists, but not in this version: no such version id, stage, number or label")
            }
            ErrorKind::NoSuchKey { keys } => {
                let key = reference.key().unwrap_or_default();
                write!(f, "holds a JSON object without the key {key:?} (it has {keys} keys)")
            }
            ErrorKind::NotJson { line, column } => {
                write!(
                    f,
                    "is not a JSON object (line {line}, column {column}), so its keys cannot be read: \
                     store a JSON object, or remove the key from the reference"
                )
            }
            ErrorKind::Binary => {
                f.write_str("is binary, so its keys cannot be read: store a JSON object as text")
            }
            ErrorKind::Deleted => {
                f.write_str("is scheduled for deletion: restore it, or refer to another secret")
            }
            ErrorKind::Denied { grant } => write!(f, "cannot be read, access is denied: allow {grant}"),
            ErrorKind::Credentials => {
                f.write_str("cannot be read: AWS credentials are missing, expired or invalid")
            }
            ErrorKind::Unavailable => {
                f.write_str("cannot be read: the service is unreachable, fails or throttles; try again later")
            }
            ErrorKind::Refused { code } => {
                write!(f, "cannot be read: the service rejected the request with {code}")
            }
            ErrorKind::Unreadable => {
                f.write_str("cannot be read: the service sent a response that cannot be parsed")
            }
            ErrorKind::NoStore => {
                let service = match **reference {
                    Reference::Secret(_) => "Secrets Manager",
                    Reference::Parameter(_) => "Parameter Store",
                };
                let region = reference.arn().map_or("its region", |arn| arn.region());
                write!(f, "has no store: add one for {service} in {region}")
            }
        }?;
        match &self.request_id {
            Some(id) => write!(f, " (request {id})"),
            None => Ok(()),
        }
    }
}

/// `{"code", "reference", "message", "grant"?, "requestId"?, "retryable"}`: for events and reports.
impl Serialize for Error {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut error = serializer.serialize_struct("Error", 6)?;
        error.serialize_field("code", self.code())?;
        error.serialize_field("reference", self.reference())?;
        error.serialize_field("message", &self.to_string())?;
        match &self.kind {
            ErrorKind::Denied { grant } => error.serialize_field("grant", grant)?,
            _ => error.skip_field("grant")?,
        }
        match self.request_id() {
            Some(id) => error.serialize_field("requestId", id)?,
            None => error.skip_field("requestId")?,
        }
        error.serialize_field("retryable", &self.is_retryable())?;
        error.end()
    }
}
