//! The URL of a source repository without the credentials that a checkout by token puts into it.

use serde::{Serialize, Serializer};

/// The URL of a repository without user, password, query and fragment, in which tokens are passed to git.
///
/// All forms that git accepts are read: URLs, `user@host:path`, and names without a scheme. The result is `None` when
/// credentials cannot be distinguished from the rest, as in a URL with an unescaped `@` in its path: a missing URL is better
/// than a token in a file.
///
/// ```
/// use bp_artifact::artifact::without_credentials;
///
/// let clean = |url| without_credentials(url);
/// assert_eq!(clean("https://x:token@example.com/o/r.git").as_deref(), Some("https://example.com/o/r.git"));
/// assert_eq!(clean("https://example.com/o/r.git?access_token=x").as_deref(), Some("https://example.com/o/r.git"));
/// assert_eq!(clean("git@example.com:o/r.git").as_deref(), Some("example.com:o/r.git"));
/// assert_eq!(clean("https://x:12/34@example.com/o/r.git"), None);
/// ```
pub fn without_credentials(url: &str) -> Option<String> {
    let clean = cleaned(url)?;
    // Without the user, the rest may be read in another way, such as `x@https://...` as a URL.
    (cleaned(&clean).as_ref() == Some(&clean)).then_some(clean)
}

fn cleaned(url: &str) -> Option<String> {
    let url = url.trim();
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => (Some(scheme), rest),
        _ => (None, url),
    };
    let (location, extra) = rest.split_at(rest.find(['?', '#', ';', '&']).unwrap_or(rest.len()));
    let location = match scheme {
        // An at sign behind the path may end a password that contains the character before it.
        _ if extra.contains('@') => None,
        Some(_) => without_user(location),
        None => without_user_or_scheme(location),
    };
    let location = location.filter(|text| !text.is_empty() && !text.contains(unprintable))?;
    // `ssh://git@host:path` is a mixture of two forms, which git reads as `host:path`.
    let authority = location.split('/').next().unwrap_or_default();
    Some(match scheme {
        Some(scheme) if is_authority(authority) => format!("{scheme}://{location}"),
        _ => location.to_owned(),
    })
}

/// Whether there is nothing to serialize: no URL, or one of which nothing can be written.
pub(super) fn is_absent(url: &Option<String>) -> bool {
    url.as_deref().and_then(without_credentials).is_none()
}

/// Serializes the URL of a repository without its credentials, whoever set the field.
pub(super) fn serialize<S: Serializer>(url: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    url.as_deref().and_then(without_credentials).serialize(serializer)
}

/// `authority/path` of a URL, without the user.
fn without_user(location: &str) -> Option<&str> {
    let authority_end = location.find('/').unwrap_or(location.len());
    let (authority, path) = location.split_at(authority_end);
    match (authority.contains('@'), path.contains('@')) {
        (true, false) => location.rsplit_once('@').map(|(_, behind)| behind),
        (false, false) => is_authority(authority).then_some(location),
        // A password with a slash ends the authority early: `user:pa/ss@host`. Then what precedes the slash is not a host
        // with a port, and the only at sign is the end of the password.
        (false, true) if !is_authority(authority) => {
            let (_, behind) = location.rsplit_once('@')?;
            let is_only = location.matches('@').count() == 1;
            is_only.then(|| without_user(behind)).flatten()
        }
        (_, true) => None,
    }
}

/// A location without a scheme: `host/path`, `user@host:path`, a directory.
fn without_user_or_scheme(location: &str) -> Option<&str> {
    let Some((_, behind)) = location.rsplit_once('@') else { return Some(location) };
    let (host, path) = behind.split_at(behind.find(['/', ':']).unwrap_or(behind.len()));
    let is_host = is_authority(host) && (host.contains('.') || path.starts_with(':'));
    (is_host && !host.is_empty()).then_some(behind)
}

/// Whether the text is a URL scheme, or the `codecommit::<region>` of AWS CodeCommit's git helper.
fn is_scheme(text: &str) -> bool {
    let text = text.strip_prefix("codecommit::").unwrap_or(text);
    let rest = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(rest)
}

/// Whether the text is empty, or a host with an optional port.
fn is_authority(text: &str) -> bool {
    let host_char = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    let (host, port) = match text.strip_prefix('[').and_then(|address| address.split_once(']')) {
        Some((address, port)) if address.chars().all(|c| c.is_ascii_hexdigit() || c == ':') => ("", port),
        Some(_) => return false,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let digits = port.strip_prefix(':');
    host.chars().all(host_char)
        && (port.is_empty() || digits.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_digit())))
}

fn unprintable(character: char) -> bool {
    character.is_control() || character.is_whitespace()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn removes_credentials_from_every_form_of_url() {
        for (url, clean) in [
            ("https://github.com/o/r.git", Some("https://github.com/o/r.git")),
            ("https://user:token@github.com/o/r.git", Some("https://github.com/o/r.git")),
            ("https://token@github.com:8443/o/r.git", Some("https://github.com:8443/o/r.git")),
            ("https://user:p@ss@github.com/o/r", Some("https://github.com/o/r")),
            ("https://user:pa/ss@github.com/o/r", Some("https://github.com/o/r")),
            ("https://user:12/ss@github.com/o/r", None),
            ("https://user:pa?ss@github.com/o/r", None),
            ("https://user:pa/s@s@github.com/o/r", None),
            ("https://user:pass%40github.com/o/r", None),
            ("https://github.com/o/r.git?access_token=ghp_x", Some("https://github.com/o/r.git")),
            ("https://github.com/o/r.git#token=ghp_x", Some("https://github.com/o/r.git")),
            ("https://github.com/o/r.git;access_token=ghp_x", Some("https://github.com/o/r.git")),
            ("https://github.com/o/r.git?access_token=a@ghp_x", None),
            ("x-access-token:ghp_x@github.com/o/r.git", Some("github.com/o/r.git")),
            ("x-access-token:gh/p_x@github.com/o/r.git", Some("github.com/o/r.git")),
            ("github.com/o/r.git?access_token=ghp_x", Some("github.com/o/r.git")),
            ("github.com/o/r.git?access_token=a@ghp_x", None),
            ("git@github.com:o/r.git", Some("github.com:o/r.git")),
            ("ghp_x@git:o/r.git", Some("git:o/r.git")),
            ("ssh://git@github.com/o/r.git", Some("ssh://github.com/o/r.git")),
            ("ssh://git:x@github.com:o/r.git", Some("github.com:o/r.git")),
            ("https://x:y@[2001:db8::1]:8443/o/r", Some("https://[2001:db8::1]:8443/o/r")),
            ("https://[2001:db8::1]/o/r", Some("https://[2001:db8::1]/o/r")),
            ("codecommit::eu-central-1://profile@shop", Some("codecommit::eu-central-1://shop")),
            ("codecommit://shop", Some("codecommit://shop")),
            ("s3://bucket/source.zip", Some("s3://bucket/source.zip")),
            ("arn:aws:s3:::bucket/source.zip", Some("arn:aws:s3:::bucket/source.zip")),
            ("file:///srv/git/r.git", Some("file:///srv/git/r.git")),
            ("/srv/git/r.git", Some("/srv/git/r.git")),
            ("example/shop", Some("example/shop")),
            ("https://example.com/@scope/r", None),
            ("https://example.com/o r", None),
            ("x\0@https://a=b/c://d", None),
            ("x/y@s://xt:8tus", None),
            ("", None),
        ] {
            assert_eq!(without_credentials(url).as_deref(), clean, "{url}");
        }
    }

    proptest! {
        #[test]
        fn no_password_survives(
            scheme in prop_oneof![Just("https://"), Just("http://"), Just("ssh://"), Just("git+ssh://"), Just("")],
            user in "[a-z0-9_:%-]{0,5}",
            before in "[a-z0-9/?#@:%;&.\\\\\\[\\]-]{0,4}",
            after in "[a-z0-9/?#@:%;&.\\\\\\[\\]-]{0,4}",
            path in prop_oneof![Just("/o/r.git"), Just(":o/r.git"), Just("/o/r?x=1"), Just("")],
        ) {
            for url in [
                format!("{scheme}{user}:{before}S3CRET{after}@example.com{path}"),
                format!("{scheme}{before}S3CRET{after}@example.com{path}"),
                format!("{scheme}example.com/o/r.git?access_token={before}S3CRET{after}"),
                format!("{scheme}{user}@example.com/o/r.git?{before}=S3CRET{after}"),
            ] {
                let clean = without_credentials(&url);
                prop_assert!(!clean.as_deref().unwrap_or_default().contains("S3CRET"), "{url}: {clean:?}");
                prop_assert_eq!(clean.as_deref().map(without_credentials), clean.clone().map(Some), "{}", url);
            }
        }
    }
}
