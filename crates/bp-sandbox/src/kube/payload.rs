//! Request bodies: JSON or protobuf, with the fields that occur twice.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{
    negotiation::{BUILT_IN, CUSTOM},
    protobuf,
    resource::Resource,
    status::{Answer, Failure},
};

/// The largest request body that the API server reads.
const LIMIT: usize = 3 * 1024 * 1024;

/// The length of the paths that are reported.
const LONGEST_PATH: usize = 1024;

/// An object of a request.
#[derive(Debug, Default)]
pub(super) struct Payload {
    pub(super) object: Value,
    /// The paths of fields that occur more than once.
    pub(super) duplicates: Vec<String>,
}

/// Rejects a body that is too large.
pub(super) fn check_size(body: &[u8]) -> Answer<()> {
    if body.len() > LIMIT { Err(Failure::too_large(LIMIT)) } else { Ok(()) }
}

/// Reads an object in the format of the content type.
pub(super) fn read(resource: &Resource, content_type: &str, body: &[u8]) -> Answer<Payload> {
    let offered = if resource.is_custom() { CUSTOM } else { BUILT_IN };
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    match media_type {
        protobuf::MEDIA_TYPE if offered.contains(&media_type) => {
            let object = protobuf::decode(body);
            let object = object.map_err(|error| unrecognized(resource, &error.to_string(), body))?;
            Ok(Payload { object, duplicates: Vec::new() })
        }
        // JSON is valid YAML; a document in another YAML syntax is not supported.
        "" | "application/json" | "application/yaml" => parse(body).map_err(|error| {
            unrecognized(resource, &format!("couldn't get version/kind; json parse error: {error}"), body)
        }),
        _ => Err(Failure::unsupported(offered)),
    }
}

fn unrecognized(resource: &Resource, why: &str, body: &[u8]) -> Failure {
    let (kind, shown) = (resource.kind, &body[..body.len().min(30)]);
    let shown = match body.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => String::from_utf8_lossy(shown).into_owned(),
        Some(_) => hex::encode(shown),
    };
    let more = if body.len() > 30 { " ..." } else { "" };
    let message =
        format!("the object provided is unrecognized (must be of type {kind}): {why} ({shown}{more})");
    Failure::bad_request(message)
}

/// Reads JSON.
pub(super) fn json(body: &[u8]) -> Answer<Payload> {
    parse(body).map_err(|error| Failure::bad_request(format!("the body is not valid JSON: {error}")))
}

fn parse(body: &[u8]) -> Result<Payload, serde_json::Error> {
    let mut payload = Payload::default();
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let seed = Seed { path: String::new(), duplicates: &mut payload.duplicates };
    let read = seed.deserialize(&mut deserializer).and_then(|object| deserializer.end().map(|()| object));
    payload.object = read?;
    Ok(payload)
}

/// A path that is extended; one that is long enough stays as it is.
fn below(path: &str, part: &str) -> String {
    if path.len() + part.len() > LONGEST_PATH { path.to_owned() } else { format!("{path}{part}") }
}

/// Reads a value and records the fields that occur twice; the last one counts.
struct Seed<'d> {
    path: String,
    duplicates: &'d mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        serde_json::Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a JSON number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let path = below(&self.path, &format!("[{}]", list.len()));
            match items.next_element_seed(Seed { path, duplicates: &mut *self.duplicates })? {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            let path =
                below(&self.path, &if self.path.is_empty() { name.clone() } else { format!(".{name}") });
            if map.contains_key(&name) && !self.duplicates.contains(&path) {
                self.duplicates.push(path.clone());
            }
            let value = entries.next_value_seed(Seed { path, duplicates: &mut *self.duplicates })?;
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn the_last_of_two_equal_fields_counts_and_is_reported() {
        let payload =
            super::json(br#"{"a":{"b":1,"b":2,"c":[{"d":1,"d":1}]},"e":null,"f":1.5,"a2":-1}"#).unwrap();
        assert_eq!(
            payload.object,
            json!({ "a": { "b": 2, "c": [{ "d": 1 }] }, "e": null, "f": 1.5, "a2": -1 })
        );
        assert_eq!(payload.duplicates, ["a.b", "a.c[0].d"]);
        assert!(super::json(b"{\"a\":1} x").is_err());
        assert!(super::json("[".repeat(10_000).as_bytes()).is_err(), "the depth is limited");
    }
}
