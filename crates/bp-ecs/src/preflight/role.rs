//! Roles, in IAM.

use aws_sdk_iam::{Client, error::ProvideErrorMetadata};

use bp_artifact::deploy::preflight::{Finding, Presence};

use super::refused::failed;
use crate::names::name_of;

/// Who assumes the roles of a task.
const TASKS: &str = "ecs-tasks.amazonaws.com";

pub(super) async fn look(client: &Client, subject: String, arn: &str) -> Finding {
    match client.get_role().role_name(name_of(arn)).send().await {
        Ok(answer) => {
            let policy = answer.role().and_then(|role| role.assume_role_policy_document());
            match policy {
                Some(policy) if !policy.contains(TASKS) => {
                    let message = format!("its trust policy does not let {TASKS} assume it");
                    Finding::new(subject, Presence::Missing, message)
                }
                _ => Finding::new(subject, Presence::Present, ""),
            }
        }
        Err(error) if error.code() == Some("NoSuchEntity") => {
            Finding::new(subject, Presence::Missing, "there is no such role")
        }
        Err(error) => failed(subject, "iam:GetRole", &error),
    }
}
