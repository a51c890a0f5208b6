//! The protobuf encoding of the built-in kinds, `application/vnd.kubernetes.protobuf`.
//!
//! A document is the prefix `k8s\0` and a message `runtime.Unknown`, which contains the kind and the encoded object.

mod decode;
mod encode;
mod wire;

use serde_json::{Value, json};

use self::{
    encode::Unsupported,
    wire::{Malformed, Reader, put_bytes},
};
use super::schema;

pub(super) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

const PREFIX: &[u8] = b"k8s\0";

/// Converts a document to JSON.
pub(super) fn decode(document: &[u8]) -> Result<Value, Failed> {
    let body = document.strip_prefix(PREFIX).ok_or(Failed::NoPrefix)?;
    let (mut api_version, mut kind, mut raw) = ("", "", &[][..]);
    let mut reader = Reader(body);
    while let Some((number, wire)) = reader.next()? {
        match number {
            1 => {
                let mut reader = Reader(wire.bytes()?);
                while let Some((number, wire)) = reader.next()? {
                    match number {
                        1 => api_version = wire.text()?,
                        2 => kind = wire.text()?,
                        _ => {}
                    }
                }
            }
            2 => raw = wire.bytes()?,
            _ => {}
        }
    }
    let message = schema::of(api_version, kind);
    let message = message.ok_or_else(|| Failed::NoKind(kind.to_owned(), api_version.to_owned()))?;
    let mut object = Value::Object(decode::object(message, raw)?);
    object["apiVersion"] = json!(api_version);
    object["kind"] = json!(kind);
    Ok(object)
}

/// Why a document cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failed {
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoPrefix,
    #[error("no kind {0:?} is registered for version {1:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\"")]
    NoKind(String, String),
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// Converts an object to a document; `None` if its kind has no protobuf encoding.
pub(super) fn encode(object: &Value) -> Option<Result<Vec<u8>, Unsupported>> {
    let (api_version, kind) = (object["apiVersion"].as_str()?, object["kind"].as_str()?);
    let raw = encode::message(schema::of(api_version, kind)?, object.as_object()?);
    let document = |raw: Vec<u8>| {
        let (mut type_meta, mut document) = (Vec::new(), PREFIX.to_vec());
        put_bytes(&mut type_meta, 1, api_version.as_bytes());
        put_bytes(&mut type_meta, 2, kind.as_bytes());
        put_bytes(&mut document, 1, &type_meta);
        put_bytes(&mut document, 2, &raw);
        document
    };
    Some(raw.map(document))
}

/// A frame of a watch: the length, and a message with the type of the event and the document of its object.
pub(super) fn frame(event: &str, document: &[u8]) -> Vec<u8> {
    let (mut object, mut message) = (Vec::new(), Vec::new());
    put_bytes(&mut object, 1, document);
    put_bytes(&mut message, 1, event.as_bytes());
    put_bytes(&mut message, 2, &object);
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], &message].concat()
}

#[cfg(test)]
mod tests;
