//! The variables and event payloads of GitHub Actions.
//!
//! Sources: <https://docs.github.com/en/actions/reference/workflows-and-actions/variables>,
//! <https://docs.github.com/en/actions/reference/workflows-and-actions/events-that-trigger-workflows>

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{
    super::{Build, Source, without_credentials},
    origin::{CiError, Origin, Variables, full_commit, shown},
};
use crate::{commit::CommitSha, document};

pub(super) const TITLE: &str = "GitHub Actions";

pub(super) fn origin(variables: &Variables<'_>) -> Result<Origin, CiError> {
    let event = variables.get("GITHUB_EVENT_NAME").unwrap_or_default();
    let repository = Repository::new(variables)?;
    match event.as_str() {
        "pull_request" | "pull_request_review" | "pull_request_review_comment" => {
            pull_request(variables, &repository)
        }
        // These run on the base or default branch because of a commit that may be elsewhere, and that workflows often
        // check out.
        "pull_request_target" | "workflow_run" | "check_run" | "check_suite" | "status" => {
            let (_, payload) = payload(variables)?;
            let (head, sha) = match event.as_str() {
                "pull_request_target" => (field(&payload, "/pull_request/head"), "sha"),
                "status" => (&payload, "sha"),
                event => (payload.get(event).unwrap_or(&Value::Null), "head_sha"),
            };
            let fork = repository.fork(head.get("head_repository").or_else(|| head.get("repo")));
            let head = head.get(sha).and_then(Value::as_str).and_then(full_commit);
            elsewhere(variables, &repository, &event, head, fork)
        }
        "issue_comment" => {
            let (_, payload) = payload(variables)?;
            if field(&payload, "/issue/pull_request").is_null() {
                return Ok(Origin::Known(own(variables, &repository)?));
            }
            elsewhere(variables, &repository, &event, None, Fork::Unknown)
        }
        _ => Ok(Origin::Known(own(variables, &repository)?)),
    }
}

/// The commit in `GITHUB_SHA`, in the workflow's repository.
fn own(variables: &Variables<'_>, repository: &Repository) -> Result<Source, CiError> {
    Ok(Source {
        repository: repository.url(&repository.name),
        commit: Some(variables.built("GITHUB_SHA", TITLE)?),
        reference: variables.get("GITHUB_REF"),
        fork: Some(false),
        ..Source::default()
    })
}

/// `GITHUB_SHA` is a generated merge commit, and the head is in the event payload. Once the pull request is merged,
/// `GITHUB_SHA` is the commit on the base branch, and `GITHUB_REF` is that branch.
fn pull_request(variables: &Variables<'_>, repository: &Repository) -> Result<Origin, CiError> {
    let (path, payload) = payload(variables)?;
    let request = field(&payload, "/pull_request");
    let reference = variables.get("GITHUB_REF").unwrap_or_default();
    let mut of_reference = reference.strip_prefix("refs/pull/").into_iter().flat_map(|rest| rest.split('/'));
    if *field(request, "/merged") == Value::Bool(true) && !reference.starts_with("refs/pull/") {
        return Ok(Origin::Known(own(variables, repository)?));
    }
    let head = head(&path, field(request, "/head/sha"))?;
    let number = field(&payload, "/number").as_u64().or_else(|| field(request, "/number").as_u64());
    let number = number.or_else(|| of_reference.next()?.parse().ok());
    let (fork, head_repository) = repository.fork(request.pointer("/head/repo")).recorded();
    Ok(Origin::Known(Source {
        repository: repository.url(&repository.name),
        merge_commit: variables.commit("GITHUB_SHA").filter(|built| *built != head),
        commit: Some(head),
        reference: number.map(|number| format!("refs/pull/{number}/head")),
        fork,
        head_repository,
        ..Source::default()
    }))
}

/// An event about the commit `head`, whose workflow by default checks out `GITHUB_SHA`.
fn elsewhere(
    variables: &Variables<'_>,
    repository: &Repository,
    event: &str,
    head: Option<CommitSha>,
    fork: Fork,
) -> Result<Origin, CiError> {
    let own = own(variables, repository)?;
    if head == own.commit && !matches!(fork, Fork::Deleted | Fork::Other(_)) {
        return Ok(Origin::Known(own));
    }
    let reason = format!(
        "on the event {event} a workflow builds {} (GITHUB_SHA) or checks out {} (the head), and no variable reports which",
        shown(own.commit.as_ref()),
        shown(head.as_ref())
    );
    let (fork, head_repository) = fork.recorded();
    let of_head = Source { commit: head, fork, head_repository, ..Source::default() };
    let candidates = [of_head, own].into_iter().filter(|source| source.commit.is_some()).collect();
    Ok(Origin::Ambiguous { reason, candidates })
}

/// The workflow's repository.
struct Repository {
    server: String,
    name: String,
}

/// The repository of a commit, compared with the workflow's.
enum Fork {
    Same,
    /// Another one, by its URL.
    Other(Option<String>),
    /// Another one, which no longer exists.
    Deleted,
    Unknown,
}

impl Fork {
    fn recorded(self) -> (Option<bool>, Option<String>) {
        match self {
            Fork::Same => (Some(false), None),
            Fork::Other(url) => (Some(true), url),
            Fork::Deleted => (Some(true), None),
            Fork::Unknown => (None, None),
        }
    }
}

impl Repository {
    fn new(variables: &Variables<'_>) -> Result<Self, CiError> {
        let name = variables.get("GITHUB_REPOSITORY");
        let name = name.ok_or(CiError::Missing("GITHUB_REPOSITORY", TITLE))?;
        let server = variables.get("GITHUB_SERVER_URL").unwrap_or_else(|| "https://github.com".into());
        Ok(Repository { server, name })
    }

    fn url(&self, name: &str) -> Option<String> {
        without_credentials(&format!("{}/{name}", self.server))
    }

    /// Compares with the repository in an event payload, which is null once a fork is deleted.
    fn fork(&self, other: Option<&Value>) -> Fork {
        match other {
            None => Fork::Unknown,
            Some(Value::Null) => Fork::Deleted,
            Some(other) => match field(other, "/full_name").as_str() {
                Some(name) if name.eq_ignore_ascii_case(&self.name) => Fork::Same,
                Some(name) => Fork::Other(self.url(name)),
                None => Fork::Unknown,
            },
        }
    }
}

fn payload(variables: &Variables<'_>) -> Result<(PathBuf, Value), CiError> {
    let path = variables
        .get("GITHUB_EVENT_PATH")
        .map(PathBuf::from)
        .ok_or(CiError::Missing("GITHUB_EVENT_PATH", TITLE))?;
    let payload = document::read(&path)
        .and_then(|text| document::from_json(&text, &path.display().to_string()))
        .map_err(CiError::Payload)?;
    Ok((path, payload))
}

/// A field of a payload, or null.
fn field<'a>(payload: &'a Value, pointer: &str) -> &'a Value {
    payload.pointer(pointer).unwrap_or(&Value::Null)
}

fn head(path: &Path, sha: &Value) -> Result<CommitSha, CiError> {
    sha.as_str().and_then(full_commit).ok_or_else(|| CiError::Event {
        path: path.to_owned(),
        reason: "the event payload does not contain the head commit",
    })
}

pub(super) fn build(variables: &Variables<'_>) -> Result<Build, CiError> {
    let repository = Repository::new(variables)?;
    let run = variables.get("GITHUB_RUN_ID").ok_or(CiError::Missing("GITHUB_RUN_ID", TITLE))?;
    let attempt = variables.get("GITHUB_RUN_ATTEMPT").unwrap_or_else(|| "1".into());
    Ok(Build {
        system: "github-actions".into(),
        uri: repository.url(&format!("{}/actions/runs/{run}/attempts/{attempt}", repository.name)),
        id: Some(format!("{run}/{attempt}")),
        initiator: variables.get("GITHUB_TRIGGERING_ACTOR").or_else(|| variables.get("GITHUB_ACTOR")),
        ..Build::default()
    })
}
