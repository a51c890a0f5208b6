//! Deployments in the response of DescribeServices.

use aws_sdk_ecs::{
    primitives::DateTime,
    types::{Deployment, Service},
};

/// A deployment to follow: ours, or one that we found.
#[derive(Debug, Clone)]
pub(crate) struct Followed {
    /// `ecs-svc/<number>`.
    pub(crate) id: String,
    /// The ARN of its task definition.
    pub(crate) definition: String,
    pub(crate) created_at: Option<DateTime>,
    /// The ARN of the service deployment, once it is listed.
    pub(crate) arn: Option<String>,
}

impl Followed {
    /// The primary deployment of a service.
    pub(crate) fn primary(service: &Service) -> Option<Followed> {
        let primary = primary(service)?;
        Some(Followed {
            id: primary.id.clone()?,
            definition: primary.task_definition.clone()?,
            created_at: primary.created_at,
            arn: None,
        })
    }
}

/// The status of a service that DescribeServices does not return.
pub(crate) const MISSING: &str = "MISSING";

/// The status of a service that no longer exists or is being deleted. `None` if it is active.
pub(crate) fn gone(service: Option<&Service>) -> Option<&str> {
    let status = service.and_then(|service| service.status.as_deref()).unwrap_or(MISSING);
    (status != "ACTIVE").then_some(status)
}

/// The deployment that is `PRIMARY`.
pub(crate) fn primary(service: &Service) -> Option<&Deployment> {
    service.deployments().iter().find(|d| d.status.as_deref() == Some("PRIMARY"))
}

/// The deployment with this id, while DescribeServices returns it.
pub(crate) fn deployment<'a>(service: &'a Service, id: &str) -> Option<&'a Deployment> {
    service.deployments().iter().find(|d| d.id.as_deref() == Some(id))
}
