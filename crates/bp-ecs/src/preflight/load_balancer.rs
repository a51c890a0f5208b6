//! Preflight check of target groups in Elastic Load Balancing.

use aws_sdk_elasticloadbalancingv2::{Client, error::ProvideErrorMetadata, types::TargetTypeEnum};
use serde_json::Value;

use bp_artifact::deploy::{
    Cause,
    preflight::{Finding, FindingState},
};

use super::lookup_error::lookup_failed;
use crate::definition::TaskDefinition;

const NOT_FOUND: &str = "does not exist; create it, or correct the service's loadBalancers";

pub(super) async fn check(client: &Client, subject: String, arn: &str, wanted: &TaskDefinition) -> Finding {
    let fails =
        |state, message: &str| Finding::new(&subject, state, message).cause(Cause::DeploymentConfiguration);
    let response = match client.describe_target_groups().target_group_arns(arn).send().await {
        Ok(response) => response,
        Err(error) if error.code() == Some("TargetGroupNotFound") => {
            return fails(FindingState::Missing, NOT_FOUND);
        }
        Err(error) => return lookup_failed(subject, "elasticloadbalancing:DescribeTargetGroups", &error),
    };
    let Some(group) = response.target_groups().first() else {
        return fails(FindingState::Missing, NOT_FOUND);
    };
    let awsvpc = wanted.as_json().get("networkMode").and_then(Value::as_str) == Some("awsvpc");
    let fitting = if awsvpc { TargetTypeEnum::Ip } else { TargetTypeEnum::Instance };
    match group.target_type() {
        Some(kind) if *kind != fitting => {
            let message = format!(
                "has the target type {}, but tasks of this network mode require {}; create one of that type",
                kind.as_str(),
                fitting.as_str()
            );
            fails(FindingState::Invalid, &message)
        }
        _ if group.load_balancer_arns().is_empty() => {
            fails(FindingState::Invalid, "no load balancer forwards to it; add a listener rule")
        }
        _ => Finding::new(subject, FindingState::Present, ""),
    }
}
