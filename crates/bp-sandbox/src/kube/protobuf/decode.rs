//! Protobuf to JSON, by the schema.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::wire::{Malformed, Reader, Wire};
use crate::kube::schema::{Field, Kind, Message, Shape};

/// The nesting that is read.
const DEPTH: usize = 64;
/// The number of values that are read.
const VALUES: usize = 500_000;

/// Converts a message to the JSON object that Go's encoder would write. Unknown fields are skipped.
pub(super) fn object(message: &Message, bytes: &[u8]) -> Result<Map<String, Value>, Malformed> {
    let mut map = Map::new();
    Decoder { values: VALUES }.message(message, bytes, &mut map, DEPTH)?;
    Ok(map)
}

struct Decoder {
    /// How many more values may be read.
    values: usize,
}

impl Decoder {
    fn message(
        &mut self,
        message: &Message,
        bytes: &[u8],
        map: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), Malformed> {
        let depth = depth.checked_sub(1).ok_or(Malformed("too many levels"))?;
        let mut reader = Reader(bytes);
        while let Some((number, wire)) = reader.next()? {
            let Some(field) = message.fields.iter().find(|field| field.number == number) else { continue };
            self.values = self.values.checked_sub(1).ok_or(Malformed("too many values"))?;
            match field.shape {
                Shape::One => self.one(field, wire, map, depth)?,
                Shape::List => {
                    let list = map.entry(field.json).or_insert_with(|| json!([]));
                    let list = list.as_array_mut().ok_or(Malformed("two fields have one name"))?;
                    self.list(field, wire, list, depth)?;
                }
                Shape::Map => {
                    let entries = map.entry(field.json).or_insert_with(|| json!({}));
                    let entries = entries.as_object_mut().ok_or(Malformed("two fields have one name"))?;
                    let (key, value) = self.entry(field.kind, wire.bytes()?, depth)?;
                    entries.insert(key, value);
                }
            }
        }
        Ok(())
    }

    fn one(
        &mut self,
        field: &Field,
        wire: Wire<'_>,
        map: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), Malformed> {
        if field.json.is_empty()
            && let Some(inlined) = field.kind.message()
        {
            return self.message(inlined, wire.bytes()?, map, depth);
        }
        let value = match (field.kind.message(), map.remove(field.json)) {
            // The parts of a message that occurs twice are merged.
            (Some(message), before) => {
                let mut below = before.and_then(|value| value.as_object().cloned()).unwrap_or_default();
                self.message(message, wire.bytes()?, &mut below, depth)?;
                Value::Object(below)
            }
            (None, _) => self.value(field.kind, wire, depth)?,
        };
        if field.pointer && !value.is_null()
            || field.always && field.kind.message().is_none()
            || !is_zero(&value)
        {
            map.insert(field.json.to_owned(), value);
        }
        Ok(())
    }

    fn list(
        &mut self,
        field: &Field,
        wire: Wire<'_>,
        list: &mut Vec<Value>,
        depth: usize,
    ) -> Result<(), Malformed> {
        match (field.kind, wire) {
            // Packed.
            (Kind::Int32 | Kind::Int64 | Kind::Bool, Wire::Bytes(bytes)) => {
                let mut reader = Reader(bytes);
                while !reader.0.is_empty() {
                    self.values = self.values.checked_sub(1).ok_or(Malformed("too many values"))?;
                    list.push(scalar(field.kind, Wire::Varint(reader.varint()?))?);
                }
            }
            (kind, wire) => list.push(self.value(kind, wire, depth)?),
        }
        Ok(())
    }

    /// An entry of a map.
    fn entry(&mut self, kind: Kind, bytes: &[u8], depth: usize) -> Result<(String, Value), Malformed> {
        let (mut key, mut value) = ("", None);
        let mut reader = Reader(bytes);
        while let Some((number, wire)) = reader.next()? {
            match number {
                1 => key = wire.text()?,
                2 => value = Some(self.value(kind, wire, depth)?),
                _ => {}
            }
        }
        let zero = || if kind.message().is_some() { json!({}) } else { json!("") };
        Ok((key.to_owned(), value.unwrap_or_else(zero)))
    }

    fn value(&mut self, kind: Kind, wire: Wire<'_>, depth: usize) -> Result<Value, Malformed> {
        match kind.message() {
            None => scalar(kind, wire),
            Some(message) => {
                let mut map = Map::new();
                self.message(message, wire.bytes()?, &mut map, depth)?;
                Ok(Value::Object(map))
            }
        }
    }
}

fn scalar(kind: Kind, wire: Wire<'_>) -> Result<Value, Malformed> {
    Ok(match kind {
        Kind::Text => json!(wire.text()?),
        Kind::Int32 => json!(wire.number()? as i32),
        Kind::Int64 => json!(wire.number()? as i64),
        Kind::Bool => json!(wire.number()? != 0),
        Kind::Bytes => json!(STANDARD.encode(wire.bytes()?)),
        Kind::Double => match wire {
            Wire::Fixed64(bits) => json!(f64::from_bits(bits)),
            Wire::Varint(_) | Wire::Fixed32(_) | Wire::Bytes(_) => return Err(Malformed("wrong wireType")),
        },
        Kind::Quantity => match last(wire.bytes()?, 1)?.map(Wire::text).transpose()? {
            Some(text) if !text.is_empty() => json!(text),
            _ => json!("0"),
        },
        Kind::IntOrString => {
            let bytes = wire.bytes()?;
            let is_text = last(bytes, 1)?.map(Wire::number).transpose()? == Some(1);
            let number = last(bytes, 2)?.map(Wire::number).transpose()?.unwrap_or_default() as i32;
            let text = last(bytes, 3)?.map(Wire::text).transpose()?.unwrap_or_default();
            if is_text { json!(text) } else { json!(number) }
        }
        Kind::Time | Kind::MicroTime => time(kind, wire.bytes()?)?,
        Kind::Duration => {
            let nanoseconds = last(wire.bytes()?, 1)?.map(Wire::number).transpose()?.unwrap_or_default();
            json!(format!("{}ns", nanoseconds as i64))
        }
        Kind::Json => match last(wire.bytes()?, 1)?.map(Wire::bytes).transpose()? {
            Some(raw) if !raw.is_empty() => {
                serde_json::from_slice(raw).map_err(|_| Malformed("invalid JSON in a field of raw JSON"))?
            }
            _ => Value::Null,
        },
        Kind::Strings => {
            let (mut reader, mut items) = (Reader(wire.bytes()?), Vec::new());
            while let Some((number, item)) = reader.next()? {
                if number == 1 {
                    items.push(json!(item.text()?));
                }
            }
            json!(items)
        }
        Kind::Any => return Err(Malformed("this field is supported in JSON only")),
        Kind::Message(_) => return Err(Malformed("unknown message")),
    })
}

/// A time; null if it is zero.
fn time(kind: Kind, bytes: &[u8]) -> Result<Value, Malformed> {
    let seconds = last(bytes, 1)?.map(Wire::number).transpose()?.unwrap_or_default() as i64;
    let nanos = last(bytes, 2)?.map(Wire::number).transpose()?.unwrap_or_default() as i32;
    if (seconds, nanos) == (0, 0) {
        return Ok(Value::Null);
    }
    let at = Timestamp::new(seconds, nanos).map_err(|_| Malformed("invalid time"))?;
    Ok(if kind == Kind::MicroTime { json!(format!("{at:.6}")) } else { json!(format!("{at:.0}")) })
}

/// The last value of a field.
fn last(bytes: &[u8], wanted: u32) -> Result<Option<Wire<'_>>, Malformed> {
    let (mut reader, mut found) = (Reader(bytes), None);
    while let Some((number, wire)) = reader.next()? {
        if number == wanted {
            found = Some(wire);
        }
    }
    Ok(found)
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}
