//! CBOR (RFC 8949) for the protocol Smithy RPC v2: the part that maps to JSON values, and timestamps.

use serde_json::{Map, Value};

/// The maximum nesting of a body.
const DEPTH: u32 = 32;
/// The additional information of an indefinite length.
const INDEFINITE: u8 = 31;
/// The end of an item of indefinite length.
const BREAK: u8 = 0xff;

/// Encodes a value. A number in a member whose name ends in `Timestamp` becomes a timestamp, in seconds.
pub(super) fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    item(value, &mut out);
    out
}

fn item(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(0xf6),
        Value::Bool(no) if !no => out.push(0xf4),
        Value::Bool(_) => out.push(0xf5),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => head(0, number, out),
            (None, Some(negative)) => head(1, !negative as u64, out),
            (None, None) => {
                out.push(0xfb);
                out.extend(number.as_f64().unwrap_or_default().to_be_bytes());
            }
        },
        Value::String(text) => string(text, out),
        Value::Array(items) => {
            head(4, items.len() as u64, out);
            items.iter().for_each(|value| item(value, out));
        }
        Value::Object(members) => {
            head(5, members.len() as u64, out);
            for (name, value) in members {
                string(name, out);
                if name.ends_with("Timestamp") && value.is_number() {
                    head(6, 1, out);
                }
                item(value, out);
            }
        }
    }
}

fn string(text: &str, out: &mut Vec<u8>) {
    head(3, text.len() as u64, out);
    out.extend(text.as_bytes());
}

/// The first bytes of an item: its major type, and its length or value.
fn head(major: u8, argument: u64, out: &mut Vec<u8>) {
    let bytes = argument.to_be_bytes();
    let (information, from) = match argument {
        0..24 => return out.push(major << 5 | bytes[7]),
        24..0x100 => (24, 7),
        0x100..0x1_0000 => (25, 6),
        0x1_0000..0x1_0000_0000 => (26, 4),
        _ => (27, 0),
    };
    out.push(major << 5 | information);
    out.extend(&bytes[from..]);
}

/// Decodes a value. `None` if it is invalid, or contains what JSON does not, such as byte strings.
pub(super) fn decode(bytes: &[u8]) -> Option<Value> {
    let mut reader = Reader(bytes);
    let value = reader.value(DEPTH)?;
    reader.0.is_empty().then_some(value)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.0.split_at_checked(count)?;
        self.0 = left;
        Some(taken)
    }

    /// The value of `count` bytes.
    fn number(&mut self, count: usize) -> Option<u64> {
        Some(self.take(count)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn value(&mut self, depth: u32) -> Option<Value> {
        let depth = depth.checked_sub(1)?;
        let first = self.number(1)? as u8;
        let (major, information) = (first >> 5, first & 0x1f);
        if major == 7 {
            return self.simple(information);
        }
        let argument = match information {
            0..24 => Some(u64::from(information)),
            24..28 => Some(self.number(1 << (information - 24))?),
            INDEFINITE if (3..6).contains(&major) => None,
            _ => return None,
        };
        Some(match (major, argument) {
            (0, Some(number)) => number.into(),
            (1, Some(number)) => (!i64::try_from(number).ok()?).into(),
            (3, Some(length)) => self.text(length)?.into(),
            (3, None) => {
                let mut text = String::new();
                self.each(None, |reader| match reader.value(1)? {
                    Value::String(part) => {
                        text.push_str(&part);
                        Some(())
                    }
                    _ => None,
                })?;
                text.into()
            }
            (4, count) => {
                let mut items = Vec::new();
                self.each(count, |reader| {
                    items.push(reader.value(depth)?);
                    Some(())
                })?;
                items.into()
            }
            (5, count) => {
                let mut members = Map::new();
                self.each(count, |reader| {
                    let Value::String(name) = reader.value(1)? else { return None };
                    members.insert(name, reader.value(depth)?);
                    Some(())
                })?;
                members.into()
            }
            // A tag, such as that of a timestamp.
            (6, Some(_)) => self.value(depth)?,
            _ => return None,
        })
    }

    fn text(&mut self, length: u64) -> Option<&'a str> {
        std::str::from_utf8(self.take(length.try_into().ok()?)?).ok()
    }

    fn simple(&mut self, information: u8) -> Option<Value> {
        Some(match information {
            20 => false.into(),
            21 => true.into(),
            22 | 23 => Value::Null,
            26 => f64::from(f32::from_bits(self.number(4)? as u32)).into(),
            27 => f64::from_bits(self.number(8)?).into(),
            _ => return None,
        })
    }

    /// Reads `count` entries, or those up to the break.
    fn each(&mut self, count: Option<u64>, mut read: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        match count {
            Some(count) => (0..count).try_for_each(|_| read(self)),
            None => {
                while *self.0.first()? != BREAK {
                    read(self)?;
                }
                self.take(1).map(drop)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn decodes_what_it_encodes() {
        let long = "ä".repeat(70_000);
        for value in [
            json!({ "a": [1, -1, 23, 24, 255, 256, 65_536, u64::MAX, i64::MIN], "b": { "c": null } }),
            json!([true, false, 1.5, "", long, {}]),
        ] {
            assert_eq!(decode(&encode(&value)), Some(value));
        }
    }

    #[test]
    fn encodes_as_in_the_appendix_of_the_rfc() {
        for (value, bytes) in [
            (json!(1000), "1903e8"),
            (json!(-1000), "3903e7"),
            (json!(1.1), "fb3ff199999999999a"),
            (json!({ "a": 1, "b": [2, 3] }), "a26161016162820203"),
            (json!({ "Timestamp": 1_363_896_240 }), "a16954696d657374616d70c11a514b67b0"),
        ] {
            assert_eq!(hex::encode(encode(&value)), bytes, "{value}");
        }
        let decoded = |text: &str| decode(&hex::decode(text).unwrap());
        assert_eq!(decoded("bf61610161629f0203ffff"), Some(json!({ "a": 1, "b": [2, 3] })));
        assert_eq!(decoded("7f657374726561646d696e67ff"), Some(json!("streaming")));
        assert_eq!(decoded("c11a514b67b0"), Some(json!(1_363_896_240)));
        assert_eq!(decoded("fa47c35000"), Some(json!(100_000.0)));
    }

    #[test]
    fn rejects_invalid_bodies() {
        let nested = [0x81; 1000];
        for bytes in
            [&b""[..], b"\x19\x03", b"\xa1\x01\x02", b"\x9f", b"\x61", b"\x41a", b"\x01\x02", &nested]
        {
            assert_eq!(decode(bytes), None, "{bytes:?}");
        }
        // A length beyond the body.
        assert_eq!(decode(b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff"), None);
    }
}
