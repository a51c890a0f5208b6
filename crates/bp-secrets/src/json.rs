//! Read one key of a secret's JSON object, without copying other values and without quoting them in errors.

use std::{borrow::Cow, fmt};

use secrecy::{ExposeSecret as _, SecretString};
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::{
    error::{Error, ErrorKind},
    reference::Reference,
    value::{Fetched, Kind, SecretValue, Stored},
};

/// Resolves `reference` in the whole value: the value itself, or one key of its JSON object.
pub(crate) fn pick(reference: &Reference, stored: &Stored) -> Result<Fetched, Error> {
    let (picked, kind) = match (stored.value(), reference.key()) {
        (SecretValue::Binary(_), Some(_)) => {
            return Err(Error::new(reference, ErrorKind::Binary));
        }
        (SecretValue::Binary(_), None) => (None, Kind::Binary),
        (SecretValue::Text(_), None) => (None, Kind::Text),
        (SecretValue::Text(text), Some(key)) => {
            let (value, kind) = pick_key(reference, key, text)?;
            (Some(value), kind)
        }
    };
    Ok(Fetched { picked, stored: stored.clone(), kind })
}

fn pick_key(reference: &Reference, key: &str, text: &SecretString) -> Result<(SecretValue, Kind), Error> {
    // serde_json's messages may quote the value: only the position is used.
    let not_json = |e: serde_json::Error| {
        Error::new(reference, ErrorKind::NotJson { line: e.line(), column: e.column() })
    };
    let mut json = serde_json::Deserializer::from_str(text.expose_secret());
    let found = json.deserialize_map(Pick(key)).map_err(not_json)?;
    json.end().map_err(not_json)?;
    let raw = match found {
        Found { value: Some(raw), .. } => raw.get(),
        Found { keys, .. } => return Err(Error::new(reference, ErrorKind::NoSuchKey { keys })),
    };
    let kind = kind_of(raw);
    let value = match kind {
        Kind::Text => SecretString::from(serde_json::from_str::<String>(raw).map_err(not_json)?),
        _ => SecretString::from(raw),
    };
    Ok((SecretValue::Text(value), kind))
}

/// The raw value of the last member with the key (Go also takes the last), and the number of members.
struct Found<'a> {
    value: Option<&'a RawValue>,
    keys: usize,
}

struct Pick<'k>(&'k str);

impl<'de> Visitor<'de> for Pick<'_> {
    type Value = Found<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found<'de>, A::Error> {
        let mut found = Found { value: None, keys: 0 };
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            found.keys = found.keys.saturating_add(1);
            if key == self.0 {
                found.value = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

fn kind_of(raw: &str) -> Kind {
    match raw.as_bytes().first() {
        Some(b'"') => Kind::Text,
        Some(b'{' | b'[') => Kind::Compound,
        Some(b't' | b'f') => Kind::Bool,
        Some(b'n') => Kind::Null,
        _ if differs_in_go(raw) => Kind::GoNumber,
        _ => Kind::Number,
    }
}

/// Whether Go formats the number differently from `raw`: it decodes every JSON number as a float64 and prints it with
/// `%v`, which gives the shortest digits, with an exponent below 1e-4 and from 1e6 on.
fn differs_in_go(raw: &str) -> bool {
    let Ok(number) = raw.parse::<f64>() else { return true };
    let magnitude = number.abs();
    let exponent = magnitude >= 1e6 || (magnitude != 0.0 && magnitude < 1e-4);
    exponent || number.to_string() != raw
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick_from(text: &str, key: &str) -> Result<(String, Kind), Error> {
        let reference: Reference = format!("secretsmanager:prod/db:{key}::").parse().unwrap();
        let stored = Stored::new(SecretValue::take_text(text.to_owned()), "arn", "v1");
        let fetched = pick(&reference, &stored)?;
        Ok((fetched.value().text().unwrap().expose_secret().to_owned(), fetched.kind()))
    }

    #[test]
    fn picks_one_key_and_reports_its_kind() {
        let json = r#"{"u": "ad\"min", "p": 5432, "big": 1000000, "z": 1.50, "e": 1e2, "o": {"a": 1}, "t": true,
            "n": null, "schlüssel": "ü", "twice": 1, "twice": "last"}"#;
        for (key, value, kind) in [
            ("u", "ad\"min", Kind::Text),
            ("p", "5432", Kind::Number),
            ("big", "1000000", Kind::GoNumber),
            ("z", "1.50", Kind::GoNumber),
            ("e", "1e2", Kind::GoNumber),
            ("o", r#"{"a": 1}"#, Kind::Compound),
            ("t", "true", Kind::Bool),
            ("n", "null", Kind::Null),
            ("schlüssel", "ü", Kind::Text),
            ("twice", "last", Kind::Text),
        ] {
            assert_eq!(pick_from(json, key).unwrap(), (value.to_owned(), kind), "{key}");
        }
    }

    #[test]
    fn errors_do_not_quote_the_value() {
        for (text, code) in [
            (r#"{"a": "canary"}"#, "no-such-key"),
            ("canary", "not-json"),
            (r#""canary""#, "not-json"),
            (r#"["canary"]"#, "not-json"),
            (r#"{"canary"}"#, "not-json"),
            (r#"{"password": "canary"#, "not-json"),
            (r#"{"password": canary}"#, "not-json"),
            (r#"{"password": "\ud800canary"}"#, "not-json"),
            (r#"{"password": "x"} canary"#, "not-json"),
            ("", "not-json"),
        ] {
            let error = pick_from(text, "password").unwrap_err();
            assert_eq!(error.code(), code, "{text}");
            let shown = format!("{error} {error:?} {}", serde_json::to_string(&error).unwrap());
            assert!(!shown.contains("canary"), "{shown}");
        }
    }
}
