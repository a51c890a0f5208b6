//! How the pods of a workload are reached: Services, Ingresses with their hosts and addresses, target groups.

use std::collections::{BTreeMap, BTreeSet};

use bp_artifact::text;
use k8s_openapi::api::{
    core::v1::{Pod, Service},
    networking::v1::Ingress,
};
use kube::{ResourceExt, api::ListParams};

use super::{balancer, error::TrafficError, ready::selector};
use crate::{api::scope::Scope, namespace::Namespace};

/// The maximum number of objects of a kind that are listed; more are not examined.
const LISTED: u32 = 500;
/// The annotations of an Application Load Balancer with a certificate or a listener for HTTPS.
const HTTPS: [&str; 2] =
    ["alb.ingress.kubernetes.io/certificate-arn", "alb.ingress.kubernetes.io/listen-ports"];

/// How pods are reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exposure {
    /// The Services that select them.
    pub services: Vec<String>,
    /// The Ingresses with a backend among these Services, and the Services of type `LoadBalancer`.
    pub entries: Vec<Entry>,
    /// The ARNs of the target groups in which a controller registers the pods, by Service.
    pub target_groups: BTreeMap<String, Vec<String>>,
}

/// An object that a load balancer or a proxy makes reachable from outside of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The object: `ingress/shop`, `service/web`.
    pub object: String,
    /// The host names of its rules, without wildcards.
    pub hosts: Vec<String>,
    /// Those of them that are served over HTTPS.
    pub https: BTreeSet<String>,
    /// The host names or addresses that its controller has reported.
    pub addresses: Vec<String>,
    /// Whether its controller always reports an address: that of an Application Load Balancer, or of a Service of type
    /// `LoadBalancer`. Others do not have to.
    pub reports_address: bool,
}

impl Namespace {
    /// How the pods with these names are reached. Pods that do not exist any more do not count.
    ///
    /// # Errors
    /// When a list is denied, or the API server cannot be reached.
    ///
    /// # Permissions
    /// RBAC: `list` on `pods`, `services`, `ingresses.networking.k8s.io`, `targetgroupbindings.elbv2.k8s.aws` and
    /// `targetgroupbindings.eks.amazonaws.com`; optional, cluster-wide: `list` on `ingressclasses.networking.k8s.io`.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn exposure(&self, pods: &BTreeSet<String>) -> Result<Exposure, TrafficError> {
        exposure(&self.0, pods).await
    }
}

async fn exposure(namespace: &Scope, pods: &BTreeSet<String>) -> Result<Exposure, TrafficError> {
    if pods.is_empty() {
        return Ok(Exposure::default());
    }
    let limit = ListParams::default().limit(LISTED);
    let listed = namespace.pods().list(&limit).await;
    let listed = listed.map_err(|e| namespace.all("pod").error("list pods", e))?;
    let ours: Vec<Pod> = listed.items.into_iter().filter(|pod| pods.contains(&pod.name_any())).collect();
    let listed = namespace.services().list(&limit).await;
    let services = listed.map_err(|e| namespace.all("service").error("list services", e))?.items;
    let services: Vec<Service> =
        services.into_iter().filter(|service| ours.iter().any(|pod| selects(service, pod))).collect();
    let names: Vec<String> = services.iter().map(ResourceExt::name_any).collect();
    let mut entries: Vec<Entry> = services.iter().filter_map(of_service).collect();
    let mut target_groups = BTreeMap::new();
    if !names.is_empty() {
        let listed = namespace.api::<Ingress>().list(&limit).await;
        let ingresses = listed.map_err(|e| namespace.all("ingress").error("list ingresses", e))?.items;
        let leads_here = |ingress: &Ingress| names.iter().any(|name| balancer::refers(ingress, name));
        let ingresses: Vec<Ingress> = ingresses.into_iter().filter(leads_here).collect();
        if !ingresses.is_empty() {
            let classes = balancer::classes(namespace).await?;
            let entry = |ingress: &Ingress| of_ingress(ingress, balancer::is_alb(ingress, &classes));
            entries.extend(ingresses.iter().map(entry));
        }
        for name in &names {
            let arns = balancer::target_groups(namespace, name).await?;
            if !arns.is_empty() {
                target_groups.insert(name.clone(), arns);
            }
        }
    }
    Ok(Exposure { services: names, entries, target_groups })
}

/// Whether a Service selects a pod.
fn selects(service: &Service, pod: &Pod) -> bool {
    let selector = selector(service);
    !selector.is_empty() && selector.iter().all(|(name, value)| pod.labels().get(name) == Some(value))
}

/// A Service of type `LoadBalancer`.
fn of_service(service: &Service) -> Option<Entry> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() != Some("LoadBalancer") {
        return None;
    }
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let reported = status.into_iter().flat_map(|status| status.ingress.iter().flatten());
    let addresses = reported.filter_map(|entry| entry.hostname.clone().or(entry.ip.clone()));
    Some(Entry {
        object: format!("service/{}", service.name_any()),
        hosts: Vec::new(),
        https: BTreeSet::new(),
        addresses: addresses.map(|address| text::single_line(&address)).collect(),
        // Another controller than the default one may report elsewhere.
        reports_address: spec.load_balancer_class.is_none(),
    })
}

fn of_ingress(ingress: &Ingress, is_alb: bool) -> Entry {
    let spec = ingress.spec.as_ref();
    let rules = spec.into_iter().flat_map(|spec| spec.rules.iter().flatten());
    let hosts: BTreeSet<String> =
        rules.filter_map(|rule| rule.host.clone()).filter(|host| is_host(host)).collect();
    let tls: Vec<_> = spec.into_iter().flat_map(|spec| spec.tls.iter().flatten()).collect();
    let is_https = |host: &&String| {
        let listed = tls.iter().any(|tls| tls.hosts.iter().flatten().any(|covered| covers(covered, host)));
        // Without hosts, a certificate is for all of them.
        listed
            || tls.iter().any(|tls| tls.hosts.as_ref().is_none_or(Vec::is_empty))
            || is_alb && has_https(ingress)
    };
    let https = hosts.iter().filter(is_https).cloned().collect();
    let status = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let reported = status.into_iter().flat_map(|status| status.ingress.iter().flatten());
    let addresses = reported.filter_map(|entry| entry.hostname.clone().or(entry.ip.clone()));
    Entry {
        object: format!("ingress/{}", ingress.name_any()),
        hosts: hosts.into_iter().collect(),
        https,
        addresses: addresses.map(|address| text::single_line(&address)).collect(),
        reports_address: is_alb,
    }
}

/// Whether an Application Load Balancer has a listener for HTTPS.
fn has_https(ingress: &Ingress) -> bool {
    let annotations = ingress.annotations();
    let [certificate, ports] = HTTPS.map(|name| annotations.get(name));
    certificate.is_some() || ports.is_some_and(|ports| ports.contains("HTTPS"))
}

/// Whether it is a host name, and no wildcard.
fn is_host(host: &str) -> bool {
    !host.is_empty() && host.len() <= 253 && !host.contains('*')
}

/// Whether a host name of a certificate, which may be a wildcard, covers a host.
fn covers(covered: &str, host: &str) -> bool {
    match covered.strip_prefix("*.") {
        Some(domain) => host.split_once('.').is_some_and(|(_, rest)| rest == domain),
        None => covered == host,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ingress(tls: serde_json::Value, annotations: serde_json::Value) -> Ingress {
        serde_json::from_value(json!({
            "metadata": { "name": "shop", "annotations": annotations },
            "spec": { "tls": tls, "rules": [
                { "host": "shop.example.com" }, { "host": "api.example.com" }, { "host": "*.example.com" }, {},
            ] },
            "status": { "loadBalancer": { "ingress": [{ "hostname": "lb\n::error::x" }, { "ip": "192.0.2.1" }] } },
        }))
        .unwrap()
    }

    #[test]
    fn finds_hosts_addresses_and_those_that_are_served_over_https() {
        let entry = of_ingress(&ingress(json!([]), json!({})), false);
        assert_eq!(entry.hosts, ["api.example.com", "shop.example.com"]);
        assert_eq!(entry.addresses, ["lb ::error::x", "192.0.2.1"]);
        assert!(entry.https.is_empty() && !entry.reports_address);
        let https = |tls, annotations, is_alb| {
            of_ingress(&ingress(tls, annotations), is_alb).https.into_iter().collect::<Vec<_>>()
        };
        let both = ["api.example.com", "shop.example.com"];
        assert_eq!(https(json!([{ "hosts": ["shop.example.com"] }]), json!({}), false), ["shop.example.com"]);
        assert_eq!(https(json!([{ "hosts": ["*.example.com"] }]), json!({}), false), both);
        assert_eq!(https(json!([{ "secretName": "tls" }]), json!({}), false), both);
        let certificate = json!({ (HTTPS[0]): "arn" });
        assert_eq!(https(json!([]), certificate.clone(), true), both);
        // An annotation of another controller's Ingress has no effect.
        assert!(https(json!([]), certificate, false).is_empty());
        assert!(https(json!([]), json!({ (HTTPS[1]): "[{\"HTTP\": 80}]" }), true).is_empty());
    }

    #[test]
    fn a_service_without_selector_selects_no_pod() {
        let service = |selector: serde_json::Value| -> Service {
            serde_json::from_value(json!({ "metadata": {}, "spec": { "selector": selector } })).unwrap()
        };
        let labels = json!({ "metadata": { "labels": { "app": "web", "slot": "blue" } } });
        let pod: Pod = serde_json::from_value(labels).unwrap();
        assert!(selects(&service(json!({ "app": "web" })), &pod));
        assert!(!selects(&service(json!({ "app": "web", "slot": "green" })), &pod));
        assert!(!selects(&service(json!({})), &pod) && !selects(&service(json!(null)), &pod));
    }
}
