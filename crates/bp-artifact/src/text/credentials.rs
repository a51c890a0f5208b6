//! Redact the credentials in URLs that messages quote, such as the signatures of presigned requests.

use std::borrow::Cow;

/// What replaces a value.
const REDACTED: &str = "<redacted>";

/// Parameters of presigned requests, in any text: prefixes, in lower case.
const PREFIXES: [&str; 4] = ["x-amz-", "x-goog-", "x-oss-", "x-cos-"];
/// Those of them that are not secret, and explain why a request was refused.
const PLAIN: [&str; 5] = ["algorithm", "date", "expires", "signedheaders", "content-sha256"];
/// Parameters of URLs.
const NAMES: [&str; 16] = [
    "signature",
    "sig",
    "awsaccesskeyid",
    "accesskeyid",
    "ossaccesskeyid",
    "googleaccessid",
    "key-pair-id",
    "policy",
    "token",
    "access_token",
    "id_token",
    "security-token",
    "password",
    "secret",
    "client_secret",
    "q-signature",
];

/// Replaces the values of parameters that grant access: signatures, session tokens and access keys of presigned URLs
/// (Amazon S3, CloudFront, Google Cloud Storage, Azure), and tokens in the query of a URL. All other text is unchanged.
///
/// ```
/// use bp_artifact::text;
///
/// let message = "Get \"https://b.s3.amazonaws.com/x?X-Amz-Expires=3600&X-Amz-Signature=5ab1\": 403 Forbidden";
/// let redacted = "Get \"https://b.s3.amazonaws.com/x?X-Amz-Expires=3600&X-Amz-Signature=<redacted>\": 403 Forbidden";
/// assert_eq!(text::without_credentials(message), redacted);
/// ```
pub fn without_credentials(text: &str) -> Cow<'_, str> {
    let mut redacted = String::new();
    let (mut rest, mut before) = (text, String::new());
    while let Some((name, sign, value)) = next_assignment(rest) {
        before.push_str(name);
        redacted.push_str(name);
        let is_credential = is_credential(&before);
        before.push_str(sign);
        redacted.push_str(sign);
        rest = value;
        if !is_credential {
            continue;
        }
        let (secret, after) = value.split_at_checked(value_length(value)).unwrap_or((value, ""));
        let shown = if secret.is_empty() || value.starts_with(REDACTED) { secret } else { REDACTED };
        redacted.push_str(shown);
        before.push_str(secret);
        rest = after;
    }
    redacted.push_str(rest);
    if redacted == text { Cow::Borrowed(text) } else { Cow::Owned(redacted) }
}

/// The text up to the end of a parameter's name, the sign between name and value, and the rest; `=` may be
/// percent-encoded.
fn next_assignment(text: &str) -> Option<(&str, &str, &str)> {
    let length = |rest: &str| match rest.get(..3) {
        _ if rest.starts_with('=') => Some(1),
        Some(code) if code.eq_ignore_ascii_case("%3d") => Some(3),
        Some(_) | None => None,
    };
    let (at, length) = text.char_indices().find_map(|(at, _)| Some((at, length(text.get(at..)?)?)))?;
    let (name, rest) = text.split_at_checked(at)?;
    let (sign, value) = rest.split_at_checked(length)?;
    Some((name, sign, value))
}

/// Whether the name that this text ends with is that of a credential.
fn is_credential(text: &str) -> bool {
    let name = text.rsplit(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))).next();
    let name = name.unwrap_or_default().to_ascii_lowercase();
    let before = text.get(..text.len().saturating_sub(name.len())).unwrap_or_default();
    // In an encoded query, `%3F`, `%26` and the escape of JSON for `&` end in characters of a name.
    let encoded = before.ends_with('%');
    let escaped = before.ends_with('\\');
    let name = match (encoded, escaped) {
        (true, _) => name.strip_prefix("26").or_else(|| name.strip_prefix("3f")).unwrap_or(&name),
        (_, true) => name.strip_prefix("u0026").or_else(|| name.strip_prefix("u003f")).unwrap_or(&name),
        (false, false) => &name,
    };
    if let Some(rest) = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)) {
        return !PLAIN.contains(&rest);
    }
    let in_query = encoded || escaped || before.ends_with(['?', '&', ';']);
    in_query && NAMES.contains(&name)
}

/// The length of a value: up to the next parameter, or the end of the URL.
fn value_length(value: &str) -> usize {
    let ends = |c: char| c.is_whitespace() || c.is_control() || "&\"'`<>;,|\\)]}".contains(c);
    let plain = value.find(ends).unwrap_or(value.len());
    let plain = value.get(..plain).unwrap_or(value);
    let encoded = plain.to_ascii_lowercase().find("%26").unwrap_or(plain.len());
    // The message continues after the URL: `…: i/o timeout`.
    plain.get(..encoded).unwrap_or(plain).trim_end_matches([':', '.']).len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redacts_signatures_tokens_and_keys_of_every_store() {
        for (text, expected) in [
            (
                "failed to copy: httpReadSeeker: failed open: unexpected status from GET request to \
                 https://prod-eu-starport.s3.eu-central-1.amazonaws.com/a/b?X-Amz-Security-Token=IQoJb3JpZ2luX2VjEA%3D%3D\
                 &X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20261129T113100Z&X-Amz-SignedHeaders=host&X-Amz-Expires=3600\
                 &X-Amz-Credential=ASIA111%2F20261129%2Feu-central-1%2Fs3%2Faws4_request&X-Amz-Signature=5ab1cd: 403 Forbidden",
                "failed to copy: httpReadSeeker: failed open: unexpected status from GET request to \
                 https://prod-eu-starport.s3.eu-central-1.amazonaws.com/a/b?X-Amz-Security-Token=<redacted>\
                 &X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20261129T113100Z&X-Amz-SignedHeaders=host&X-Amz-Expires=3600\
                 &X-Amz-Credential=<redacted>&X-Amz-Signature=<redacted>: 403 Forbidden",
            ),
            (
                "GET \"https://h/x?x-amz-signature=ab\", cut",
                "GET \"https://h/x?x-amz-signature=<redacted>\", cut",
            ),
            ("…=3600&X-Amz-Signature=ab", "…=3600&X-Amz-Signature=<redacted>"),
            (
                r"https://h/x?a=1\u0026X-Amz-Signature=ab\u0026b=2",
                r"https://h/x?a=1\u0026X-Amz-Signature=<redacted>\u0026b=2",
            ),
            (
                "u=https%3A%2F%2Fh%2Fx%3FX-Amz-Signature%3Dab%26b%3D2",
                "u=https%3A%2F%2Fh%2Fx%3FX-Amz-Signature%3D<redacted>%26b%3D2",
            ),
            (
                "https://c/x?Expires=1&Signature=a~b-c_&Key-Pair-Id=K1",
                "https://c/x?Expires=1&Signature=<redacted>&Key-Pair-Id=<redacted>",
            ),
            (
                "https://s.blob.core.windows.net/x?sv=2026&sig=a%2Fb%3D&se=1",
                "https://s.blob.core.windows.net/x?sv=2026&sig=<redacted>&se=1",
            ),
            (
                "https://storage/x?X-Goog-Signature=ab&X-Goog-Date=1",
                "https://storage/x?X-Goog-Signature=<redacted>&X-Goog-Date=1",
            ),
            (
                "https://r/token?service=x&access_token=ab",
                "https://r/token?service=x&access_token=<redacted>",
            ),
        ] {
            let once = without_credentials(text);
            assert_eq!(once, expected);
            assert_eq!(without_credentials(&once), expected, "idempotent");
        }
    }

    #[test]
    fn leaves_other_text_unchanged() {
        for text in [
            "",
            "=",
            "é=é",
            "%",
            "%3",
            "secret \"db\" not found; token=abc is not in a URL",
            "https://r.example.com/v2/shop/web/manifests/1?ns=docker.io&X-Amz-Expires=60",
            "X-Amz-Signature=",
            "env: PASSWORD=x, policy=Always",
        ] {
            assert!(matches!(without_credentials(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }
}
