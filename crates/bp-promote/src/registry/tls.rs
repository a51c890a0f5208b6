//! Connection errors that no retry corrects: a server without TLS, or with a certificate that is not trusted.

use std::fmt;

use bp_artifact::{error::chain, host::host_and_port};
use url::Url;

use super::{
    error::{RegistryError, RequestLine},
    http::BoxError,
};

/// Why no TLS connection can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsProblem {
    /// The server does not answer with TLS.
    PlainHttp,
    /// The server expects TLS.
    ExpectsTls,
    /// The authority of the server's certificate is unknown.
    UnknownAuthority,
    /// The certificate is invalid for another reason: it has expired, or is for another host name.
    InvalidCertificate,
}

impl fmt::Display for TlsProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TlsProblem::PlainHttp => {
                "does not answer with TLS: if it serves plain HTTP, add --plain-http HOST"
            }
            TlsProblem::ExpectsTls => {
                "does not answer with plain HTTP: if it serves HTTPS, omit --plain-http"
            }
            TlsProblem::UnknownAuthority => {
                "has a certificate of an unknown authority: add the authority's certificate with --ca FILE"
            }
            TlsProblem::InvalidCertificate => "has an invalid certificate",
        })
    }
}

impl TlsProblem {
    /// Recognises the problem in the text of an error: its type depends on the HTTP client and its TLS library.
    fn of(url: &Url, error: &str) -> Option<Self> {
        let is_tls = url.scheme() == "https";
        if is_tls && error.contains("InvalidContentType") {
            Some(TlsProblem::PlainHttp)
        } else if is_tls && error.contains("UnknownIssuer") {
            Some(TlsProblem::UnknownAuthority)
        } else if is_tls && error.contains("invalid peer certificate") {
            Some(TlsProblem::InvalidCertificate)
        } else if !is_tls && error.contains("invalid HTTP version") {
            Some(TlsProblem::ExpectsTls)
        } else {
            None
        }
    }
}

/// The error of a request to `url` without a response.
pub(super) fn transport_error(at: RequestLine, url: &Url, source: BoxError) -> RegistryError {
    match TlsProblem::of(url, &chain(&*source)) {
        Some(problem) => {
            let host = host_and_port(url.as_str()).unwrap_or_default();
            RegistryError::Tls { at, host, problem, source }
        }
        None => RegistryError::Transport { at, source },
    }
}
