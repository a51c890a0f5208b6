//! The host and the port of a URL, for spans and messages.

use url::{Position, Url};

/// The host and the port of a URL, without user information, path and query; `None` if it is not a valid URL.
///
/// ```
/// use bp_artifact::host::host_and_port;
///
/// let url = "http://user:password@127.0.0.1:4566/path?X-Amz-Signature=x";
/// assert_eq!(host_and_port(url).as_deref(), Some("127.0.0.1:4566"));
/// ```
pub fn host_and_port(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    Some(url[Position::BeforeHost..Position::AfterPort].to_owned())
}

#[cfg(test)]
mod tests {
    use super::host_and_port;

    #[test]
    fn the_host_excludes_user_information_path_and_query() {
        for (uri, expected) in [
            ("https://ecs.eu-central-1.amazonaws.com/", Some("ecs.eu-central-1.amazonaws.com")),
            ("http://user:password@127.0.0.1:4566/path?X-Amz-Signature=x", Some("127.0.0.1:4566")),
            ("/path?query", None),
        ] {
            assert_eq!(host_and_port(uri).as_deref(), expected, "{uri}");
        }
    }
}
