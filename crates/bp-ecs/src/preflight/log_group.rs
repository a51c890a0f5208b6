//! Preflight check of log groups in CloudWatch Logs.

use aws_sdk_cloudwatchlogs::Client;

use bp_artifact::deploy::{
    Cause,
    preflight::{Finding, FindingState},
};

use super::lookup_error::lookup_failed;

pub(super) async fn check(client: &Client, subject: String, group: &str) -> Finding {
    match client.describe_log_groups().log_group_name_prefix(group).limit(50).send().await {
        Ok(response) if response.log_groups().iter().any(|found| found.log_group_name() == Some(group)) => {
            Finding::new(subject, FindingState::Present, "")
        }
        Ok(_) => {
            let message = "does not exist; create it, or set awslogs-create-group";
            Finding::new(subject, FindingState::Missing, message).cause(Cause::LogDriver)
        }
        Err(error) => lookup_failed(subject, "logs:DescribeLogGroups", &error),
    }
}
