//! Target groups, in Elastic Load Balancing.

use aws_sdk_elasticloadbalancingv2::{Client, error::ProvideErrorMetadata, types::TargetTypeEnum};
use serde_json::Value;

use bp_artifact::deploy::preflight::{Finding, Presence};

use super::refused::failed;
use crate::definition::TaskDefinition;

pub(super) async fn look(client: &Client, subject: String, arn: &str, wanted: &TaskDefinition) -> Finding {
    let answer = match client.describe_target_groups().target_group_arns(arn).send().await {
        Ok(answer) => answer,
        Err(error) if error.code() == Some("TargetGroupNotFound") => {
            return Finding::new(subject, Presence::Missing, "there is no such target group");
        }
        Err(error) => return failed(subject, "elasticloadbalancing:DescribeTargetGroups", &error),
    };
    let Some(group) = answer.target_groups().first() else {
        return Finding::new(subject, Presence::Missing, "there is no such target group");
    };
    let awsvpc = wanted.as_json().get("networkMode").and_then(Value::as_str) == Some("awsvpc");
    let fitting = if awsvpc { TargetTypeEnum::Ip } else { TargetTypeEnum::Instance };
    match group.target_type() {
        Some(kind) if *kind != fitting => {
            let message = format!(
                "its targets are of the type {}, and tasks of this network mode need {}",
                kind.as_str(),
                fitting.as_str()
            );
            Finding::new(subject, Presence::Missing, message)
        }
        _ if group.load_balancer_arns().is_empty() => {
            Finding::new(subject, Presence::Missing, "no load balancer sends it traffic")
        }
        _ => Finding::new(subject, Presence::Present, ""),
    }
}
