//! Preview of the lifecycle policy of a repository in Amazon ECR.

use aws_sdk_ecr::{
    Client,
    error::ProvideErrorMetadata,
    operation::get_lifecycle_policy_preview::GetLifecyclePolicyPreviewOutput,
    types::{ImageActionType, ImageIdentifier, LifecyclePolicyPreviewStatus as Status},
};
use serde_json::Value;
use tokio::time::Instant;

use super::failure::failed;
use crate::{
    error::chain,
    reference::Repository,
    resolve::{ResolveError, Retention},
    time::{self, Wait},
};

/// What the current lifecycle policy of the repository does with the image. Waits for the preview, which ECR evaluates
/// asynchronously, for at most the time of `wait`.
pub(super) async fn retention(
    client: &Client,
    account: &str,
    repository: &Repository,
    digest: &str,
    wait: Wait,
) -> Retention {
    let unknown = |error: ResolveError| Retention::Unknown { reason: chain(&error) };
    let deadline = time::deadline(wait.deadline());
    let policy = match start(client, account, repository).await {
        Ok(Some(policy)) => policy,
        Ok(None) => return Retention::Kept,
        Err(error) => return unknown(error),
    };
    loop {
        tokio::time::sleep_until(deadline.min(time::deadline(wait.pause()))).await;
        let preview = match preview(client, account, repository, digest).await {
            Ok(preview) => preview,
            Err(error) => return unknown(error),
        };
        match preview.status() {
            Some(Status::Complete) if is_same(&policy, preview.lifecycle_policy_text()) => {
                return read(&preview, digest);
            }
            Some(Status::Complete) => {
                let reason = "somebody else previews another policy of this repository".to_owned();
                return Retention::Unknown { reason };
            }
            Some(Status::InProgress) if Instant::now() < deadline => {}
            Some(Status::InProgress) => {
                let reason =
                    format!("the lifecycle policy preview took longer than {} s", wait.deadline().as_secs());
                return Retention::Unknown { reason };
            }
            other => {
                let status = other.map_or("no status", Status::as_str);
                return Retention::Unknown {
                    reason: format!("the lifecycle policy preview ended with {status}"),
                };
            }
        }
    }
}

/// Starts a preview of the current policy, or joins one in progress, and returns the policy. `None` when the repository
/// has none.
async fn start(
    client: &Client,
    account: &str,
    repository: &Repository,
) -> Result<Option<String>, ResolveError> {
    let call =
        client.start_lifecycle_policy_preview().registry_id(account).repository_name(repository.path());
    match call.send().await {
        Ok(started) => Ok(Some(started.lifecycle_policy_text.unwrap_or_default())),
        Err(error) => match error.code() {
            Some("LifecyclePolicyNotFoundException") => Ok(None),
            Some("LifecyclePolicyPreviewInProgressException") => current(client, account, repository).await,
            _ => Err(failed(repository, "ecr:StartLifecyclePolicyPreview", error)),
        },
    }
}

async fn current(
    client: &Client,
    account: &str,
    repository: &Repository,
) -> Result<Option<String>, ResolveError> {
    let call = client.get_lifecycle_policy().registry_id(account).repository_name(repository.path());
    match call.send().await {
        Ok(answer) => Ok(Some(answer.lifecycle_policy_text.unwrap_or_default())),
        Err(error) if error.code() == Some("LifecyclePolicyNotFoundException") => Ok(None),
        Err(error) => Err(failed(repository, "ecr:GetLifecyclePolicy", error)),
    }
}

async fn preview(
    client: &Client,
    account: &str,
    repository: &Repository,
    digest: &str,
) -> Result<GetLifecyclePolicyPreviewOutput, ResolveError> {
    let call = client.get_lifecycle_policy_preview().registry_id(account).repository_name(repository.path());
    let call = call.image_ids(ImageIdentifier::builder().image_digest(digest).build());
    call.send().await.map_err(|error| failed(repository, "ecr:GetLifecyclePolicyPreview", error))
}

/// What a completed preview does with the image: it lists only the images that a rule selects.
fn read(preview: &GetLifecyclePolicyPreviewOutput, digest: &str) -> Retention {
    let selected = preview.preview_results().iter().find(|result| result.image_digest() == Some(digest));
    let Some(result) = selected else { return Retention::Kept };
    let rule = result.applied_rule_priority();
    match result.action().and_then(|action| action.r#type()) {
        None => Retention::Kept,
        Some(ImageActionType::Expire) => Retention::Expires { rule },
        Some(ImageActionType::Transition) => Retention::Archives { rule },
        Some(other) => Retention::Unknown {
            reason: format!("the lifecycle action {} is unknown to this version", other.as_str()),
        },
    }
}

/// Whether a preview is of this policy. The text may be formatted differently.
fn is_same(policy: &str, previewed: Option<&str>) -> bool {
    let json = |text: &str| serde_json::from_str::<Value>(text).ok();
    previewed.is_none_or(|previewed| previewed == policy || json(previewed) == json(policy))
}
