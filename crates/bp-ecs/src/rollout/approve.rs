//! Approval or rejection of a deployment that waits at a pause hook.

use aws_sdk_ecs::types::{
    DeploymentLifecycleHookAction, DeploymentLifecycleHookStatus, ServiceDeploymentStatus,
};

use super::ServiceRollout;
use crate::error::Error;

impl ServiceRollout {
    pub(crate) async fn approve(&self, action: DeploymentLifecycleHookAction) -> Result<(), Error> {
        let nothing = || Error::NotAwaitingApproval { service: self.api.service.clone() };
        let listed = self.api.deployments(&[ServiceDeploymentStatus::InProgress], None).await?;
        let arn = listed.into_iter().find_map(|d| d.service_deployment_arn).ok_or_else(nothing)?;
        let deployment = self.api.deployment(&arn).await?.ok_or_else(nothing)?;
        let mut hooks = deployment.lifecycle_hook_details.unwrap_or_default().into_iter();
        let hook = hooks
            .find(|h| h.status == Some(DeploymentLifecycleHookStatus::AwaitingAction))
            .and_then(|h| h.hook_id)
            .ok_or_else(nothing)?;
        self.api.continue_deployment(&arn, &hook, action).await
    }
}
