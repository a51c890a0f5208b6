//! Authentication challenges: parsing `WWW-Authenticate`.

use http::{HeaderMap, header};

/// The authentication scheme that a registry requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

/// The maximum length of a scope that a registry asks for, in bytes.
const MAX_SCOPE: usize = 4096;

impl Challenge {
    /// The preferred challenge of a response: Bearer before Basic.
    pub(super) fn read(headers: &HeaderMap) -> Option<Self> {
        let mut all = offers(headers);
        let bearer = all.iter().position(|offer| matches!(offer.challenge, Challenge::Bearer { .. }));
        (!all.is_empty()).then(|| all.swap_remove(bearer.unwrap_or(0)).challenge)
    }

    /// The scope that the bearer challenge of a response asks for.
    pub(super) fn scope(headers: &HeaderMap) -> Option<String> {
        let scope = offers(headers).into_iter().find_map(|offer| offer.scope)?;
        (!scope.trim().is_empty() && scope.len() <= MAX_SCOPE).then_some(scope)
    }
}

/// One of several challenges in a response.
struct Offer {
    challenge: Challenge,
    scope: Option<String>,
}

fn offers(headers: &HeaderMap) -> Vec<Offer> {
    let values = headers.get_all(header::WWW_AUTHENTICATE).iter().map(|value| {
        // Realms of Basic challenges are shown to people, in any encoding.
        value.as_bytes().iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { '?' }).collect()
    });
    values.flat_map(|value: String| parse(&value)).collect()
}

/// Parses the challenges in a header; schemes other than Basic and Bearer are skipped.
fn parse(value: &str) -> Vec<Offer> {
    let mut schemes: Vec<(&str, Vec<(&str, String)>)> = Vec::new();
    for item in Items(value) {
        match item {
            Item::Scheme(name) => schemes.push((name, Vec::new())),
            Item::Parameter(name, value) => {
                if let Some((_, parameters)) = schemes.last_mut() {
                    parameters.push((name, value));
                }
            }
        }
    }
    schemes.into_iter().filter_map(|(scheme, parameters)| offer(scheme, parameters)).collect()
}

fn offer(scheme: &str, parameters: Vec<(&str, String)>) -> Option<Offer> {
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Offer { challenge: Challenge::Basic, scope: None });
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (mut realm, mut service, mut scope) = (None, None, None);
    for (name, value) in parameters {
        match name.to_ascii_lowercase().as_str() {
            "realm" => realm = Some(value),
            "service" => service = Some(value),
            "scope" => scope = Some(value),
            _ => {}
        }
    }
    Some(Offer { challenge: Challenge::Bearer { realm: realm?, service }, scope })
}

/// A part of a `WWW-Authenticate` header.
enum Item<'a> {
    Scheme(&'a str),
    Parameter(&'a str, String),
}

/// Iterates over `Scheme a="b", c=d, Scheme token68`, with quoted values that may contain commas and escapes.
struct Items<'a>(&'a str);

impl<'a> Iterator for Items<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        let text = self.0.trim_start_matches([',', ' ', '\t']);
        let end = text.find([',', ' ', '\t', '=']).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        let Some(rest) = rest.trim_start().strip_prefix('=') else {
            self.0 = rest;
            return (!name.is_empty() || !rest.is_empty()).then_some(Item::Scheme(name));
        };
        let value = rest.trim_start();
        let Some(quoted) = value.strip_prefix('"') else {
            let end = value.find([',', ' ', '\t']).unwrap_or(value.len());
            let (value, rest) = value.split_at(end);
            self.0 = rest;
            return Some(Item::Parameter(name, value.to_owned()));
        };
        let (mut value, mut chars) = (String::new(), quoted.chars());
        while let Some(c) = chars.next() {
            match c {
                '"' => break,
                '\\' => value.extend(chars.next()),
                c => value.push(c),
            }
        }
        self.0 = chars.as_str();
        Some(Item::Parameter(name, value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) })
    }

    fn read(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (header::WWW_AUTHENTICATE, value.parse().unwrap())).collect()
    }

    #[test]
    fn parses_challenges_of_real_registries() {
        for (value, challenge, scope) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a:pull,push""#,
                bearer("https://auth.docker.io/token", Some("registry.docker.io")),
                Some("repository:a:pull,push"),
            ),
            (r#"bearer service=x, realm="https://r/t""#, bearer("https://r/t", Some("x")), None),
            (r#"Bearer realm=https://r/t?a=b,service=x"#, bearer("https://r/t?a=b", Some("x")), None),
            (r#"Bearer realm = "r" , scope = "aws""#, bearer("r", None), Some("aws")),
            (r#"Bearer realm="a\"b""#, bearer("a\"b", None), None),
            (r#"Bearer realm="r",scope="""#, bearer("r", None), None),
            (r#"Basic realm="https://x/",service="ecr.amazonaws.com""#, Some(Challenge::Basic), None),
            ("Basic", Some(Challenge::Basic), None),
            ("Negotiate", None, None),
            ("Bearer service=x", None, None),
            ("", None, None),
            (",, =", None, None),
            // Several challenges in one header.
            (r#"Negotiate, Basic realm="x""#, Some(Challenge::Basic), None),
            (r#"Negotiate YII=, NTLM, Basic realm="x, Bearer realm=y""#, Some(Challenge::Basic), None),
            (
                r#"Basic realm="x", Bearer realm="https://r/t",service="s",scope="repository:a:pull""#,
                bearer("https://r/t", Some("s")),
                Some("repository:a:pull"),
            ),
            (r#"Bearer realm="https://r/t",Basic realm="x",scope="y""#, bearer("https://r/t", None), None),
        ] {
            let headers = read(&[value]);
            assert_eq!(Challenge::read(&headers), challenge, "{value}");
            assert_eq!(Challenge::scope(&headers).as_deref(), scope, "{value}");
        }
        let several = read(&["Negotiate", r#"Basic realm="x""#, r#"Bearer realm="r",scope="aws""#]);
        assert_eq!(Challenge::read(&several), bearer("r", None));
        assert_eq!(Challenge::scope(&several).as_deref(), Some("aws"));
        let long = format!(r#"Bearer realm="r",scope="{}""#, "a".repeat(MAX_SCOPE + 1));
        assert_eq!(Challenge::scope(&read(&[&long])), None);
        let mut latin = HeaderMap::new();
        let value = http::HeaderValue::from_bytes(b"Basic realm=\"M\xfcnchen\"").unwrap();
        latin.insert(header::WWW_AUTHENTICATE, value);
        assert_eq!(Challenge::read(&latin), Some(Challenge::Basic));
    }

    proptest! {
        #[test]
        fn never_panics(value in "\\PC*") {
            let _ = parse(&value);
            let _ = parse(&format!("Bearer {value}"));
        }
    }
}
