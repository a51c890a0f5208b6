//! Authentication challenges: parsing `WWW-Authenticate`.

use http::{HeaderMap, header};

/// The authentication scheme that a registry requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

impl Challenge {
    /// The preferred challenge of a response: Bearer before Basic.
    pub(super) fn read(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let mut challenges: Vec<Challenge> = values.filter_map(Self::parse).collect();
        let bearer = challenges.iter().position(|challenge| matches!(challenge, Challenge::Bearer { .. }));
        (!challenges.is_empty()).then(|| challenges.swap_remove(bearer.unwrap_or(0)))
    }

    fn parse(value: &str) -> Option<Self> {
        let (scheme, rest) = value.trim().split_once(' ').unwrap_or((value.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Challenge::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service) = (None, None);
        for (name, value) in Parameters(rest) {
            match name.to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value),
                "service" => service = Some(value),
                _ => {}
            }
        }
        Some(Challenge::Bearer { realm: realm?, service })
    }
}

/// Iterates over `a="b", c=d`, with quoted values that may contain commas and escapes.
struct Parameters<'a>(&'a str);

impl<'a> Iterator for Parameters<'a> {
    type Item = (&'a str, String);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = self.0.trim_start_matches([',', ' ']).split_once('=')?;
        let mut value = String::new();
        let Some(quoted) = rest.trim_start().strip_prefix('"') else {
            let end = rest.find(',').unwrap_or(rest.len());
            self.0 = &rest[end..];
            return Some((name.trim(), rest[..end].trim().to_owned()));
        };
        let mut chars = quoted.char_indices();
        let mut end = quoted.len();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    end = at + 1;
                    break;
                }
                '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
                c => value.push(c),
            }
        }
        self.0 = &quoted[end..];
        Some((name.trim(), value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) })
    }

    #[test]
    fn parses_challenges_of_real_registries() {
        for (value, challenge) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a:pull,push""#,
                bearer("https://auth.docker.io/token", Some("registry.docker.io")),
            ),
            (r#"bearer service=x, realm="https://r/t""#, bearer("https://r/t", Some("x"))),
            (r#"Bearer realm="a\"b""#, bearer("a\"b", None)),
            (r#"Basic realm="https://x/",service="ecr.amazonaws.com""#, Some(Challenge::Basic)),
            ("Basic", Some(Challenge::Basic)),
            ("Negotiate", None),
            ("Bearer service=x", None),
            ("", None),
        ] {
            assert_eq!(Challenge::parse(value), challenge, "{value}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(value in "\\PC*") {
            let _ = Challenge::parse(&value);
            let _ = Challenge::parse(&format!("Bearer {value}"));
        }
    }
}
