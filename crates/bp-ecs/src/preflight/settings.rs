//! The service's own settings that a deployment keeps: strategy, capacity, VPC Lattice, service gateways.

use aws_sdk_ecs::types::{Service, ServiceRevision};
use bp_artifact::{
    deploy::preflight::{Finding, FindingState},
    text::SingleLine,
};

use crate::{
    names::name_of,
    rollout::{ServiceRollout, primary, strategy},
};

impl ServiceRollout {
    /// The settings, for the plan. UpdateService is called with the task definition only, so that ECS keeps them, also
    /// those that this version does not know.
    pub(super) async fn settings(&self, service: &Service) -> Vec<Finding> {
        let kept = |subject: String, message: String| Finding::new(subject, FindingState::Present, message);
        let mut findings = vec![kept("deployment configuration".to_owned(), strategy::summary(service))];
        findings.extend(capacity(service).map(|capacity| kept("capacity".to_owned(), capacity)));
        for lattice in primary(service).map(|p| p.vpc_lattice_configurations()).unwrap_or_default() {
            let target = format!("VPC Lattice target group {}", lattice.target_group_arn);
            findings.push(kept(target, format!("port {}, kept", lattice.port_name)));
        }
        match self.primary_revision(service).await {
            Ok(revision) => findings.extend(revision.iter().flat_map(gateways)),
            Err(error) => {
                let message = SingleLine(&error).to_string();
                findings.push(Finding::new("service gateways", FindingState::Unknown, message));
            }
        }
        findings
    }

    /// `ecs:DescribeServiceRevisions`: the revision of the primary deployment, if it is listed.
    async fn primary_revision(&self, service: &Service) -> Result<Option<ServiceRevision>, crate::Error> {
        let number = primary(service).and_then(|p| p.id.as_deref()).map(name_of);
        let mut arns = service.current_service_revisions().iter().filter_map(|r| r.arn.as_deref());
        match arns.find(|arn| Some(name_of(arn)) == number) {
            Some(arn) => self.api.revision(arn).await,
            None => Ok(None),
        }
    }
}

/// The launch type or the capacity providers, unless they are the usual ones of Fargate.
fn capacity(service: &Service) -> Option<String> {
    if let Some(launch_type) = &service.launch_type {
        return Some(format!("launch type {}", launch_type.as_str()));
    }
    let providers = service
        .capacity_provider_strategy()
        .iter()
        .map(|item| format!("{} (weight {}, base {})", item.capacity_provider, item.weight, item.base));
    let providers: Vec<String> = providers.collect();
    (!providers.is_empty()).then(|| format!("capacity providers {}", providers.join(", ")))
}

/// The connections of a service revision to service gateways.
fn gateways(revision: &ServiceRevision) -> Vec<Finding> {
    let managed = revision.ecs_managed_resources.as_ref();
    let connections = managed.map(|managed| managed.gateway_connections()).unwrap_or_default();
    revision
        .gateway_connectors()
        .iter()
        .map(|connector| {
            let port = connector.port_name.as_str();
            let connection = connections.iter().find(|c| c.port_name.as_deref() == Some(port));
            let gateway =
                connection.and_then(|c| c.gateway_arn.as_deref()).map_or("service gateway", name_of);
            let url = connection.and_then(|c| c.service_url.as_deref());
            let url = url.map(|url| format!(", {url}")).unwrap_or_default();
            Finding::new(
                format!("service gateway {gateway}"),
                FindingState::Present,
                format!("port {port}{url}, kept"),
            )
        })
        .collect()
}
