//! The backends of an Ingress: their JSON pointers, Services, ports and field managers.

use k8s_openapi::{
    api::{
        core::v1::Service,
        networking::v1::{Ingress, IngressServiceBackend},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::ResourceExt;

use crate::{api::manager::is_ours, error::Conflict, traffic::ready};

/// A backend and its position in the Ingress.
pub(super) struct Route {
    /// The JSON pointer to the Service's name.
    pub(super) pointer: String,
    pub(super) service: String,
    pub(super) backend: IngressServiceBackend,
}

/// Whether a status identifies neither object nor field: a patch that cannot be applied is answered like this, a
/// validation failure never.
pub(super) fn has_no_details(status: &kube::core::Status) -> bool {
    status.details.as_ref().is_none_or(|details| details.name.is_empty() && details.causes.is_empty())
}

/// Every backend that is a Service, with the JSON pointer to its name.
pub(super) fn pointers(ingress: &Ingress) -> impl Iterator<Item = (String, &IngressServiceBackend)> {
    let spec = ingress.spec.as_ref();
    let default = spec.and_then(|spec| spec.default_backend.as_ref()?.service.as_ref());
    let default = default.map(|service| ("/spec/defaultBackend/service/name".to_owned(), service));
    let rules = spec.into_iter().flat_map(|spec| spec.rules.iter().flatten()).enumerate();
    let paths = rules.flat_map(|(rule, found)| {
        let paths = found.http.iter().flat_map(|http| &http.paths).enumerate();
        paths.filter_map(move |(path, found)| {
            let pointer = format!("/spec/rules/{rule}/http/paths/{path}/backend/service/name");
            Some((pointer, found.backend.service.as_ref()?))
        })
    });
    default.into_iter().chain(paths)
}

/// Whether the Service has the port of a backend.
pub(super) fn has_port(service: &Service, backend: &IngressServiceBackend) -> bool {
    backend.port.as_ref().is_none_or(|wanted| {
        let number = wanted.number.map(IntOrString::Int);
        let port = wanted.name.clone().map(IntOrString::String).or(number);
        port.is_some_and(|port| ready::has_port(service, &port))
    })
}

/// The foreign field managers that own the rules or the default backend.
pub(super) fn owners(ingress: &Ingress) -> Vec<Conflict> {
    let entries = ingress.managed_fields().iter();
    let others = entries.filter(|entry| !is_ours(entry.manager.as_deref().unwrap_or_default()));
    others
        .flat_map(|entry| {
            let spec = entry.fields_v1.as_ref().map(|fields| &fields.0["f:spec"]);
            let owned =
                |field: &'static str| spec.is_some_and(|spec| spec.get(format!("f:{field}")).is_some());
            let fields: Vec<&'static str> =
                ["rules", "defaultBackend"].into_iter().filter(|field| owned(field)).collect();
            let manager = entry.manager.clone().unwrap_or_default();
            fields
                .into_iter()
                .map(move |field| Conflict { manager: manager.clone(), field: format!(".spec.{field}") })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ingress() -> Ingress {
        serde_json::from_value(json!({
            "metadata": { "name": "shop", "managedFields": [
                { "manager": "helm", "operation": "Apply", "fieldsV1": { "f:spec": { "f:rules": {} } } },
                { "manager": "bp-eks:traffic", "operation": "Update", "fieldsV1": { "f:spec": { "f:rules": {} } } },
                { "manager": "aws", "operation": "Update", "fieldsV1": { "f:status": {} } },
            ] },
            "spec": {
                "defaultBackend": { "service": { "name": "web-blue", "port": { "number": 80 } } },
                "rules": [
                    { "host": "a" },
                    { "http": { "paths": [
                        { "pathType": "Prefix", "backend": { "resource": { "kind": "Bucket", "name": "b" } } },
                        { "pathType": "Prefix", "backend": { "service": { "name": "api", "port": { "name": "http" } } } },
                    ] } },
                ],
            },
        }))
        .unwrap()
    }

    #[test]
    fn finds_backends_with_their_json_pointers() {
        let ingress = ingress();
        let found: Vec<(String, &str)> = pointers(&ingress).map(|(p, b)| (p, b.name.as_str())).collect();
        assert_eq!(
            found,
            [
                ("/spec/defaultBackend/service/name".to_owned(), "web-blue"),
                ("/spec/rules/1/http/paths/1/backend/service/name".to_owned(), "api"),
            ]
        );
        let whole = serde_json::to_value(&ingress).unwrap();
        assert!(found.iter().all(|(pointer, name)| whole.pointer(pointer).unwrap() == name));
        assert_eq!(pointers(&Ingress::default()).count(), 0);
    }

    #[test]
    fn matches_ports_by_name_or_number() {
        let service: Service = serde_json::from_value(json!({
            "metadata": {}, "spec": { "ports": [{ "name": "http", "port": 80 }] },
        }))
        .unwrap();
        for (port, expected) in [
            (json!({ "number": 80 }), true),
            (json!({ "number": 81 }), false),
            (json!({ "name": "http" }), true),
            (json!({ "name": "https" }), false),
            (json!(null), true),
        ] {
            let backend = serde_json::from_value(json!({ "name": "web", "port": port })).unwrap();
            assert_eq!(has_port(&service, &backend), expected, "{port}");
        }
    }

    #[test]
    fn lists_foreign_owners_of_the_rules_only() {
        let owners = owners(&ingress());
        assert_eq!(owners, [Conflict { manager: "helm".into(), field: ".spec.rules".into() }]);
    }
}
