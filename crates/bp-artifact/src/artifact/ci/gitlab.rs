//! The variables of GitLab CI/CD.
//!
//! Source: <https://docs.gitlab.com/ci/variables/predefined_variables/>

use super::{
    super::{Build, Source},
    origin::{CiError, Origin, Variables},
};

pub(super) const TITLE: &str = "GitLab CI/CD";

pub(super) fn origin(variables: &Variables<'_>) -> Result<Origin, CiError> {
    let built = variables.built("CI_COMMIT_SHA", TITLE)?;
    let project = variables.url("CI_PROJECT_URL");
    if let Some(number) = variables.get("CI_MERGE_REQUEST_IID") {
        return Ok(merge_request(variables, built, &number));
    }
    if let Some(number) = variables.get("CI_EXTERNAL_PULL_REQUEST_IID") {
        let own = variables.get("CI_EXTERNAL_PULL_REQUEST_TARGET_REPOSITORY");
        let head = variables.get("CI_EXTERNAL_PULL_REQUEST_SOURCE_REPOSITORY");
        return Ok(Origin::Known(Source {
            repository: project,
            commit: Some(variables.commit("CI_EXTERNAL_PULL_REQUEST_SOURCE_BRANCH_SHA").unwrap_or(built)),
            reference: Some(format!("refs/pull/{number}/head")),
            fork: own.zip(head).map(|(own, head)| !own.eq_ignore_ascii_case(&head)),
            ..Source::default()
        }));
    }
    Ok(Origin::Known(Source {
        repository: project,
        commit: Some(built),
        reference: variables
            .tag("CI_COMMIT_TAG")
            .or_else(|| variables.branch("CI_COMMIT_BRANCH"))
            .or_else(|| variables.get("CI_COMMIT_REF_NAME")),
        fork: Some(false),
        ..Source::default()
    }))
}

/// `CI_COMMIT_SHA` is the head of the source branch, or, in a pipeline for merged results or a merge train, a generated
/// merge commit.
fn merge_request(variables: &Variables<'_>, built: crate::CommitSha, number: &str) -> Origin {
    let kind = variables.get("CI_MERGE_REQUEST_EVENT_TYPE").unwrap_or_default();
    let head = variables.commit("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA");
    if head.is_none() && matches!(kind.as_str(), "merged_result" | "merge_train") {
        return Origin::unknown(format!(
            "the pipeline of type {kind} builds a merge commit, and CI_MERGE_REQUEST_SOURCE_BRANCH_SHA is not set"
        ));
    }
    let target = variables.get("CI_MERGE_REQUEST_PROJECT_ID");
    let fork = target.zip(variables.get("CI_MERGE_REQUEST_SOURCE_PROJECT_ID")).map(|(own, head)| own != head);
    let commit = head.unwrap_or_else(|| built.clone());
    Origin::Known(Source {
        repository: variables.url("CI_MERGE_REQUEST_PROJECT_URL").or_else(|| variables.url("CI_PROJECT_URL")),
        merge_commit: Some(built).filter(|built| *built != commit),
        commit: Some(commit),
        reference: variables
            .get("CI_MERGE_REQUEST_REF_PATH")
            .or_else(|| Some(format!("refs/merge-requests/{number}/head"))),
        head_repository: variables.url("CI_MERGE_REQUEST_SOURCE_PROJECT_URL").filter(|_| fork == Some(true)),
        fork,
        ..Source::default()
    })
}

pub(super) fn build(variables: &Variables<'_>) -> Build {
    Build {
        system: "gitlab".into(),
        id: variables.get("CI_JOB_ID"),
        uri: variables.url("CI_JOB_URL"),
        initiator: variables.get("GITLAB_USER_LOGIN"),
        started_at: variables.get("CI_JOB_STARTED_AT").and_then(|started| started.parse().ok()),
        ..Build::default()
    }
}
