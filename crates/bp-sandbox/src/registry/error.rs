//! Registry responses, and errors in the specification's JSON format.

use http::{HeaderName, HeaderValue, Response, header};
use serde_json::{Value, json};

use crate::body::Body;

pub(super) type Answer = Result<Response<Body>, RegistryError>;

/// An error response: `{"errors": [{"code", "message", "detail"}]}`.
#[derive(Debug, Clone)]
pub(crate) struct RegistryError {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    headers: Vec<(HeaderName, String)>,
}

impl RegistryError {
    pub(super) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        RegistryError { status, code, message: message.into(), headers: Vec::new() }
    }

    pub(super) fn with(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn no_repository(name: &str) -> Self {
        Self::new(404, "NAME_UNKNOWN", format!("The repository with name '{name}' does not exist"))
    }

    pub(super) fn no_manifest(reference: &str) -> Self {
        Self::new(404, "MANIFEST_UNKNOWN", format!("no manifest {reference}"))
    }

    pub(super) fn no_blob(digest: &str) -> Self {
        Self::new(404, "BLOB_UNKNOWN", format!("no blob {digest}"))
    }

    pub(super) fn no_upload(id: &str) -> Self {
        Self::new(404, "BLOB_UPLOAD_UNKNOWN", format!("no upload {id}"))
    }

    pub(super) fn bad_digest(message: impl Into<String>) -> Self {
        Self::new(400, "DIGEST_INVALID", message)
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let error = json!({ "code": self.code, "message": self.message, "detail": Value::Null });
        let mut response = json(self.status, &json!({ "errors": [error] }));
        for (name, value) in self.headers {
            set(&mut response, name, &value);
        }
        response
    }
}

/// A JSON response.
pub(super) fn json(status: u16, value: &Value) -> Response<Body> {
    let mut response = empty(status);
    set(&mut response, header::CONTENT_TYPE, "application/json");
    *response.body_mut() = value.to_string().into();
    response
}

/// A response without a body.
pub(super) fn empty(status: u16) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = http::StatusCode::from_u16(status).expect("a valid status");
    set(&mut response, HeaderName::from_static("docker-distribution-api-version"), "registry/2.0");
    response
}

/// Sets a header, unless the value is not a valid header value.
pub(super) fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
