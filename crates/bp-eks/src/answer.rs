//! Convert errors of the Kubernetes API (`kube::Error`) to [`Error`].

use std::error::Error as StdError;

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, core::Status};

use crate::{
    api::refusal,
    connect::{TokenError, explanation},
    error::{Conflict, Error},
    object::ObjectRef,
};

/// The reason that kube sets for a response that is not a `Status`.
const NOT_A_STATUS: &str = "Failed to parse error data";

impl ObjectRef {
    /// The error for an object that was not found: the object or its namespace is missing.
    pub(crate) async fn missing(self, client: &Client) -> Error {
        match Api::<Namespace>::all(client.clone()).get(&self.namespace).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {
                Error::NamespaceNotFound { namespace: self.namespace }
            }
            // The namespace exists, or it cannot be read.
            _ => Error::NotFound { object: Box::new(self) },
        }
    }

    /// Converts kube's error of an operation such as `patch deployments`.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all other errors of kube have one meaning here")]
    pub(crate) fn error(&self, operation: &'static str, error: kube::Error) -> Error {
        let cluster = self.cluster.clone();
        match error {
            kube::Error::Api(status) => self.refused(operation, status),
            // The response ended early.
            kube::Error::SerdeError(e) if e.is_eof() => {
                Error::Unreachable { operation, cluster, source: e.into() }
            }
            kube::Error::SerdeError(e) => Error::UnexpectedResponse { operation, cluster, source: e.into() },
            kube::Error::Service(source) if source.is::<TokenError>() => Error::NoCredentials { source },
            kube::Error::Service(source) => Error::Unreachable { operation, cluster, source },
            kube::Error::HyperError(e) => Error::Unreachable { operation, cluster, source: e.into() },
            kube::Error::ReadEvents(e) => Error::Unreachable { operation, cluster, source: e.into() },
            other => Error::UnexpectedResponse { operation, cluster, source: other.into() },
        }
    }

    fn refused(&self, operation: &'static str, status: Box<Status>) -> Error {
        let (object, cluster) = (Box::new(self.clone()), self.cluster.clone());
        let code = status.code;
        let source: Box<dyn StdError + Send + Sync> = status.clone();
        if let Some(webhook) = refusal::webhook(&status.message) {
            let webhook = webhook.to_owned();
            return Error::WebhookUnavailable { operation, object, webhook, source };
        }
        match code {
            _ if refusal::is_denied(&status.message) || refusal::is_off_schema(&status.message) => {
                Error::AdmissionRefused { object, source }
            }
            _ if is_foreign(&status) => Error::Intercepted { operation, cluster, code, source },
            401 => {
                let guess = || {
                    format!(
                        "check the cluster's name, and create an access entry for the identity (aws eks \
                        create-access-entry --cluster-name {cluster} --principal-arn <role>)"
                    )
                };
                let advice = explanation(&status).map_or_else(guess, str::to_owned);
                Error::Unauthorized { cluster, advice, source: "401 Unauthorized".into() }
            }
            403 => self.forbidden(operation, &status),
            404 => match missing(&status) {
                Some(("namespaces", name)) => Error::NamespaceNotFound { namespace: name.to_owned() },
                Some((kind, name)) => Error::NotFound { object: Box::new(self.called(kind, name)) },
                None => Error::UnexpectedResponse { operation, cluster, source },
            },
            // Deleted or recreated since it was read.
            409 if is_of_another_uid(&status.message) => Error::NotFound { object },
            409 if !conflicts(&status).is_empty() => {
                Error::Conflict { object, conflicts: conflicts(&status) }
            }
            400 | 422 => Error::AdmissionRefused { object, source },
            408 | 409 | 429 => Error::Unavailable { operation, cluster, source },
            code if code >= 500 => Error::Unavailable { operation, cluster, source },
            _ => Error::UnexpectedResponse { operation, cluster, source },
        }
    }

    /// A 403 of the API server: from RBAC, or from admission of a change.
    fn forbidden(&self, operation: &'static str, status: &Status) -> Error {
        let (object, cluster) = (Box::new(self.clone()), self.cluster.clone());
        let source = Box::new(status.clone());
        let denied = denied(&status.message);
        if denied.as_ref().is_some_and(|denied| denied.user == "system:anonymous") {
            let advice = "the request arrived without credentials (system:anonymous): a proxy may have removed them, or \
            the endpoint belongs to another cluster"
                .to_owned();
            return Error::Unauthorized { cluster, advice, source };
        }
        let asked = || {
            let (verb, resource) = operation.split_once(' ')?;
            matches!(verb, "get" | "list" | "watch").then(|| (verb.to_owned(), resource.to_owned()))
        };
        let namespace = self.namespace.clone();
        match denied.map(|denied| (denied.verb, denied.resource)).or_else(asked) {
            Some((verb, resource)) => Error::Forbidden { cluster, verb, resource, namespace, source },
            None if refusal::is_server_failure(&status.message) => {
                Error::Unavailable { operation, cluster, source }
            }
            None => Error::AdmissionRefused { object, source },
        }
    }

    /// The object that the API server identifies by plural and name: this one, or another one.
    fn called(&self, plural: &str, name: &str) -> Self {
        if self.name.as_deref() == Some(name) && plural.starts_with(&self.kind) {
            return self.clone();
        }
        Self::all(&self.cluster, &self.namespace, plural).named(name)
    }
}

/// Whether a proxy or a load balancer in front of the API server has sent the response. The API server itself sends
/// plain text for unknown paths and for too many requests.
fn is_foreign(status: &Status) -> bool {
    let is_page = status.message.trim_start().starts_with('<');
    status.reason == NOT_A_STATUS
        && match status.code {
            401 | 404 | 429 => is_page,
            code => code < 500,
        }
}

/// Plural and name of the object that does not exist.
fn missing(status: &Status) -> Option<(&str, &str)> {
    let details = status.details.as_ref().map(|details| (details.kind.as_str(), details.name.as_str()));
    details.filter(|(kind, name)| !kind.is_empty() && !name.is_empty()).or_else(|| {
        let (subject, _) = status.message.split_once("\" not found")?;
        let (kind, name) = subject.split_once(" \"")?;
        Some((kind.split('.').next().unwrap_or(kind), name))
    })
}

/// Whether a precondition on the uid failed.
fn is_of_another_uid(message: &str) -> bool {
    message.starts_with("uid mismatch: ")
        || message.contains(": uid mismatch: ")
        || message.contains(": Precondition failed: UID in precondition: ")
}

/// The user, verb and resource of an RBAC denial.
#[derive(Debug, PartialEq, Eq)]
struct Denied {
    user: String,
    verb: String,
    resource: String,
}

/// Parses `User "x" cannot patch resource "deployments" in API group "apps" …` and `User "x" cannot get path "/api"`.
fn denied(message: &str) -> Option<Denied> {
    let (_, rest) = message.split_once("User \"")?;
    let (user, rest) = rest.split_once("\" cannot ")?;
    let (verb, rest) = rest.split_once(' ')?;
    let (what, rest) = rest.split_once(" \"")?;
    let mut quoted = rest.split('"').step_by(2);
    let resource = quoted.next()?;
    let group = quoted.next().filter(|group| what == "resource" && !group.is_empty());
    let resource = group.map_or(resource.to_owned(), |group| format!("{resource}.{group}"));
    Some(Denied { user: user.to_owned(), verb: verb.to_owned(), resource })
}

/// The field manager conflicts of a refused apply.
pub(crate) fn conflicts(status: &Status) -> Vec<Conflict> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes
        .filter(|cause| cause.reason == "FieldManagerConflict")
        .map(|cause| Conflict {
            manager: cause.message.split('"').nth(1).unwrap_or(&cause.message).to_owned(),
            field: cause.field.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use bp_artifact::error::{Classified, ErrorClass};
    use serde_json::json;

    use super::*;

    fn read(operation: &'static str, status: serde_json::Value) -> Error {
        let object = ObjectRef::all("shop", "web", "deployment").named("web");
        object.error(operation, kube::Error::Api(Box::new(serde_json::from_value(status).unwrap())))
    }

    #[test]
    fn reports_the_missing_verb() {
        let error = read(
            "list pods",
            json!({ "code": 403, "reason": "Forbidden", "message":
                "pods is forbidden: User \"ci\" cannot list resource \"pods\" in API group \"\" in the namespace \"web\"" }),
        );
        assert!(error.to_string().contains("the verb \"list\" on pods in the namespace \"web\""), "{error}");
        let message = "deployments.apps \"web\" is forbidden: User \"ci\" cannot patch resource \"deployments\" in API \
                       group \"apps\" in the namespace \"web\"";
        let expected =
            Denied { user: "ci".into(), verb: "patch".into(), resource: "deployments.apps".into() };
        assert_eq!(denied(message), Some(expected));
        let expected = Denied { user: "u".into(), verb: "get".into(), resource: "/api".into() };
        assert_eq!(denied("forbidden: User \"u\" cannot get path \"/api\""), Some(expected));
    }

    #[test]
    fn uid_mismatch_is_not_found() {
        for message in [
            "uid mismatch: the provided object specified uid 1, and no existing object was found",
            "Operation cannot be fulfilled on deployments.apps \"web\": uid mismatch: the provided object specified uid 1, \
             and no existing object was found",
            "Operation cannot be fulfilled on deployments.apps \"web\": Precondition failed: UID in precondition: 1, UID \
             in object meta: 2",
        ] {
            let error =
                read("patch deployments", json!({ "code": 409, "reason": "Conflict", "message": message }));
            assert!(matches!(error, Error::NotFound { .. }), "{error}");
        }
    }

    #[test]
    fn classifies_refusals() {
        let webhook = "admission webhook \"policy\" denied the request: no";
        let not_served = "the server could not find the requested resource";
        for (code, message, class) in [
            (401, "Unauthorized", ErrorClass::Unavailable),
            (403, webhook, ErrorClass::Refused),
            (404, "deployments.apps \"web\" not found", ErrorClass::BadInput),
            (404, "namespaces \"web\" not found", ErrorClass::BadInput),
            (404, not_served, ErrorClass::Unexpected),
            (422, "Deployment.apps \"web\" is invalid", ErrorClass::Refused),
            (429, "too many requests", ErrorClass::Unavailable),
            (500, "etcdserver: leader changed", ErrorClass::Unavailable),
            (
                500,
                "failed to create typed patch object (web/web; /v1, Kind=ConfigMap): .datas: field not declared in schema",
                ErrorClass::Refused,
            ),
            (418, "?", ErrorClass::Unexpected),
        ] {
            let error = read("patch deployments", json!({ "code": code, "message": message }));
            assert_eq!(error.class(), class, "{error}");
        }
        assert!(!read("get deployments", json!({ "code": 401 })).is_retryable());
    }

    #[test]
    fn reports_missing_objects_and_namespaces() {
        for (message, expected) in [
            ("deployments.apps \"web\" not found", "deployment/web does not exist"),
            ("secrets \"web\" not found", "secrets/web does not exist"),
            ("namespaces \"web\" not found", "the namespace \"web\" does not exist"),
        ] {
            let error = read("patch deployments", json!({ "code": 404, "message": message }));
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn reports_manager_and_field_of_a_conflict() {
        let field = ".spec.template.spec.containers[name=\"web\"].image";
        let error = read(
            "patch deployments",
            json!({ "code": 409, "reason": "Conflict", "message": "Apply failed with 1 conflict", "details": {
                "causes": [{
                    "reason": "FieldManagerConflict",
                    "message": "conflict with \"kubectl-client-side-apply\" using apps/v1",
                    "field": field,
                }],
            } }),
        );
        let Error::Conflict { conflicts, .. } = &error else { panic!("{error}") };
        assert_eq!(
            *conflicts,
            [Conflict { manager: "kubectl-client-side-apply".into(), field: field.into() }]
        );
        assert!(error.to_string().contains("take_over"), "{error}");
    }
}
