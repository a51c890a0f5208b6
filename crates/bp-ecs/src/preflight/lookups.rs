//! Clients for preflight checks outside ECS, and the lookups of roles, log groups and target groups.

use std::{fmt, sync::Arc};

use bp_artifact::{
    deploy::preflight::{CheckSecrets, Finding, FindingState},
    resolve::Resolve,
};

#[cfg(feature = "elbv2")]
use super::load_balancer;
#[cfg(feature = "logs")]
use super::log_group;
#[cfg(feature = "iam")]
use super::role;
use crate::definition::TaskDefinition;

/// Clients for preflight checks outside ECS. A check without a client is reported as unknown.
#[derive(Clone, Default)]
pub struct Lookups {
    pub(super) registry: Option<Arc<dyn Resolve>>,
    pub(super) secrets: Option<Arc<dyn CheckSecrets>>,
    #[cfg(feature = "iam")]
    iam: Option<aws_sdk_iam::Client>,
    #[cfg(feature = "elbv2")]
    load_balancers: Option<aws_sdk_elasticloadbalancingv2::Client>,
    #[cfg(feature = "logs")]
    logs: Option<aws_sdk_cloudwatchlogs::Client>,
}

impl fmt::Debug for Lookups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookups")
            .field("registry", &self.registry.is_some())
            .field("secrets", &self.secrets.is_some())
            .finish_non_exhaustive()
    }
}

impl Lookups {
    /// Checks with this resolver whether images exist, and for which platforms; and whether those of the rollback
    /// revision can still be pulled.
    pub fn registry(mut self, resolver: Arc<dyn Resolve>) -> Self {
        self.registry = Some(resolver);
        self
    }

    /// Checks with this whether secrets exist.
    pub fn secrets(mut self, check: Arc<dyn CheckSecrets>) -> Self {
        self.secrets = Some(check);
        self
    }

    /// Checks with this client whether roles exist and ECS tasks may assume them.
    #[cfg(feature = "iam")]
    pub fn iam(mut self, client: aws_sdk_iam::Client) -> Self {
        self.iam = Some(client);
        self
    }

    /// Checks with this client whether target groups exist, have the right target type and a load balancer. Failure
    /// reports of a deployment state with it which targets are not healthy, and why.
    #[cfg(feature = "elbv2")]
    pub fn load_balancers(mut self, client: aws_sdk_elasticloadbalancingv2::Client) -> Self {
        self.load_balancers = Some(client);
        self
    }

    #[cfg(feature = "elbv2")]
    pub(crate) fn load_balancer_client(&self) -> Option<&aws_sdk_elasticloadbalancingv2::Client> {
        self.load_balancers.as_ref()
    }

    /// Checks with this client whether log groups exist.
    #[cfg(feature = "logs")]
    pub fn logs(mut self, client: aws_sdk_cloudwatchlogs::Client) -> Self {
        self.logs = Some(client);
        self
    }
}

#[cfg(not(all(feature = "iam", feature = "elbv2", feature = "logs")))]
const NOT_COMPILED_IN: &str = "not checked, because this build lacks the feature";
pub(super) const NO_CLIENT: &str = "not checked, because no client is configured";

impl Lookups {
    pub(super) async fn role(&self, member: &str, arn: &str) -> Finding {
        let subject = format!("role {arn} ({member})");
        #[cfg(feature = "iam")]
        return match &self.iam {
            Some(client) => role::check(client, subject, arn).await,
            None => Finding::new(subject, FindingState::Unknown, NO_CLIENT),
        };
        #[cfg(not(feature = "iam"))]
        Finding::new(subject, FindingState::Unknown, NOT_COMPILED_IN)
    }

    pub(super) async fn log_group(&self, container: &str, group: &str) -> Finding {
        let subject = format!("log group {group} ({container})");
        #[cfg(feature = "logs")]
        return match &self.logs {
            Some(client) => log_group::check(client, subject, group).await,
            None => Finding::new(subject, FindingState::Unknown, NO_CLIENT),
        };
        #[cfg(not(feature = "logs"))]
        Finding::new(subject, FindingState::Unknown, NOT_COMPILED_IN)
    }

    #[cfg_attr(
        not(feature = "elbv2"),
        allow(unused_variables, reason = "only the feature elbv2 reads the definition")
    )]
    pub(super) async fn target_group(&self, arn: &str, wanted: &TaskDefinition) -> Finding {
        let subject = format!("target group {arn}");
        #[cfg(feature = "elbv2")]
        return match &self.load_balancers {
            Some(client) => load_balancer::check(client, subject, arn, wanted).await,
            None => Finding::new(subject, FindingState::Unknown, NO_CLIENT),
        };
        #[cfg(not(feature = "elbv2"))]
        Finding::new(subject, FindingState::Unknown, NOT_COMPILED_IN)
    }
}
