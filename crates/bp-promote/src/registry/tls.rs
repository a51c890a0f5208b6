//! Connection errors that no retry corrects: a server without TLS, or with a certificate that is not trusted.

use std::fmt;

use url::Url;

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
    pub(super) fn of(url: &Url, error: &str) -> Option<Self> {
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
