//! Routing: parse method and path of a request.

use http::{Method, request};

use super::error::RegistryError;

/// The target of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route<'a> {
    Base,
    Token,
    Catalog,
    Tags { name: &'a str },
    Referrers { name: &'a str, digest: &'a str },
    Manifest { name: &'a str, reference: &'a str },
    Blob { name: &'a str, digest: &'a str },
    Uploads { name: &'a str },
    Upload { name: &'a str, id: &'a str },
}

impl<'a> Route<'a> {
    /// Parses a path, and checks that the route supports the method.
    pub(super) fn of(method: &Method, path: &'a str) -> Result<Self, RegistryError> {
        let route = Self::read(path).ok_or_else(|| RegistryError::new(404, "NOT_FOUND", "no such path"))?;
        if let Some(name) = route.repository()
            && !is_name(name)
        {
            return Err(RegistryError::new(400, "NAME_INVALID", format!("invalid repository name: {name}")));
        }
        if route.methods().contains(&method.as_str()) {
            Ok(route)
        } else {
            Err(RegistryError::new(405, "UNSUPPORTED", "The operation is unsupported."))
        }
    }

    /// Parses the path from its end, because repository names may contain components like `blobs`.
    pub(super) fn read(path: &'a str) -> Option<Self> {
        if path == "/token" {
            return Some(Route::Token);
        }
        let rest = path.strip_prefix("/v2")?;
        match rest {
            "" | "/" => return Some(Route::Base),
            "/_catalog" => return Some(Route::Catalog),
            _ => {}
        }
        let rest = rest.strip_prefix('/')?;
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return Some(Route::Tags { name });
        }
        if let Some(name) = rest.strip_suffix("/blobs/uploads/").or(rest.strip_suffix("/blobs/uploads")) {
            return Some(Route::Uploads { name });
        }
        let (rest, last) = rest.rsplit_once('/')?;
        if let Some(name) = rest.strip_suffix("/blobs/uploads") {
            return Some(Route::Upload { name, id: last });
        }
        match rest.rsplit_once('/')? {
            (name, "manifests") => Some(Route::Manifest { name, reference: last }),
            (name, "blobs") => Some(Route::Blob { name, digest: last }),
            (name, "referrers") => Some(Route::Referrers { name, digest: last }),
            _ => None,
        }
    }

    fn repository(&self) -> Option<&'a str> {
        match *self {
            Route::Base | Route::Token | Route::Catalog => None,
            Route::Tags { name }
            | Route::Referrers { name, .. }
            | Route::Manifest { name, .. }
            | Route::Blob { name, .. }
            | Route::Uploads { name }
            | Route::Upload { name, .. } => Some(name),
        }
    }

    fn methods(&self) -> &'static [&'static str] {
        match self {
            Route::Base => &["GET", "HEAD"],
            Route::Token | Route::Catalog | Route::Tags { .. } | Route::Referrers { .. } => &["GET"],
            Route::Manifest { .. } => &["GET", "HEAD", "PUT", "DELETE"],
            Route::Blob { .. } => &["GET", "HEAD", "DELETE"],
            Route::Uploads { .. } => &["POST"],
            Route::Upload { .. } => &["GET", "PATCH", "PUT", "DELETE"],
        }
    }

    /// The scope of the token that the request needs: repository and actions.
    pub(super) fn scope(&self, method: &Method) -> Option<(&'a str, &'static [&'static str])> {
        let actions: &[&str] = match *method {
            Method::GET | Method::HEAD => match self {
                Route::Upload { .. } => &["push"],
                _ => &["pull"],
            },
            Method::DELETE if !matches!(self, Route::Upload { .. }) => &["delete"],
            _ => &["pull", "push"],
        };
        Some((self.repository()?, actions))
    }
}

/// The operation of a request, for the ledger.
pub(super) fn operation(parts: &request::Parts) -> String {
    let noun = match Route::read(parts.uri.path()) {
        None => "other",
        Some(Route::Base) => "base",
        Some(Route::Token) => "token",
        Some(Route::Catalog) => "catalog",
        Some(Route::Tags { .. }) => "tags",
        Some(Route::Referrers { .. }) => "referrers",
        Some(Route::Manifest { .. }) => "manifest",
        Some(Route::Blob { .. }) => "blob",
        Some(Route::Uploads { .. }) if query(parts, "mount").is_some() => "mount",
        Some(Route::Uploads { .. } | Route::Upload { .. }) => "upload",
    };
    format!("{} {noun}", parts.method)
}

/// The first value of a query parameter, decoded.
pub(super) fn query(parts: &request::Parts, name: &str) -> Option<String> {
    query_all(parts, name).next()
}

/// All values of a query parameter, decoded.
pub(super) fn query_all<'a>(parts: &'a request::Parts, name: &'a str) -> impl Iterator<Item = String> + 'a {
    parts.uri.query().unwrap_or_default().split('&').filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then(|| decode(value))
    })
}

fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*`
fn is_name(name: &str) -> bool {
    let alnum = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separator = |s: &str| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-');
    let component =
        |part: &str| part.starts_with(alnum) && part.ends_with(alnum) && part.split(alnum).all(separator);
    name.len() <= 255 && name.split('/').all(component)
}

/// A tag by the specification's grammar.
pub(super) fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    matches!(tag.as_bytes(), [first, rest @ ..]
        if word(*first) && rest.len() < 128 && rest.iter().all(|b| word(*b) || matches!(b, b'.' | b'-')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_paths_from_their_end() {
        for (path, route) in [
            ("/v2/", Route::Base),
            ("/v2/a/blobs/manifests/v1", Route::Manifest { name: "a/blobs", reference: "v1" }),
            ("/v2/a/b/blobs/uploads/", Route::Uploads { name: "a/b" }),
            ("/v2/a/b/blobs/uploads/77", Route::Upload { name: "a/b", id: "77" }),
            ("/v2/a/blobs/sha256:1", Route::Blob { name: "a", digest: "sha256:1" }),
            ("/v2/tags/list/tags/list", Route::Tags { name: "tags/list" }),
        ] {
            assert_eq!(Route::read(path), Some(route), "{path}");
        }
        assert_eq!(Route::read("/v2/a"), None);
        assert_eq!(Route::of(&Method::POST, "/v2/a/manifests/b").unwrap_err().status, 405);
        assert_eq!(Route::of(&Method::GET, "/v2/A/manifests/b").unwrap_err().code, "NAME_INVALID");
    }
}
