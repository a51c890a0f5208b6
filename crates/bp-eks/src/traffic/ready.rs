//! The ready pods and the ports of a Service.

use k8s_openapi::{
    api::core::v1::{Pod, Service},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::ResourceExt;

use super::{error::TrafficError, labels::Labels};
use crate::{
    api::{pod, scope::Scope},
    workload::template,
};

/// The ready pods of a Service.
pub(super) struct ReadyPods {
    pub(super) pods: Vec<Pod>,
    pub(super) container: String,
    /// The image in the pods' specification.
    pub(super) asked: String,
}

impl ReadyPods {
    /// The ready pods that a Service selects, and the image of `container` in them; defaults to the first container.
    ///
    /// # Errors
    /// When there is none, or the pods cannot be listed.
    pub(super) async fn of(
        namespace: &Scope,
        service: &Service,
        container: Option<&str>,
    ) -> Result<Self, TrafficError> {
        let name = service.name_any();
        let not_ready =
            |why: &str| TrafficError::NotReady { object: format!("service/{name}"), why: why.to_owned() };
        let selector = selector(service);
        if selector.is_empty() {
            return Err(not_ready("it selects no pods"));
        }
        let mut pods = namespace.pods_of(&selector).await?;
        pods.retain(|pod| pod::is_ready(pod) && pod.metadata.deletion_timestamp.is_none());
        let Some(spec) = pods.first().and_then(|pod| pod.spec.as_ref()) else {
            return Err(not_ready("it has no ready pod"));
        };
        let first = || spec.containers.first().map(|container| container.name.clone());
        let container = container.map(str::to_owned).or_else(first).unwrap_or_default();
        let asked = template::pod_image(spec, &container).unwrap_or_default().to_owned();
        Ok(ReadyPods { pods, container, asked })
    }
}

/// The selector of a Service; empty if it selects no pods.
pub(super) fn selector(service: &Service) -> Labels {
    service.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default()
}

/// Whether the Service has a port with this name or number.
pub(super) fn has_port(service: &Service, wanted: &IntOrString) -> bool {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    ports.into_iter().any(|port| match wanted {
        IntOrString::String(name) => port.name.as_ref() == Some(name),
        IntOrString::Int(number) => port.port == *number,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn finds_ports_by_name_or_number() {
        let service: Service = serde_json::from_value(json!({
            "metadata": {}, "spec": { "ports": [{ "name": "http", "port": 80 }] },
        }))
        .unwrap();
        for (port, expected) in [
            (IntOrString::Int(80), true),
            (IntOrString::Int(81), false),
            (IntOrString::String("http".into()), true),
            (IntOrString::String("https".into()), false),
        ] {
            assert_eq!(has_port(&service, &port), expected, "{port:?}");
        }
    }
}
