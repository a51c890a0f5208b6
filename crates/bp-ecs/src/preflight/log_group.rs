//! Log groups, in CloudWatch Logs.

use aws_sdk_cloudwatchlogs::Client;

use bp_artifact::deploy::preflight::{Finding, Presence};

use super::refused::failed;

pub(super) async fn look(client: &Client, subject: String, group: &str) -> Finding {
    match client.describe_log_groups().log_group_name_prefix(group).limit(50).send().await {
        Ok(answer) if answer.log_groups().iter().any(|found| found.log_group_name() == Some(group)) => {
            Finding::new(subject, Presence::Present, "")
        }
        Ok(_) => Finding::new(subject, Presence::Missing, "there is no such log group"),
        Err(error) => failed(subject, "logs:DescribeLogGroups", &error),
    }
}
