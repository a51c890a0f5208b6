//! The variables of AWS CodeBuild.
//!
//! Source: <https://docs.aws.amazon.com/codebuild/latest/userguide/build-env-ref-env-vars.html>

use jiff::Timestamp;

use super::{
    super::{Build, Source},
    origin::{Origin, Variables, full_commit},
};

/// A pull request wins over every branch: its head branch may be in a fork and have the name of a protected branch.
pub(super) fn origin(variables: &Variables<'_>) -> Origin {
    // For a webhook, the version may have the form refs/heads/main^{<commit>}.
    let version = variables.get("CODEBUILD_SOURCE_VERSION").unwrap_or_default();
    let (version_ref, pinned) = match version.split_once("^{") {
        Some((name, commit)) => (name, full_commit(commit.trim_end_matches('}'))),
        None => (version.as_str(), full_commit(&version)),
    };
    let location = variables.get("CODEBUILD_SOURCE_REPO_URL");
    // The version of an object in S3 is an identifier of S3, also when CodePipeline passes it.
    let is_object =
        version.starts_with("arn:") || location.as_ref().is_some_and(|url| url.starts_with("s3://"));
    let is_name = !version_ref.is_empty() && !is_object && full_commit(version_ref).is_none();
    let name = is_name.then(|| version_ref.to_owned());

    let trigger = variables.get("CODEBUILD_WEBHOOK_TRIGGER");
    let request =
        [trigger.as_ref(), name.as_ref()].into_iter().flatten().find(|text| is_request(text)).cloned();
    let head = variables.get("CODEBUILD_WEBHOOK_HEAD_REF");
    let event = variables.get("CODEBUILD_WEBHOOK_EVENT").unwrap_or_default();
    if request.is_none() && event.starts_with("PULL_REQUEST") {
        return Origin::unknown(format!(
            "the event {event} has no number of a pull request in CODEBUILD_WEBHOOK_TRIGGER"
        ));
    }
    let commit = variables.commit("CODEBUILD_RESOLVED_SOURCE_VERSION").or(pinned);
    let merge = variables.commit("CODEBUILD_WEBHOOK_MERGE_COMMIT");
    Origin::Known(Source {
        repository: variables.url("CODEBUILD_SOURCE_REPO_URL"),
        merge_commit: merge.filter(|merge| commit.as_ref() != Some(merge)),
        commit,
        // CodeBuild does not report the repository of a pull request's head. A push is always to the repository itself.
        fork: (request.is_none() && head.is_some()).then_some(false),
        reference: request.or(head).or(name).or_else(|| trigger.map(reference)),
        ..Source::default()
    })
}

/// `pr/12`; a merge request of GitLab has the same form. Also the reference of one, such as `refs/pull/12/head`.
fn is_request(text: &str) -> bool {
    let of_reference =
        ["refs/pull/", "refs/merge-requests/"].iter().find_map(|start| text.strip_prefix(start));
    let of_reference = of_reference.and_then(|rest| rest.split('/').next());
    let number = text.strip_prefix("pr/").or_else(|| text.strip_prefix("mr/")).or(of_reference);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// A trigger such as `branch/main` or `tag/v1` as a reference.
fn reference(trigger: String) -> String {
    match trigger.split_once('/') {
        Some(("branch", name)) => format!("refs/heads/{name}"),
        Some(("tag", name)) => format!("refs/tags/{name}"),
        _ => trigger,
    }
}

pub(super) fn build(variables: &Variables<'_>) -> Build {
    let started = variables.get("CODEBUILD_START_TIME").and_then(|millis| millis.parse().ok());
    // The URL of the console has a query, and AWS puts no credentials into it.
    let url = |name| variables.get(name).filter(|url| !url.contains('@'));
    Build {
        system: "codebuild".into(),
        id: variables.get("CODEBUILD_BUILD_ID"),
        uri: url("CODEBUILD_PUBLIC_BUILD_URL")
            .or_else(|| url("CODEBUILD_BUILD_URL"))
            .or_else(|| url("CODEBUILD_BUILD_ARN")),
        initiator: variables.get("CODEBUILD_INITIATOR"),
        started_at: started.and_then(|millis| Timestamp::from_millisecond(millis).ok()),
        ..Build::default()
    }
}
