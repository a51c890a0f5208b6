//! The variables of an environment, and what they and the caller determine about the source.

use std::{fmt, path::PathBuf};

use super::super::{Source, without_credentials};
use crate::{
    commit::CommitSha,
    document,
    error::{Classified, ErrorClass},
};

/// Why the environment does not identify a build.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CiError {
    /// None of the supported build systems.
    #[error(
        "no build system was recognised (AWS CodeBuild, GitHub Actions, GitLab CI/CD, Bitbucket Pipelines, Jenkins, \
         CircleCI, Buildkite): pass --commit, --ref and --source"
    )]
    NotRecognised,
    /// A variable that the build system always sets is missing.
    #[error("the variable {0} is not set, although {1} always sets it")]
    Missing(&'static str, &'static str),
    /// The event payload of GitHub Actions does not contain the head commit of the pull request.
    #[error("{}: {reason}; pass --commit, --ref and --source", path.display())]
    Event {
        /// The path in `GITHUB_EVENT_PATH`.
        path: PathBuf,
        /// What is missing in the file.
        reason: &'static str,
    },
    /// The event payload cannot be read.
    #[error(
        "cannot read the event payload at GITHUB_EVENT_PATH: make it readable, or pass --commit, --ref and --source"
    )]
    Payload(#[source] document::DocumentError),
    /// The variables do not determine which commit was checked out and built.
    #[error("{system}: {reason}; pass {}", missing.join(", "))]
    Ambiguous {
        /// The build system, by its name.
        system: &'static str,
        /// Why it is ambiguous, with the event and the candidates.
        reason: String,
        /// The flags that would settle it and were not passed.
        missing: Vec<&'static str>,
    },
}

impl Classified for CiError {
    fn class(&self) -> ErrorClass {
        ErrorClass::BadInput
    }
}

/// What the caller states about the source, in place of what the build system reports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatedSource {
    /// The commit that was built.
    pub commit: Option<CommitSha>,
    /// Its branch, tag or pull request, such as `refs/heads/main`.
    pub reference: Option<String>,
    /// The URL of its repository. Credentials in it are removed.
    pub repository: Option<String>,
}

impl StatedSource {
    /// The flags that an ambiguous event requires and that are not stated. An abbreviated commit does not identify one.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        let given = [
            ("--commit <40 hex digits>", self.commit.as_ref().is_some_and(CommitSha::is_full)),
            ("--ref", self.reference.is_some()),
            ("--source", self.repository.is_some()),
        ];
        given.into_iter().filter(|(_, is_given)| !is_given).map(|(flag, _)| flag).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == StatedSource::default()
    }

    /// `reported` with what is stated. If another commit is stated, only the repository of what was reported remains: the
    /// rest describes the reported commit.
    pub(super) fn applied_to(&self, mut reported: Source) -> Source {
        if let Some(stated) = &self.commit {
            let full = Some(stated.clone()).filter(CommitSha::is_full);
            match &reported.commit {
                Some(known) if known.as_str().starts_with(stated.as_str()) => {}
                Some(_) => {
                    reported = Source { repository: reported.repository, commit: full, ..Source::default() };
                }
                None => reported.commit = full,
            }
        }
        if let Some(reference) = &self.reference {
            reported.reference = Some(reference.clone());
        }
        if let Some(repository) = &self.repository {
            let repository = without_credentials(repository);
            if repository != reported.repository {
                reported = Source { repository, fork: None, head_repository: None, ..reported };
            }
        }
        reported
    }
}

/// What a build system reports about the source.
pub(super) enum Origin {
    /// Its variables determine what was checked out.
    Known(Source),
    /// They do not.
    Ambiguous {
        /// The event and the candidates.
        reason: String,
        /// The source, for each commit that may have been checked out.
        candidates: Vec<Source>,
    },
}

impl Origin {
    /// Not even a candidate is known.
    pub(super) fn unknown(reason: impl Into<String>) -> Self {
        Origin::Ambiguous { reason: reason.into(), candidates: Vec::new() }
    }

    pub(super) fn settled(self, system: &'static str, stated: &StatedSource) -> Result<Source, CiError> {
        match self {
            Origin::Known(source) => Ok(stated.applied_to(source)),
            Origin::Ambiguous { reason, candidates } => {
                let missing = stated.missing();
                if !missing.is_empty() {
                    return Err(CiError::Ambiguous { system, reason, missing });
                }
                let candidate = candidates.into_iter().find(|source| source.commit == stated.commit);
                let Source { fork, head_repository, .. } = candidate.unwrap_or_default();
                let stated = stated.applied_to(Source::default());
                Ok(Source { fork, head_repository, ..stated })
            }
        }
    }
}

/// The environment, in which an empty variable counts as unset.
pub(super) struct Variables<'a>(pub(super) &'a dyn Fn(&str) -> Option<String>);

impl Variables<'_> {
    pub(super) fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.trim().is_empty())
    }

    /// A URL, without credentials.
    pub(super) fn url(&self, name: &str) -> Option<String> {
        without_credentials(&self.get(name)?)
    }

    pub(super) fn commit(&self, name: &str) -> Option<CommitSha> {
        full_commit(&self.get(name)?)
    }

    /// The full commit ID in a variable that the build system always sets.
    pub(super) fn built(&self, name: &'static str, system: &'static str) -> Result<CommitSha, CiError> {
        self.commit(name).ok_or(CiError::Missing(name, system))
    }

    /// `refs/heads/<branch>` from the branch in a variable.
    pub(super) fn branch(&self, name: &str) -> Option<String> {
        self.get(name).map(|branch| in_namespace("refs/heads/", branch))
    }

    /// `refs/tags/<tag>` from the tag in a variable.
    pub(super) fn tag(&self, name: &str) -> Option<String> {
        self.get(name).map(|tag| in_namespace("refs/tags/", tag))
    }
}

fn in_namespace(namespace: &str, name: String) -> String {
    if name.starts_with("refs/") { name } else { format!("{namespace}{name}") }
}

/// Parses a full commit ID. Returns `None` for S3 object versions, branch names and abbreviated IDs.
pub(super) fn full_commit(text: &str) -> Option<CommitSha> {
    text.parse().ok().filter(CommitSha::is_full)
}

/// A commit for a message, or that there is none.
pub(super) fn shown(commit: Option<&CommitSha>) -> impl fmt::Display {
    commit.map_or_else(|| "an unknown commit".to_owned(), |commit| commit.short().to_owned())
}
