//! Error responses of the API server: `Status` objects with the real server's messages.

use http::Response;
use serde_json::{Value, json};

use super::resource::{Resource, Target};
use crate::body::Body;

/// A failed request.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    code: u16,
    reason: &'static str,
    message: String,
    details: Value,
}

pub(super) type Answer<T = Value> = Result<T, Failure>;

impl Failure {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Failure { code, reason, message: message.into(), details: Value::Null }
    }

    fn with_details(self, resource: &Resource, name: &str) -> Self {
        let mut details = json!({ "kind": resource.plural });
        if !resource.group.is_empty() {
            details["group"] = json!(resource.group);
        }
        if !name.is_empty() {
            details["name"] = json!(name);
        }
        Failure { details, ..self }
    }

    fn caused_by(mut self, causes: Vec<Value>) -> Self {
        self.details["causes"] = Value::Array(causes);
        self
    }

    pub(super) fn unauthorized() -> Self {
        Failure::new(401, "Unauthorized", "Unauthorized")
    }

    pub(super) fn forbidden(user: &str, verb: &str, target: &Target) -> Self {
        let resource = target.resource;
        let (namespace, name) = (target.namespace.as_deref(), target.name.as_deref());
        let (namespace, name) = (namespace.unwrap_or_default(), name.unwrap_or_default());
        let plural = match &target.subresource {
            Some(sub) => format!("{}/{sub}", resource.plural),
            None => resource.plural.to_owned(),
        };
        let subject = match name {
            "" => resource.qualified(),
            name => format!("{} {name:?}", resource.qualified()),
        };
        let scope = match namespace {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace {namespace:?}"),
        };
        let message = format!(
            "{subject} is forbidden: User {user:?} cannot {verb} resource {plural:?} in API group {:?} {scope}",
            resource.group
        );
        Failure::new(403, "Forbidden", message).with_details(resource, name)
    }

    /// A rejection by admission: a quota, or a missing service account.
    pub(super) fn refused(resource: &Resource, name: &str, why: &str) -> Self {
        let message = format!("{} {name:?} is forbidden: {why}", resource.qualified());
        Failure::new(403, "Forbidden", message).with_details(resource, name)
    }

    /// A failure that a test injects.
    pub(super) fn scripted(code: u16, message: &str) -> Self {
        let reason = match code {
            403 => "Forbidden",
            409 => "Conflict",
            422 => "Invalid",
            429 => "TooManyRequests",
            504 => "Timeout",
            _ => "InternalError",
        };
        Failure::new(code, reason, message)
    }

    /// The namespace of a new object does not exist.
    pub(super) fn no_namespace(name: &str) -> Self {
        let message = format!("namespaces {name:?} not found");
        let details = json!({ "kind": "namespaces", "name": name });
        Failure { details, ..Failure::new(404, "NotFound", message) }
    }

    /// The namespace of a new object is being deleted.
    pub(super) fn terminating_namespace(resource: &Resource, name: &str, namespace: &str) -> Self {
        let why =
            format!("unable to create new content in namespace {namespace} because it is being terminated");
        let cause = json!({
            "reason": "NamespaceTerminating",
            "message": format!("namespace {namespace} is being terminated"),
            "field": "metadata.namespace",
        });
        Failure::refused(resource, name, &why).caused_by(vec![cause])
    }

    /// An eviction that a PodDisruptionBudget does not allow.
    pub(super) fn disruption_budget(why: &str) -> Self {
        let message = "Cannot evict pod as it would violate the pod's disruption budget.";
        let cause = json!({ "reason": "DisruptionBudget", "message": why });
        Failure { details: json!({}), ..Failure::new(429, "TooManyRequests", message) }.caused_by(vec![cause])
    }

    pub(super) fn internal(why: &str) -> Self {
        Failure::new(500, "InternalError", format!("Internal error occurred: {why}"))
    }

    /// A denial by an admission webhook.
    pub(super) fn webhook(webhook: &str, why: &str) -> Self {
        Failure::new(403, "Forbidden", format!("admission webhook {webhook:?} denied the request: {why}"))
    }

    pub(super) fn not_found(resource: &Resource, name: &str) -> Self {
        let message = format!("{} {name:?} not found", resource.qualified());
        Failure::new(404, "NotFound", message).with_details(resource, name)
    }

    pub(super) fn no_such_path() -> Self {
        Failure::new(404, "NotFound", "the server could not find the requested resource")
    }

    pub(super) fn method() -> Self {
        Failure::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }

    pub(super) fn exists(resource: &Resource, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", resource.qualified());
        Failure::new(409, "AlreadyExists", message).with_details(resource, name)
    }

    pub(super) fn conflict(resource: &Resource, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", resource.qualified());
        Failure::new(409, "Conflict", message).with_details(resource, name)
    }

    pub(super) fn stale(resource: &Resource, name: &str) -> Self {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Failure::conflict(resource, name, why)
    }

    /// A conflict of server-side apply: pairs of the owning manager (as the API prints it) and field.
    pub(super) fn apply_conflict(conflicts: &[(String, String)]) -> Self {
        let message = match conflicts {
            [(manager, field)] => format!("Apply failed with 1 conflict: conflict with {manager}: {field}"),
            _ => {
                let mut managers: Vec<&str> = conflicts.iter().map(|(m, _)| m.as_str()).collect();
                managers.sort_unstable();
                managers.dedup();
                let part = |manager: &&str| {
                    let fields: Vec<&str> =
                        conflicts.iter().filter(|(m, _)| m == manager).map(|(_, f)| f.as_str()).collect();
                    format!("conflicts with {manager}:\n- {}", fields.join("\n- "))
                };
                let parts: Vec<String> = managers.iter().map(part).collect();
                format!("Apply failed with {} conflicts: {}", conflicts.len(), parts.join("\n"))
            }
        };
        let cause = |(manager, field): &(String, String)| {
            json!({
                "reason": "FieldManagerConflict",
                "message": format!("conflict with {manager}"),
                "field": field,
            })
        };
        Failure::new(409, "Conflict", message).caused_by(conflicts.iter().map(cause).collect())
    }

    pub(super) fn expired(requested: u64, oldest: u64) -> Self {
        Failure::new(410, "Expired", format!("too old resource version: {requested} ({oldest})"))
    }

    /// Invalid fields: pairs of field and reason.
    pub(super) fn invalid(resource: &Resource, name: &str, wrong: &[(String, String)]) -> Self {
        let texts: Vec<String> = wrong.iter().map(|(field, why)| format!("{field}: {why}")).collect();
        let list = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = match resource.group {
            "" => format!("{} {name:?} is invalid: {list}", resource.kind),
            group => format!("{}.{group} {name:?} is invalid: {list}", resource.kind),
        };
        let mut failure = Failure::new(422, "Invalid", message).with_details(resource, name);
        failure.details["kind"] = json!(resource.kind);
        failure.caused_by(wrong.iter().map(|(field, why)| cause(field, why)).collect())
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Failure::new(400, "BadRequest", message)
    }

    /// A JSON patch that cannot be applied, or whose `test` fails; the server does not distinguish them.
    pub(super) fn patch() -> Self {
        let message = "the server rejected our request due to an error in our request";
        Failure { details: json!({}), ..Failure::new(422, "Invalid", message) }
    }

    /// The content type of the patch is not supported for this kind; the server does not list those that are.
    pub(super) fn unsupported_patch() -> Self {
        Failure {
            details: json!({}),
            ..Failure::new(415, "UnsupportedMediaType", "415: Unsupported Media Type")
        }
    }

    /// The content type of the body is not one of these.
    pub(super) fn unsupported(offered: &[&str]) -> Self {
        let offered = offered.join(", ");
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {offered}"
        );
        Failure::new(415, "UnsupportedMediaType", message)
    }

    /// The client accepts no format of the route of a built-in kind.
    pub(super) fn no_representation(offered: &[&str], is_list: bool) -> Self {
        let mut all: Vec<String> = offered.iter().map(|offer| (*offer).to_owned()).collect();
        if is_list {
            let streams = offered.iter().filter(|offer| !offer.ends_with("/yaml"));
            all.extend(streams.map(|offer| format!("{offer};stream=watch")));
        }
        let message = format!("406: Not Acceptable\n\nAvailable representations: {}", all.join(", "));
        Failure { details: json!({}), ..Failure::new(406, "NotAcceptable", message) }
    }

    /// The deletion of another object, or of another version of it, than the client has seen.
    pub(super) fn precondition(resource: &Resource, name: &str, why: &str) -> Self {
        let kind = match resource.group {
            "" => resource.kind.to_owned(),
            group => format!("{}.{group}", resource.kind),
        };
        let message = format!("Operation cannot be fulfilled on {kind} {name:?}: {why}");
        let mut failure = Failure::new(409, "Conflict", message).with_details(resource, name);
        failure.details["kind"] = json!(resource.kind);
        failure
    }

    /// The client accepts none of these formats.
    pub(super) fn not_acceptable(offered: &[&str]) -> Self {
        let message = format!("only the following media types are accepted: {}", offered.join(", "));
        Failure::new(406, "NotAcceptable", message)
    }

    pub(super) fn too_large(limit: usize) -> Self {
        let message = format!("Request entity too large: limit is {limit}");
        Failure::new(413, "RequestEntityTooLarge", message)
    }

    /// An error that the server does not classify.
    pub(super) fn unknown(message: impl Into<String>) -> Self {
        Failure::new(500, "", message)
    }

    /// An invalid field of the options of a request, such as `PatchOptions`.
    pub(super) fn invalid_options(options: &str, field: &str, why: &str) -> Self {
        let message = format!("{options}.meta.k8s.io \"\" is invalid: {field}: {why}");
        let details = json!({ "group": "meta.k8s.io", "kind": options });
        Failure { details, ..Failure::new(422, "Invalid", message) }.caused_by(vec![cause(field, why)])
    }

    /// A patch whose result is invalid; `shown` is the patch or its result.
    pub(super) fn invalid_patch(shown: &str, why: &str) -> Self {
        let detail = format!("Invalid value: {shown:?}: {why}");
        let message = format!(" \"\" is invalid: patch: {detail}");
        let causes = vec![json!({ "reason": "FieldValueInvalid", "message": detail, "field": "patch" })];
        Failure { details: json!({}), ..Failure::new(422, "Invalid", message) }.caused_by(causes)
    }

    /// The message, as quoted in events and conditions.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// The `Status` object.
    pub(super) fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = json!(self.reason);
        }
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        status
    }

    pub(super) fn code(&self) -> u16 {
        self.code
    }
}

/// The cause of an invalid field; the reason follows from the text.
fn cause(field: &str, why: &str) -> Value {
    let reason = match why {
        _ if why.starts_with("Required value") => "FieldValueRequired",
        _ if why.starts_with("Unsupported value") => "FieldValueNotSupported",
        _ if why.starts_with("Too long") => "FieldValueTooLong",
        _ if why.contains(" in body must be of type ") => "FieldValueTypeInvalid",
        _ => "FieldValueInvalid",
    };
    json!({ "reason": reason, "message": why, "field": field })
}

/// A value as Go prints it with `%v`: `map[spec:map[replicas:2]]`.
pub(super) fn go_format(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go_format).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let mut entries: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", go_format(v))).collect();
            entries.sort_unstable();
            format!("map[{}]", entries.join(" "))
        }
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

pub(super) fn json_response(status: u16, value: &Value) -> Response<Body> {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Body::from(value.to_string()))
        .expect("constant headers")
}
