//! Why a value could not be read.

use std::{error::Error as StdError, fmt, sync::Arc};

use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::Reference;

/// What an error was caused by. Never an HTTP answer: its body may hold the value.
pub(crate) type Source = Arc<dyn StdError + Send + Sync>;

/// Why a reference's value could not be read. It names the reference, and never shows a value or a part of one.
///
/// Cheap to clone: one failed call may be the answer to many references.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such secret or parameter.
    #[error("{reference} does not exist: create it, or correct its name, account or region")]
    Missing {
        /// What was asked for.
        reference: Box<Reference>,
        /// The request's id.
        request_id: Option<String>,
    },
    /// It is there, but not in that version or with that stage or label.
    #[error("{reference} exists, but not in this version: no such version id, stage, number or label")]
    NoSuchVersion {
        /// What was asked for.
        reference: Box<Reference>,
        /// The request's id.
        request_id: Option<String>,
    },
    /// The JSON object does not have the key.
    #[error("{reference} holds a JSON object without the key {:?} (it has {keys} keys)", .reference.key().unwrap_or_default())]
    NoSuchKey {
        /// What was asked for.
        reference: Box<Reference>,
        /// How many keys it has.
        keys: usize,
    },
    /// A key was asked for, but the value is no JSON object.
    #[error("{reference} is not a JSON object (line {line}, column {column}), so no key of it can be read")]
    NotJson {
        /// What was asked for.
        reference: Box<Reference>,
        /// Where the value stops to be one.
        line: usize,
        /// Where in that line.
        column: usize,
    },
    /// A key was asked for, but the value is binary.
    #[error("{reference} is binary, so no key of it can be read: ECS would set an empty variable")]
    Binary {
        /// What was asked for.
        reference: Box<Reference>,
    },
    /// The secret is scheduled for deletion.
    #[error("{reference} is scheduled for deletion: restore it, or refer to another secret")]
    Deleted {
        /// What was asked for.
        reference: Box<Reference>,
        /// The request's id.
        request_id: Option<String>,
    },
    /// An IAM action is not allowed.
    #[error("{reference} may not be read: allow {grant}{}", in_request(.request_id))]
    Denied {
        /// What was asked for.
        reference: Box<Reference>,
        /// What to allow.
        grant: Grant,
        /// The request's id.
        request_id: Option<String>,
        /// The service's word.
        #[source]
        source: Source,
    },
    /// The credentials are missing, expired or not valid.
    #[error("{reference} could not be asked for: AWS credentials are missing, expired or not valid{}", in_request(.request_id))]
    Credentials {
        /// What was asked for.
        reference: Box<Reference>,
        /// The request's id.
        request_id: Option<String>,
        /// What the SDK says.
        #[source]
        source: Source,
    },
    /// The service cannot be reached, fails or throttles; the same call may go well later.
    #[error("{reference} could not be read now: the service is unreachable, fails or throttles{}", in_request(.request_id))]
    Unavailable {
        /// What was asked for.
        reference: Box<Reference>,
        /// The request's id.
        request_id: Option<String>,
        /// What the SDK says.
        #[source]
        source: Source,
    },
    /// The service refused the request for another reason.
    #[error("{reference} was refused with {code}{}", in_request(.request_id))]
    Refused {
        /// What was asked for.
        reference: Box<Reference>,
        /// The service's code.
        code: String,
        /// The request's id.
        request_id: Option<String>,
        /// The service's word.
        #[source]
        source: Source,
    },
    /// The answer could not be understood. It is not shown, since it may hold the value.
    #[error("{reference} was answered in a way that cannot be understood{}", in_request(.request_id))]
    Unreadable {
        /// What was asked for.
        reference: Box<Reference>,
        /// The request's id.
        request_id: Option<String>,
    },
    /// None of the stores is for this service or region.
    #[error("{reference} has no store: add one for {service} in {}", region.as_deref().unwrap_or("its region"))]
    NoStore {
        /// What was asked for.
        reference: Box<Reference>,
        /// The service's name.
        service: &'static str,
        /// The region in the reference's ARN.
        region: Option<String>,
    },
}

impl Error {
    /// None of the stores can read the reference.
    #[cfg_attr(not(any(feature = "secretsmanager", feature = "ssm")), allow(dead_code))]
    pub(crate) fn no_store(reference: &Reference) -> Self {
        let service = match reference {
            Reference::Secret(_) => "Secrets Manager",
            Reference::Parameter(_) => "Parameter Store",
        };
        let region = reference.arn().map(|arn| arn.region().to_owned());
        Error::NoStore { reference: Box::new(reference.clone()), service, region }
    }

    /// What was asked for.
    pub fn reference(&self) -> &Reference {
        match self {
            Error::Missing { reference, .. }
            | Error::NoSuchVersion { reference, .. }
            | Error::NoSuchKey { reference, .. }
            | Error::NotJson { reference, .. }
            | Error::Binary { reference }
            | Error::Deleted { reference, .. }
            | Error::Denied { reference, .. }
            | Error::Credentials { reference, .. }
            | Error::Unavailable { reference, .. }
            | Error::Refused { reference, .. }
            | Error::Unreadable { reference, .. }
            | Error::NoStore { reference, .. } => reference,
        }
    }

    /// A name of the case that programs can rely on.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Missing { .. } => "missing",
            Error::NoSuchVersion { .. } => "no-such-version",
            Error::NoSuchKey { .. } => "no-such-key",
            Error::NotJson { .. } => "not-json",
            Error::Binary { .. } => "binary",
            Error::Deleted { .. } => "deleted",
            Error::Denied { .. } => "denied",
            Error::Credentials { .. } => "credentials",
            Error::Unavailable { .. } => "unavailable",
            Error::Refused { .. } => "refused",
            Error::Unreadable { .. } => "unreadable",
            Error::NoStore { .. } => "no-store",
        }
    }

    /// The request's id, for a support case.
    pub fn request_id(&self) -> Option<&str> {
        match self {
            Error::Missing { request_id, .. }
            | Error::NoSuchVersion { request_id, .. }
            | Error::Deleted { request_id, .. }
            | Error::Denied { request_id, .. }
            | Error::Credentials { request_id, .. }
            | Error::Unavailable { request_id, .. }
            | Error::Refused { request_id, .. }
            | Error::Unreadable { request_id, .. } => request_id.as_deref(),
            Error::NoSuchKey { .. }
            | Error::NotJson { .. }
            | Error::Binary { .. }
            | Error::NoStore { .. } => None,
        }
    }

    /// Whether the same call may go well later without anything being changed.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Error::Unavailable { .. } | Error::Unreadable { .. })
    }

    /// Whether the reference names what is not there: it, its version or its key.
    pub fn is_missing(&self) -> bool {
        matches!(
            self,
            Error::Missing { .. }
                | Error::NoSuchVersion { .. }
                | Error::NoSuchKey { .. }
                | Error::Deleted { .. }
        )
    }

    /// The same failure for another reference, when one call answers for many.
    pub(crate) fn about(&self, other: &Reference) -> Self {
        let mut error = self.clone();
        match &mut error {
            Error::Missing { reference, .. }
            | Error::NoSuchVersion { reference, .. }
            | Error::NoSuchKey { reference, .. }
            | Error::NotJson { reference, .. }
            | Error::Binary { reference }
            | Error::Deleted { reference, .. }
            | Error::Denied { reference, .. }
            | Error::Credentials { reference, .. }
            | Error::Unavailable { reference, .. }
            | Error::Refused { reference, .. }
            | Error::Unreadable { reference, .. }
            | Error::NoStore { reference, .. } => **reference = other.clone(),
        }
        error
    }
}

/// `{"code", "reference", "message", "grant"?, "requestId"?, "retryable"}`: for events and reports.
impl Serialize for Error {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut error = serializer.serialize_struct("Error", 6)?;
        error.serialize_field("code", self.code())?;
        error.serialize_field("reference", self.reference())?;
        error.serialize_field("message", &self.to_string())?;
        match self {
            Error::Denied { grant, .. } => error.serialize_field("grant", grant)?,
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

fn in_request(id: &Option<String>) -> String {
    id.as_ref().map(|id| format!(" (request {id})")).unwrap_or_default()
}

/// An IAM action on a resource, to be allowed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Grant {
    /// The action: `secretsmanager:GetSecretValue`.
    pub action: String,
    /// The resource's ARN, with `?` and `*` where a part is not known.
    pub resource: String,
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.action, self.resource)
    }
}
