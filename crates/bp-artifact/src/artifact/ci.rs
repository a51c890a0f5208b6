//! Read commit, source and build from the environment of AWS CodeBuild or GitHub Actions.
//!
//! The caller passes the environment in; git is not called.

use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::Value;

use super::{Artifact, Build, Source};
use crate::{
    commit::CommitSha,
    document,
    error::{Classified, ErrorClass},
};

/// Why the environment does not identify a build.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CiError {
    /// Neither CodeBuild nor GitHub Actions.
    #[error(
        "no build system was recognised: neither CODEBUILD_BUILD_ID nor GITHUB_ACTIONS is set; pass commit and source as flags"
    )]
    NotRecognised,
    /// A variable that the build system always sets is missing.
    #[error("the variable {0} is not set, although {1} always sets it")]
    Missing(&'static str, &'static str),
    /// The event payload of GitHub Actions does not contain the head commit of the pull request.
    #[error("{}: {reason}", path.display())]
    Event {
        /// The path in `GITHUB_EVENT_PATH`.
        path: PathBuf,
        /// What is missing in the file.
        reason: &'static str,
    },
    /// The event payload cannot be read.
    #[error("cannot read the event payload at GITHUB_EVENT_PATH")]
    Payload(#[source] document::DocumentError),
}

impl Classified for CiError {
    fn class(&self) -> ErrorClass {
        ErrorClass::BadInput
    }
}

/// The environment, in which an empty variable counts as unset.
struct Variables<F>(F);

impl<F: Fn(&str) -> Option<String>> Variables<F> {
    fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.trim().is_empty())
    }

    fn commit(&self, name: &str) -> Option<CommitSha> {
        full_commit(&self.get(name)?)
    }
}

/// Parses a full commit ID. Returns `None` for S3 object versions, branch names and abbreviated IDs.
fn full_commit(text: &str) -> Option<CommitSha> {
    text.parse().ok().filter(CommitSha::is_full)
}

impl Artifact {
    /// Creates an artifact with commit, source and build from the environment of the build system: GitHub Actions (also
    /// on a runner hosted by CodeBuild) or CodeBuild.
    ///
    /// ```
    /// use bp_artifact::Artifact;
    ///
    /// let variables = std::collections::HashMap::from([
    ///     ("CODEBUILD_BUILD_ID", "shop:b1e6661e"),
    ///     ("CODEBUILD_RESOLVED_SOURCE_VERSION", "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d"),
    /// ]);
    /// let artifact = Artifact::from_environment(|name| variables.get(name).map(|v| v.to_string()))?;
    /// assert_eq!(artifact.commit.unwrap().as_str(), "1a2b3c4");
    /// # Ok::<(), bp_artifact::artifact::CiError>(())
    /// ```
    ///
    /// # Errors
    /// When no build system is recognised, or the head commit of a pull request cannot be determined.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Self, CiError> {
        let variables = Variables(variable);
        let (source, build) = if variables.get("GITHUB_ACTIONS").is_some() {
            github(&variables)?
        } else if variables.get("CODEBUILD_BUILD_ID").is_some() {
            codebuild(&variables)
        } else {
            return Err(CiError::NotRecognised);
        };
        Ok(Artifact {
            commit: source.commit.as_ref().map(CommitSha::abbreviated),
            source: Some(source),
            build: Some(build),
            ..Artifact::default()
        })
    }
}

/// Reads the variables of CodeBuild. Under CodePipeline and for sources in S3, commit and repository may be missing.
///
/// Source: <https://docs.aws.amazon.com/codebuild/latest/userguide/build-env-ref-env-vars.html>
fn codebuild<F: Fn(&str) -> Option<String>>(variables: &Variables<F>) -> (Source, Build) {
    // For a webhook, the version may have the form refs/heads/main^{<commit>}.
    let version = variables.get("CODEBUILD_SOURCE_VERSION").unwrap_or_default();
    let (version_ref, pinned) = match version.split_once("^{") {
        Some((name, commit)) => (name, full_commit(commit.trim_end_matches('}'))),
        None => (version.as_str(), full_commit(&version)),
    };
    let named =
        !version_ref.is_empty() && !version_ref.starts_with("arn:") && full_commit(version_ref).is_none();
    let commit = variables.commit("CODEBUILD_RESOLVED_SOURCE_VERSION").or(pinned);
    let merge = variables.commit("CODEBUILD_WEBHOOK_MERGE_COMMIT");
    let source = Source {
        repository: variables.get("CODEBUILD_SOURCE_REPO_URL").map(|url| without_credentials(&url)),
        merge_commit: merge.filter(|merge| commit.as_ref() != Some(merge)),
        commit,
        reference: variables
            .get("CODEBUILD_WEBHOOK_HEAD_REF")
            .or_else(|| named.then(|| version_ref.to_owned()))
            .or_else(|| variables.get("CODEBUILD_WEBHOOK_TRIGGER")),
        ..Source::default()
    };
    let started = variables.get("CODEBUILD_START_TIME").and_then(|millis| millis.parse().ok());
    let build = Build {
        system: "codebuild".into(),
        id: variables.get("CODEBUILD_BUILD_ID"),
        uri: variables
            .get("CODEBUILD_PUBLIC_BUILD_URL")
            .or_else(|| variables.get("CODEBUILD_BUILD_URL"))
            .or_else(|| variables.get("CODEBUILD_BUILD_ARN")),
        initiator: variables.get("CODEBUILD_INITIATOR"),
        started_at: started.and_then(|millis| Timestamp::from_millisecond(millis).ok()),
        ..Build::default()
    };
    (source, build)
}

/// Reads the variables of GitHub Actions. For a pull request `GITHUB_SHA` is a generated merge commit; the head commit
/// is in the event payload.
///
/// Source: <https://docs.github.com/en/actions/reference/workflows-and-actions/variables>
fn github<F: Fn(&str) -> Option<String>>(variables: &Variables<F>) -> Result<(Source, Build), CiError> {
    let always = |name| variables.get(name).ok_or(CiError::Missing(name, "GitHub Actions"));
    let repository = always("GITHUB_REPOSITORY")?;
    let server = variables.get("GITHUB_SERVER_URL").unwrap_or_else(|| "https://github.com".into());
    let event = variables.get("GITHUB_EVENT_NAME").unwrap_or_default();
    let built = variables.commit("GITHUB_SHA");

    let (commit, merge_commit, reference) = match event.as_str() {
        "pull_request" | "pull_request_target" => {
            let (path, payload) = payload(variables)?;
            let head = head(&path, &payload["pull_request"]["head"]["sha"])?;
            // On pull_request_target GITHUB_SHA is the base branch, not a merge commit.
            let merge = built.filter(|built| event == "pull_request" && *built != head);
            let number = payload["number"].as_u64();
            (Some(head), merge, number.map(|number| format!("refs/pull/{number}/head")))
        }
        "workflow_run" => {
            let (path, payload) = payload(variables)?;
            let run = &payload["workflow_run"];
            let branch = run["head_branch"].as_str().map(|branch| format!("refs/heads/{branch}"));
            (Some(head(&path, &run["head_sha"])?), None, branch)
        }
        _ => (built, None, variables.get("GITHUB_REF")),
    };
    let commit = Some(commit.ok_or(CiError::Missing("GITHUB_SHA", "GitHub Actions"))?);

    let run = always("GITHUB_RUN_ID")?;
    let attempt = variables.get("GITHUB_RUN_ATTEMPT").unwrap_or_else(|| "1".into());
    let build = Build {
        system: "github-actions".into(),
        uri: Some(format!("{server}/{repository}/actions/runs/{run}/attempts/{attempt}")),
        id: Some(format!("{run}/{attempt}")),
        initiator: variables.get("GITHUB_TRIGGERING_ACTOR").or_else(|| variables.get("GITHUB_ACTOR")),
        ..Build::default()
    };
    let repository = Some(format!("{server}/{repository}"));
    Ok((Source { repository, commit, merge_commit, reference, ..Source::default() }, build))
}

fn payload<F: Fn(&str) -> Option<String>>(variables: &Variables<F>) -> Result<(PathBuf, Value), CiError> {
    let path = variables
        .get("GITHUB_EVENT_PATH")
        .map(PathBuf::from)
        .ok_or(CiError::Missing("GITHUB_EVENT_PATH", "GitHub Actions"))?;
    let payload = document::read(&path)
        .and_then(|text| document::from_json(&text, &path.display().to_string()))
        .map_err(CiError::Payload)?;
    Ok((path, payload))
}

fn head(path: &std::path::Path, sha: &Value) -> Result<CommitSha, CiError> {
    sha.as_str().and_then(full_commit).ok_or_else(|| CiError::Event {
        path: path.to_owned(),
        reason: "the event payload does not contain the head commit",
    })
}

/// The URL without user and password, which a checkout by token contains.
fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..authority_end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}
