//! A `tracing` span for each HTTP exchange with a registry.

use bp_artifact::{host::host_and_port, text::SingleLine};
use http::{HeaderMap, Response};
use tracing::{
    Span,
    field::{Empty, display},
};
use url::Url;

use super::error::RequestLine;

/// The response headers in which registries return the id of a request, for the registry's operator.
const REQUEST_IDS: [&str; 5] = [
    "x-request-id",
    "x-amzn-requestid",
    "x-amz-request-id",
    "x-github-request-id",
    "x-ms-correlation-request-id",
];

/// The maximum length of a request id. A longer value is not recorded: it is none, and it could be a token.
const MAX_REQUEST_ID: usize = 64;

fn request_id(headers: &HeaderMap) -> Option<&str> {
    let id = REQUEST_IDS.iter().find_map(|name| headers.get(*name))?.to_str().ok()?;
    (id.len() <= MAX_REQUEST_ID).then_some(id)
}

/// The span of one exchange. Its path is that of the request even after a redirect: the query is omitted, and the path
/// of a redirect or of an upload may itself be a secret.
pub(super) fn exchange(at: &RequestLine, url: &Url, attempt: u32) -> Span {
    tracing::debug_span!(
        "registry_request",
        method = at.method.as_str(),
        host = host_and_port(url.as_str()),
        path = %SingleLine(at.path.trim_start()),
        attempt,
        status = Empty,
        request_id = Empty,
    )
}

/// Records the status and the request id of a response.
pub(super) fn record<B>(span: &Span, response: &Response<B>) {
    if span.is_disabled() {
        return;
    }
    span.record("status", response.status().as_u16());
    if let Some(id) = request_id(response.headers()) {
        span.record("request_id", display(SingleLine(id)));
    }
}
