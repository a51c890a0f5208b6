//! Why a value could not be read.

use std::{error::Error as StdError, fmt, sync::Arc};

use serde::{Serialize, Serializer, ser::SerializeStruct};

use bp_artifact::error::{Classified, ErrorClass};

use crate::{permissions::Grant, reference::Reference};

/// What an error was caused by. Never an HTTP answer: its body may hold the value.
pub(crate) type Source = Arc<dyn StdError + Send + Sync>;

/// Why a reference's value could not be read. It names the reference, and never shows a value or a part of one.
///
/// Cheap to clone: one failed call may be the answer to many references.
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

/// What is wrong, in an [`Error`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no such secret or parameter.
    Missing,
    /// It is there, but not in that version or with that stage or label.
    NoSuchVersion,
    /// The JSON object does not have the key.
    NoSuchKey {
        /// How many keys it has.
        keys: usize,
    },
    /// A key was asked for, but the value is no JSON object.
    NotJson {
        /// Where the value stops to be one.
        line: usize,
        /// Where in that line.
        column: usize,
    },
    /// A key was asked for, but the value is binary.
    Binary,
    /// The secret is scheduled for deletion.
    Deleted,
    /// An IAM action is not allowed.
    Denied {
        /// What to allow.
        grant: Grant,
    },
    /// The credentials are missing, expired or not valid.
    Credentials,
    /// The service cannot be reached, fails or throttles; the same call may go well later.
    Unavailable,
    /// The service refused the request for another reason.
    Refused {
        /// The service's code.
        code: String,
    },
    /// The answer could not be understood. It is not shown, since it may hold the value.
    Unreadable,
    /// None of the stores is for this service or region.
    NoStore,
}

impl ErrorKind {
    /// A name of the case that programs can rely on.
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

    /// The same, told by the request with this id.
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

    /// What was asked for.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// What is wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// A name of the case that programs can rely on.
    pub fn code(&self) -> &'static str {
        self.kind.code()
    }

    /// The request's id, for a support case.
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    /// Whether the same call may go well later without anything being changed.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, ErrorKind::Unavailable | ErrorKind::Unreadable)
    }

    /// Whether the reference names what is not there: it, its version or its key.
    pub fn is_missing(&self) -> bool {
        use ErrorKind::{Deleted, Missing, NoSuchKey, NoSuchVersion};
        matches!(self.kind, Missing | NoSuchVersion | NoSuchKey { .. } | Deleted)
    }

    /// The same failure for another reference, when one call answers for many.
    pub(crate) fn about(&self, other: &Reference) -> Self {
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
                write!(f, "is not a JSON object (line {line}, column {column}), so no key of it can be read")
            }
            ErrorKind::Binary => {
                f.write_str("is binary, so no key of it can be read: ECS would set an empty variable")
            }
            ErrorKind::Deleted => {
                f.write_str("is scheduled for deletion: restore it, or refer to another secret")
            }
            ErrorKind::Denied { grant } => write!(f, "may not be read: allow {grant}"),
            ErrorKind::Credentials => {
                f.write_str("could not be asked for: AWS credentials are missing, expired or not valid")
            }
            ErrorKind::Unavailable => {
                f.write_str("could not be read now: the service is unreachable, fails or throttles")
            }
            ErrorKind::Refused { code } => write!(f, "was refused with {code}"),
            ErrorKind::Unreadable => f.write_str("was answered in a way that cannot be understood"),
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
