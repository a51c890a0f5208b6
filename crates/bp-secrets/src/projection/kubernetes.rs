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

/// The types of `Secret` that Kubernetes validates, with the keys of which one is required, or all.
const TYPES: [(&str, &[&str], Required); 4] = [
    ("kubernetes.io/tls", &["tls.crt", "tls.key"], Required::All),
    ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"], Required::All),
    ("kubernetes.io/basic-auth", &["username", "password"], Required::One),
    ("kubernetes.io/ssh-auth", &["ssh-privatekey"], Required::All),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Required {
    All,
    One,
}

/// The manifest of a `Secret` of type `Opaque` with the values themselves, and with their references in an annotation.
///
/// # Errors
/// When a name is not a valid key of a `Secret`, or is bound twice.
pub fn secret<'a>(
    name: &str,
    namespace: Option<&str>,
    values: impl IntoIterator<Item = (&'a str, &'a Reference, &'a Fetched)>,
) -> Result<SecretString, ProjectionError> {
    secret_of_type(name, namespace, "Opaque", values)
}

/// As [`secret`], with another type, such as `kubernetes.io/tls`.
///
/// # Errors
/// As [`secret`]; also when a key is missing that Kubernetes requires for this type.
pub fn secret_of_type<'a>(
    name: &str,
    namespace: Option<&str>,
    kind: &str,
    values: impl IntoIterator<Item = (&'a str, &'a Reference, &'a Fetched)>,
) -> Result<SecretString, ProjectionError> {
    let values: Vec<(&str, &Reference, &Fetched)> = values.into_iter().collect();
    check_type(kind, values.iter().map(|(name, ..)| *name))?;
    let bindings = Bindings::new(values.iter().map(|(name, reference, _)| (*name, (*reference).clone())))?;
    let references: Map<String, Value> =
        bindings.iter().map(|b| (b.name.clone(), json!(b.reference.to_string()))).collect();
    let metadata = annotated(name, namespace, json!({ REFERENCES: Value::Object(references).to_string() }));
    let head =
        json!({ "apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": metadata }).to_string();
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

/// Checks that the keys are there which a type of `Secret` requires.
///
/// # Errors
/// When one is missing.
pub fn check_type<'a>(kind: &str, keys: impl IntoIterator<Item = &'a str>) -> Result<(), ProjectionError> {
    let Some((_, required, how)) = TYPES.iter().find(|(name, ..)| *name == kind) else { return Ok(()) };
    let keys: Vec<&str> = keys.into_iter().collect();
    let missing: Vec<&str> = required.iter().copied().filter(|key| !keys.contains(key)).collect();
    let is_complete = missing.is_empty() || *how == Required::One && missing.len() < required.len();
    if is_complete {
        return Ok(());
    }
    let all = if *how == Required::All { " and " } else { " or " };
    let reason = format!("requires the names {}", required.join(all));
    Err(ProjectionError::shape(format!("the type {kind}"), reason))
}

/// A service account without an IAM role of its own annotations: for an association of EKS Pod Identity, or for a role of
/// the node.
pub fn plain_service_account(name: &str, namespace: Option<&str>) -> Value {
    json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(name, namespace) })
}

/// An association of EKS Pod Identity, as input of `aws eks create-pod-identity-association --cli-input-json`: pods with
/// this service account get the IAM role.
pub fn pod_identity_association(
    cluster: &str,
    namespace: &str,
    service_account: &str,
    role_arn: &str,
) -> Value {
    json!({
        "clusterName": cluster, "namespace": namespace, "serviceAccount": service_account, "roleArn": role_arn,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_the_keys_that_kubernetes_requires_of_a_type() {
        for (kind, keys, complete) in [
            ("kubernetes.io/tls", &["tls.crt", "tls.key", "ca.crt"][..], true),
            ("kubernetes.io/tls", &["tls.crt"], false),
            ("kubernetes.io/basic-auth", &["password"], true),
            ("kubernetes.io/basic-auth", &["user"], false),
            ("kubernetes.io/dockerconfigjson", &["config"], false),
            ("Opaque", &[], true),
            ("example.com/own", &["x"], true),
        ] {
            assert_eq!(check_type(kind, keys.iter().copied()).is_ok(), complete, "{kind} {keys:?}");
        }
    }
}
