//! Detect AWS load balancers that send traffic directly to a Service's pods.
//!
//! The AWS Load Balancer Controller registers pods with target groups when it sees endpoints change. Switching the
//! selector removes all targets at once, and the new targets become healthy only some time later. Changing the Service
//! of a backend replaces the target group itself (aws-load-balancer-controller#4810).

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{Ingress, IngressBackend, IngressClass};
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
};
use serde_json::Value;

use super::error::TrafficError;
use crate::api::scope::Scope;

/// Controllers of Application Load Balancers: the AWS Load Balancer Controller and EKS Auto Mode.
const CONTROLLERS: [&str; 2] = ["ingress.k8s.aws/alb", "eks.amazonaws.com/alb"];
/// Group and version of the TargetGroupBindings of both controllers.
const BINDINGS: [(&str, &str); 2] = [("elbv2.k8s.aws", "v1beta1"), ("eks.amazonaws.com", "v1")];
const ANNOTATION: &str = "alb.ingress.kubernetes.io/";
const ACTION: &str = "alb.ingress.kubernetes.io/actions.";

/// Fails when a load balancer registers the Service's pods as targets.
pub(super) async fn check_no_load_balancer(namespace: &Scope, service: &str) -> Result<(), TrafficError> {
    let listed = namespace.api::<Ingress>().list(&ListParams::default()).await;
    let mut ingresses = listed.map_err(|e| namespace.all("ingress").error("list ingresses", e))?.items;
    ingresses.retain(|ingress| refers(ingress, service));
    let classes = if ingresses.is_empty() { BTreeMap::new() } else { classes(namespace).await? };
    ingresses.retain(|ingress| is_alb(ingress, &classes));
    let mut by: Vec<String> =
        ingresses.iter().map(|ingress| format!("ingress/{}", ingress.name_any())).collect();
    for (group, version) in BINDINGS {
        let found = bindings(namespace, group, version, service).await?;
        by.extend(found.iter().map(|binding| format!("targetgroupbinding/{}", binding.name_any())));
    }
    if by.is_empty() {
        Ok(())
    } else {
        Err(TrafficError::BehindLoadBalancer { service: service.to_owned(), by })
    }
}

/// Fails when an Application Load Balancer serves the Ingress.
pub(super) async fn check_no_alb(namespace: &Scope, ingress: &Ingress) -> Result<(), TrafficError> {
    if is_alb(ingress, &classes(namespace).await?) {
        return Err(TrafficError::TargetGroupReplaced { ingress: ingress.name_any() });
    }
    Ok(())
}

/// Fails when no Application Load Balancer serves the Ingress.
pub(super) async fn check_alb(namespace: &Scope, ingress: &Ingress) -> Result<(), TrafficError> {
    if is_alb(ingress, &classes(namespace).await?) {
        return Ok(());
    }
    Err(TrafficError::NotApplicationLoadBalancer { ingress: ingress.name_any() })
}

/// The controllers by IngressClass. Without permission to list IngressClasses, the annotations and the class name
/// decide.
pub(super) async fn classes(namespace: &Scope) -> Result<BTreeMap<String, String>, TrafficError> {
    let listed = Api::<IngressClass>::all(namespace.client.clone()).list(&ListParams::default()).await;
    let classes = match listed {
        Ok(list) => list.items,
        Err(kube::Error::Api(status)) if status.is_forbidden() => Vec::new(),
        Err(e) => return Err(namespace.all("ingressclass").error("list ingressclasses", e).into()),
    };
    let named = |class: IngressClass| Some((class.name_any(), class.spec?.controller?));
    Ok(classes.into_iter().filter_map(named).collect())
}

/// The ARNs of the target groups in which a controller registers the Service's pods.
pub(super) async fn target_groups(namespace: &Scope, service: &str) -> Result<Vec<String>, TrafficError> {
    let mut arns = Vec::new();
    for (group, version) in BINDINGS {
        let found = bindings(namespace, group, version, service).await?;
        let arn = |binding: DynamicObject| Some(binding.data["spec"]["targetGroupARN"].as_str()?.to_owned());
        arns.extend(found.into_iter().filter_map(arn));
    }
    Ok(arns)
}

/// The TargetGroupBindings that reference the Service. In a cluster without the controller the kind does not exist.
async fn bindings(
    namespace: &Scope,
    group: &str,
    version: &str,
    service: &str,
) -> Result<Vec<DynamicObject>, TrafficError> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, "TargetGroupBinding"));
    let listed = match namespace.dynamic(&kind).list(&ListParams::default()).await {
        Ok(list) => list.items,
        // The API server answers a request for an unknown kind with a plain-text 404.
        Err(kube::Error::Api(status)) if status.code == 404 => Vec::new(),
        Err(e) => {
            return Err(namespace.all("targetgroupbinding").error("list targetgroupbindings", e).into());
        }
    };
    let is_bound = |binding: &DynamicObject| binding.data["spec"]["serviceRef"]["name"] == service;
    Ok(listed.into_iter().filter(is_bound).collect())
}

/// Every backend of an Ingress.
pub(super) fn backends(ingress: &Ingress) -> impl Iterator<Item = &IngressBackend> {
    let spec = ingress.spec.as_ref();
    let rules = spec.into_iter().flat_map(|spec| spec.rules.iter().flatten());
    let paths = rules.flat_map(|rule| rule.http.iter().flat_map(|http| &http.paths));
    let default = spec.into_iter().filter_map(|spec| spec.default_backend.as_ref());
    default.chain(paths.map(|path| &path.backend))
}

/// Whether an Ingress sends traffic to a Service, as a backend or in an ALB action annotation.
pub(super) fn refers(ingress: &Ingress, service: &str) -> bool {
    let backend = |backend: &IngressBackend| backend.service.as_ref().is_some_and(|s| s.name == service);
    let action = |(key, text): (&String, &String)| {
        let action: Value = serde_json::from_str(text).unwrap_or_default();
        let groups = action["forwardConfig"]["targetGroups"].as_array().cloned().unwrap_or_default();
        key.starts_with(ACTION) && groups.iter().any(|group| group["serviceName"] == service)
    };
    backends(ingress).any(backend) || ingress.annotations().iter().any(action)
}

/// Whether an Application Load Balancer serves an Ingress.
pub(super) fn is_alb(ingress: &Ingress, classes: &BTreeMap<String, String>) -> bool {
    let annotations = ingress.annotations();
    let class = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_ref());
    if let Some(controller) = class.and_then(|class| classes.get(class)) {
        return CONTROLLERS.contains(&controller.as_str());
    }
    let class = class.or_else(|| annotations.get("kubernetes.io/ingress.class"));
    class.is_some_and(|class| class == "alb") || annotations.keys().any(|key| key.starts_with(ANNOTATION))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ingress(class: Value, annotations: Value, service: &str) -> Ingress {
        serde_json::from_value(json!({
            "metadata": { "name": "shop", "annotations": annotations },
            "spec": {
                "ingressClassName": class,
                "rules": [{ "http": { "paths": [{
                    "path": "/", "pathType": "Prefix",
                    "backend": { "service": { "name": service, "port": { "number": 80 } } },
                }] } }],
            },
        }))
        .unwrap()
    }

    #[test]
    fn detects_an_alb_by_controller_annotation_or_class_name() {
        let classes: BTreeMap<String, String> = [
            ("public", "ingress.k8s.aws/alb"),
            ("auto", "eks.amazonaws.com/alb"),
            ("nginx", "k8s.io/ingress-nginx"),
        ]
        .map(|(name, controller)| (name.to_owned(), controller.to_owned()))
        .into();
        let scheme = json!({ "alb.ingress.kubernetes.io/scheme": "internal" });
        for (class, annotations, expected) in [
            (json!("public"), json!({}), true),
            (json!("auto"), json!({}), true),
            (json!("nginx"), json!({}), false),
            // An annotation left over from another controller.
            (json!("nginx"), scheme.clone(), false),
            (json!("alb"), json!({}), true),
            (json!(null), json!({ "kubernetes.io/ingress.class": "alb" }), true),
            (json!(null), scheme, true),
            (json!("other"), json!({}), false),
            (json!(null), json!({}), false),
        ] {
            let ingress = ingress(class.clone(), annotations.clone(), "web");
            assert_eq!(is_alb(&ingress, &classes), expected, "{class} {annotations}");
        }
    }

    #[test]
    fn finds_references_to_a_service_in_paths_default_backend_and_actions() {
        assert!(refers(&ingress(json!("alb"), json!({}), "web"), "web"));
        assert!(!refers(&ingress(json!("alb"), json!({}), "web-2"), "web"));
        let action = json!({ (format!("{ACTION}shop")): json!({
            "type": "forward",
            "forwardConfig": { "targetGroups": [{ "serviceName": "web", "servicePort": 80, "weight": 100 }] },
        }).to_string() });
        assert!(refers(&ingress(json!("alb"), action, "shop"), "web"));
        let default: Ingress = serde_json::from_value(json!({ "metadata": {}, "spec": {
            "defaultBackend": { "service": { "name": "web", "port": { "number": 80 } } },
        } }))
        .unwrap();
        assert!(refers(&default, "web"));
        // An action that is not valid JSON refers to no Service.
        let broken = json!({ (format!("{ACTION}shop")): "{" });
        assert!(!refers(&ingress(json!("alb"), broken, "shop"), "web"));
    }
}
