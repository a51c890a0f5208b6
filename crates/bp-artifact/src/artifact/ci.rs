//! What the build systems tell about a build: AWS CodeBuild and GitHub Actions.
//!
//! The environment is handed in, so that this is a function of its input; nothing is asked of git.

use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::Value;

use super::{Artifact, Build, Source};
use crate::{
    commit::CommitSha,
    document,
    error::{Classified, ErrorClass},
};

/// An environment that no build system set up, or not whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CiError {
    /// Neither CodeBuild nor GitHub Actions.
    #[error(
        "no build system was recognised: neither CODEBUILD_BUILD_ID nor GITHUB_ACTIONS is set; give commit and source by flags"
    )]
    NotRecognised,
    /// A variable that the build system always sets is missing.
    #[error("the variable {0} is not set, which {1} always sets")]
    Missing(&'static str, &'static str),
    /// The event payload of GitHub Actions does not tell the head commit of the pull request.
    #[error("{}: {reason}", path.display())]
    Event {
        /// The file that `GITHUB_EVENT_PATH` names.
        path: PathBuf,
        /// What is missing in it.
        reason: &'static str,
    },
    /// The event payload cannot be read.
    #[error("the event payload named by GITHUB_EVENT_PATH is of no use")]
    Payload(#[source] document::DocumentError),
}

impl Classified for CiError {
    fn class(&self) -> ErrorClass {
        ErrorClass::BadInput
    }
}

/// The environment, with empty variables taken for missing ones.
struct Variables<F>(F);

impl<F: Fn(&str) -> Option<String>> Variables<F> {
    fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.trim().is_empty())
    }

    fn commit(&self, name: &str) -> Option<CommitSha> {
        whole_commit(&self.get(name)?)
    }
}

/// A whole commit id. Versions of S3 objects, branch names and abbreviations are none.
fn whole_commit(text: &str) -> Option<CommitSha> {
    text.parse().ok().filter(CommitSha::is_full)
}

impl Artifact {
    /// An artifact with commit, source and build as the surrounding build system tells them: GitHub Actions (also on a
    /// runner that CodeBuild hosts) or CodeBuild.
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
    /// When no build system is recognised, or when a pull request's head commit cannot be told from the merge commit.
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

/// Reads what CodeBuild sets. Under CodePipeline and for sources in S3 commit and repository may be missing.
///
/// Source: <https://docs.aws.amazon.com/codebuild/latest/userguide/build-env-ref-env-vars.html>
fn codebuild<F: Fn(&str) -> Option<String>>(variables: &Variables<F>) -> (Source, Build) {
    // A webhook's version may be written refs/heads/main^{<commit>}.
    let asked = variables.get("CODEBUILD_SOURCE_VERSION").unwrap_or_default();
    let (asked_ref, pinned) = match asked.split_once("^{") {
        Some((name, commit)) => (name, whole_commit(commit.trim_end_matches('}'))),
        None => (asked.as_str(), whole_commit(&asked)),
    };
    let named = !asked_ref.is_empty() && !asked_ref.starts_with("arn:") && whole_commit(asked_ref).is_none();
    let commit = variables.commit("CODEBUILD_RESOLVED_SOURCE_VERSION").or(pinned);
    let merge = variables.commit("CODEBUILD_WEBHOOK_MERGE_COMMIT");
    let source = Source {
        repository: variables.get("CODEBUILD_SOURCE_REPO_URL").map(|url| without_credentials(&url)),
        merge_commit: merge.filter(|merge| commit.as_ref() != Some(merge)),
        commit,
        reference: variables
            .get("CODEBUILD_WEBHOOK_HEAD_REF")
            .or_else(|| named.then(|| asked_ref.to_owned()))
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

/// Reads what GitHub Actions sets. `GITHUB_SHA` of a pull request is a merge commit that nobody wrote; its head is in
/// the event's payload.
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
            // On pull_request_target GITHUB_SHA is the base branch, which is no merge.
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
    sha.as_str().and_then(whole_commit).ok_or_else(|| CiError::Event {
        path: path.to_owned(),
        reason: "the event's payload does not tell the head commit",
    })
}

/// The URL without user and password: checkouts by token carry them.
fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..authority_end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}
