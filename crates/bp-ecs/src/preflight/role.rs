//! Preflight check of roles in IAM.

use aws_sdk_iam::{Client, error::ProvideErrorMetadata};

use bp_artifact::deploy::{
    Cause,
    preflight::{Finding, FindingState},
};

use super::lookup_error::lookup_failed;
use crate::names::name_of;

/// The service principal that assumes the roles of a task.
const PRINCIPAL: &str = "ecs-tasks.amazonaws.com";

pub(super) async fn check(client: &Client, subject: String, arn: &str) -> Finding {
    match client.get_role().role_name(name_of(arn)).send().await {
        Ok(response) => {
            let policy = response.role().and_then(|role| role.assume_role_policy_document());
            match policy {
                Some(policy) if !policy.contains(PRINCIPAL) => {
                    let message = format!(
                        "its trust policy does not allow {PRINCIPAL} to assume it; add that principal"
                    );
                    Finding::new(subject, FindingState::Invalid, message).cause(Cause::PermissionMissing)
                }
                _ => Finding::new(subject, FindingState::Present, ""),
            }
        }
        Err(error) if error.code() == Some("NoSuchEntity") => {
            let message = "does not exist; create it, or correct the name in the definition";
            Finding::new(subject, FindingState::Missing, message).cause(Cause::PermissionMissing)
        }
        Err(error) => lookup_failed(subject, "iam:GetRole", &error),
    }
}
