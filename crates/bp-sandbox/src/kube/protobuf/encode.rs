//! JSON to protobuf, by the schema.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::wire::{put_bytes, put_fixed64, put_number};
use crate::kube::schema::{Kind, Message, Shape};

/// A field that cannot be converted to protobuf.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field {0:?} cannot be encoded as protobuf")]
pub(in crate::kube) struct Unsupported(pub(super) String);

/// Converts a JSON object. Fields that the schema does not have are omitted.
pub(super) fn message(message: &Message, map: &Map<String, Value>) -> Result<Vec<u8>, Unsupported> {
    let mut out = Vec::new();
    for field in &message.fields {
        if field.json.is_empty() {
            let Some(inlined) = field.kind.message() else { continue };
            let below = self::message(inlined, map)?;
            if !below.is_empty() {
                put_bytes(&mut out, field.number, &below);
            }
            continue;
        }
        let of_field = |result: Result<(), Unsupported>| {
            result.map_err(|Unsupported(path)| Unsupported(join(field.json, &path)))
        };
        match (field.shape, map.get(field.json)) {
            (_, None | Some(Value::Null)) => {}
            (Shape::One, Some(value)) => of_field(put(&mut out, field.number, field.kind, value))?,
            (Shape::List, Some(Value::Array(items))) => {
                for item in items {
                    of_field(put(&mut out, field.number, field.kind, item))?;
                }
            }
            (Shape::Map, Some(Value::Object(entries))) => {
                for (key, value) in entries {
                    let mut entry = Vec::new();
                    put_bytes(&mut entry, 1, key.as_bytes());
                    of_field(put(&mut entry, 2, field.kind, value))?;
                    put_bytes(&mut out, field.number, &entry);
                }
            }
            (Shape::List | Shape::Map, Some(_)) => return Err(Unsupported(field.json.to_owned())),
        }
    }
    Ok(out)
}

fn join(name: &str, below: &str) -> String {
    if below.is_empty() { name.to_owned() } else { format!("{name}.{below}") }
}

fn put(out: &mut Vec<u8>, field: u32, kind: Kind, value: &Value) -> Result<(), Unsupported> {
    let wrong = || Unsupported(String::new());
    let text = || value.as_str().ok_or_else(wrong);
    let mut wrapped = Vec::new();
    match kind {
        Kind::Text => put_bytes(out, field, text()?.as_bytes()),
        Kind::Int32 | Kind::Int64 => put_number(out, field, value.as_i64().ok_or_else(wrong)? as u64),
        Kind::Bool => put_number(out, field, u64::from(value.as_bool().ok_or_else(wrong)?)),
        Kind::Bytes => put_bytes(out, field, &STANDARD.decode(text()?).map_err(|_| wrong())?),
        Kind::Double => put_fixed64(out, field, value.as_f64().ok_or_else(wrong)?.to_bits()),
        Kind::Quantity => {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            put_bytes(&mut wrapped, 1, text.as_bytes());
            put_bytes(out, field, &wrapped);
        }
        Kind::IntOrString => {
            match value.as_i64() {
                Some(number) => {
                    put_number(&mut wrapped, 1, 0);
                    put_number(&mut wrapped, 2, number as u64);
                }
                None => {
                    put_number(&mut wrapped, 1, 1);
                    put_bytes(&mut wrapped, 3, text()?.as_bytes());
                }
            }
            put_bytes(out, field, &wrapped);
        }
        Kind::Time | Kind::MicroTime => {
            let at: Timestamp = text()?.parse().map_err(|_| wrong())?;
            // Nanoseconds of a time before 1970 count forward, too.
            let (seconds, nanos) =
                (at.as_nanosecond().div_euclid(1_000_000_000), at.as_nanosecond().rem_euclid(1_000_000_000));
            put_number(&mut wrapped, 1, seconds as u64);
            put_number(&mut wrapped, 2, nanos as u64);
            put_bytes(out, field, &wrapped);
        }
        Kind::Json => {
            put_bytes(&mut wrapped, 1, value.to_string().as_bytes());
            put_bytes(out, field, &wrapped);
        }
        Kind::Strings => {
            for item in value.as_array().ok_or_else(wrong)? {
                put_bytes(&mut wrapped, 1, item.as_str().ok_or_else(wrong)?.as_bytes());
            }
            put_bytes(out, field, &wrapped);
        }
        Kind::Duration | Kind::Any => return Err(wrong()),
        Kind::Message(_) => {
            let (message, map) = (kind.message().ok_or_else(wrong)?, value.as_object().ok_or_else(wrong)?);
            put_bytes(out, field, &self::message(message, map)?);
        }
    }
    Ok(())
}
