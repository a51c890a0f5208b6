//! Kubernetes objects: a `ConfigMap` of references, a `Secret` of values, a service account with an IAM role (IRSA).

use base64::{Engine as _, prelude::BASE64_STANDARD};
use secrecy::{SecretString, zeroize::Zeroizing};
use serde_json::{Map, Value, json};

use super::{Bindings, ProjectionError, metadata, text};
use crate::{reference::Reference, value::Fetched};

/// The annotation of a `Secret` that contains the references of its values.
pub const REFERENCES: &str = "bp-secrets/references";

/// A `ConfigMap` of references, for programs that read the values themselves. It contains no secret.
pub fn config_map(name: &str, namespace: Option<&str>, bindings: &Bindings) -> Value {
    let data: Map<String, Value> =
        bindings.iter().map(|b| (b.name.clone(), json!(b.reference.to_string()))).collect();
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(name, namespace), "data": data })
}

/// Parses the references of a `ConfigMap`.
///
/// # Errors
/// When it has no data, or a value is not a valid reference.
pub fn parse_config_map(object: &Value) -> Result<Bindings, ProjectionError> {
    let data = object.pointer("/data").and_then(Value::as_object);
    let data = data.ok_or_else(|| ProjectionError::shape("/data", "is missing or not an object"))?;
    Bindings::parsed(data.iter().filter_map(|(name, text)| Some((name.as_str(), text.as_str()?))), str::parse)
}

/// The manifest of a `Secret` with the values themselves, and with their references in an annotation.
///
/// # Errors
/// When a name is not a valid key of a `Secret`, or is bound twice.
pub fn secret<'a>(
    name: &str,
    namespace: Option<&str>,
    values: impl IntoIterator<Item = (&'a str, &'a Reference, &'a Fetched)>,
) -> Result<SecretString, ProjectionError> {
    let values: Vec<(&str, &Reference, &Fetched)> = values.into_iter().collect();
    let bindings = Bindings::new(values.iter().map(|(name, reference, _)| (*name, (*reference).clone())))?;
    let references: Map<String, Value> =
        bindings.iter().map(|b| (b.name.clone(), json!(b.reference.to_string()))).collect();
    let metadata = annotated(name, namespace, json!({ REFERENCES: Value::Object(references).to_string() }));
    let head =
        json!({ "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata }).to_string();
    let head = head.strip_suffix('}').unwrap_or(&head);

    // Serialised by hand into one allocation that is wiped. The names are validated, so nothing has to be escaped.
    let encoded =
        |fetched: &Fetched| base64::encoded_len(fetched.value().expose_bytes().len(), true).unwrap_or(0);
    let lengths = values.iter().flat_map(|(name, _, fetched)| [name.len(), encoded(fetched), 6]);
    let size = lengths.fold(head.len().saturating_add(16), usize::saturating_add);
    let mut object = Zeroizing::new(String::with_capacity(size));
    object.push_str(head);
    object.push_str(",\"data\":{");
    for (at, (name, _, fetched)) in values.iter().enumerate() {
        object.push_str(if at == 0 { "\"" } else { ",\"" });
        object.push_str(name);
        object.push_str("\":\"");
        BASE64_STANDARD.encode_string(fetched.value().expose_bytes(), &mut object);
        object.push('"');
    }
    object.push_str("}}");
    Ok(SecretString::from(object.as_str()))
}

/// Parses the references in the annotation of a `Secret`. The values are not read.
///
/// # Errors
/// When the annotation is missing or invalid.
pub fn parse_secret(object: &Value) -> Result<Bindings, ProjectionError> {
    let annotation = text(object, "/metadata/annotations/bp-secrets~1references")?;
    let references: Map<String, Value> = serde_json::from_str(annotation).map_err(|_| {
        ProjectionError::shape(format!("the annotation {REFERENCES}"), "is not a JSON object")
    })?;
    Bindings::parsed(
        references.iter().filter_map(|(name, text)| Some((name.as_str(), text.as_str()?))),
        str::parse,
    )
}

/// A service account that assumes an IAM role (IRSA), with which External Secrets Operator and the CSI driver read.
pub fn service_account(name: &str, namespace: Option<&str>, role_arn: &str) -> Value {
    let metadata = annotated(name, namespace, json!({ "eks.amazonaws.com/role-arn": role_arn }));
    json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata })
}

#[allow(clippy::indexing_slicing, reason = "the object is created here")]
fn annotated(name: &str, namespace: Option<&str>, annotations: Value) -> Value {
    let mut metadata = metadata(name, namespace);
    metadata["annotations"] = annotations;
    metadata
}
