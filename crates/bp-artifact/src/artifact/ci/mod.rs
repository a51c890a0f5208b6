//! Read commit, source and build from the environment of a build system.
//!
//! The caller passes the environment in; git is not called. Only variables that the build system's documentation
//! describes are read, and an event whose variables do not determine what was checked out is refused. The table of
//! events is in `docs/artifact.md`; its rows are test cases.

mod codebuild;
mod github;
mod gitlab;
mod others;

use std::{fmt, path::PathBuf};

use super::{Artifact, Build, Source, source_url::without_credentials};
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
    fn missing(&self) -> Vec<&'static str> {
        let given = [
            ("--commit <40 hex digits>", self.commit.as_ref().is_some_and(CommitSha::is_full)),
            ("--ref", self.reference.is_some()),
            ("--source", self.repository.is_some()),
        ];
        given.into_iter().filter(|(_, is_given)| !is_given).map(|(flag, _)| flag).collect()
    }

    fn is_empty(&self) -> bool {
        *self == StatedSource::default()
    }

    /// `reported` with what is stated. If another commit is stated, only the repository of what was reported remains: the
    /// rest describes the reported commit.
    fn applied_to(&self, mut reported: Source) -> Source {
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
enum Origin {
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
    fn unknown(reason: impl Into<String>) -> Self {
        Origin::Ambiguous { reason: reason.into(), candidates: Vec::new() }
    }

    fn settled(self, system: System, stated: &StatedSource) -> Result<Source, CiError> {
        match self {
            Origin::Known(source) => Ok(stated.applied_to(source)),
            Origin::Ambiguous { reason, candidates } => {
                let missing = stated.missing();
                if !missing.is_empty() {
                    return Err(CiError::Ambiguous { system: system.title(), reason, missing });
                }
                let candidate = candidates.into_iter().find(|source| source.commit == stated.commit);
                let Source { fork, head_repository, .. } = candidate.unwrap_or_default();
                let stated = stated.applied_to(Source::default());
                Ok(Source { fork, head_repository, ..stated })
            }
        }
    }
}

/// A build system whose variables are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum System {
    Github,
    Gitlab,
    Bitbucket,
    Circle,
    Buildkite,
    Jenkins,
    CodeBuild,
}

impl System {
    /// In the order in which they are recognised. CodeBuild is last: it also hosts the runners of others, which then set
    /// their own variables as well.
    const ALL: [(System, &'static str); 7] = [
        (System::Github, "GITHUB_ACTIONS"),
        (System::Gitlab, "GITLAB_CI"),
        (System::Bitbucket, "BITBUCKET_BUILD_NUMBER"),
        (System::Circle, "CIRCLECI"),
        (System::Buildkite, "BUILDKITE"),
        (System::Jenkins, "JENKINS_URL"),
        (System::CodeBuild, "CODEBUILD_BUILD_ID"),
    ];

    fn of(variables: &Variables<'_>) -> Option<Self> {
        let found = Self::ALL.into_iter().find(|(_, variable)| variables.get(variable).is_some());
        found.map(|(system, _)| system)
    }

    fn title(self) -> &'static str {
        match self {
            System::Github => "GitHub Actions",
            System::Gitlab => "GitLab CI/CD",
            System::Bitbucket => "Bitbucket Pipelines",
            System::Circle => "CircleCI",
            System::Buildkite => "Buildkite",
            System::Jenkins => "Jenkins",
            System::CodeBuild => "AWS CodeBuild",
        }
    }

    fn origin(self, variables: &Variables<'_>) -> Result<Origin, CiError> {
        match self {
            System::Github => github::origin(variables),
            System::Gitlab => gitlab::origin(variables),
            System::Bitbucket => others::bitbucket(variables),
            System::Circle => others::circle(variables),
            System::Buildkite => others::buildkite(variables),
            System::Jenkins => others::jenkins(variables),
            System::CodeBuild => Ok(codebuild::origin(variables)),
        }
    }

    fn build(self, variables: &Variables<'_>) -> Result<Build, CiError> {
        let build = match self {
            System::Github => github::build(variables)?,
            System::Gitlab => gitlab::build(variables),
            System::Bitbucket => Build {
                system: "bitbucket-pipelines".into(),
                id: variables.get("BITBUCKET_BUILD_NUMBER"),
                initiator: variables.get("BITBUCKET_STEP_TRIGGERER_UUID"),
                ..Build::default()
            },
            System::Circle => Build {
                system: "circleci".into(),
                id: variables.get("CIRCLE_BUILD_NUM"),
                uri: variables.url("CIRCLE_BUILD_URL"),
                initiator: variables.get("CIRCLE_USERNAME"),
                ..Build::default()
            },
            System::Buildkite => Build {
                system: "buildkite".into(),
                id: variables.get("BUILDKITE_BUILD_ID"),
                uri: variables.url("BUILDKITE_BUILD_URL"),
                initiator: variables.get("BUILDKITE_BUILD_CREATOR"),
                ..Build::default()
            },
            System::Jenkins => Build {
                system: "jenkins".into(),
                id: variables.get("BUILD_TAG"),
                uri: variables.url("BUILD_URL"),
                ..Build::default()
            },
            System::CodeBuild => codebuild::build(variables),
        };
        Ok(build)
    }
}

/// The environment, in which an empty variable counts as unset.
struct Variables<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Variables<'_> {
    fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.trim().is_empty())
    }

    /// A URL, without credentials.
    fn url(&self, name: &str) -> Option<String> {
        without_credentials(&self.get(name)?)
    }

    fn commit(&self, name: &str) -> Option<CommitSha> {
        full_commit(&self.get(name)?)
    }

    /// The full commit ID in a variable that the build system always sets.
    fn built(&self, name: &'static str, system: System) -> Result<CommitSha, CiError> {
        self.commit(name).ok_or(CiError::Missing(name, system.title()))
    }

    /// `refs/heads/<branch>` from the branch in a variable.
    fn branch(&self, name: &str) -> Option<String> {
        self.get(name).map(|branch| in_namespace("refs/heads/", branch))
    }

    /// `refs/tags/<tag>` from the tag in a variable.
    fn tag(&self, name: &str) -> Option<String> {
        self.get(name).map(|tag| in_namespace("refs/tags/", tag))
    }
}

fn in_namespace(namespace: &str, name: String) -> String {
    if name.starts_with("refs/") { name } else { format!("{namespace}{name}") }
}

/// Parses a full commit ID. Returns `None` for S3 object versions, branch names and abbreviated IDs.
fn full_commit(text: &str) -> Option<CommitSha> {
    text.parse().ok().filter(CommitSha::is_full)
}

/// A commit for a message, or that there is none.
fn shown(commit: Option<&CommitSha>) -> impl fmt::Display {
    commit.map_or_else(|| "an unknown commit".to_owned(), |commit| commit.short().to_owned())
}

impl Artifact {
    /// Creates an artifact with commit, source and build from the environment of the build system: GitHub Actions (also
    /// on a runner hosted by CodeBuild), GitLab CI/CD, Bitbucket Pipelines, CircleCI, Buildkite, Jenkins or AWS
    /// CodeBuild.
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
    /// When no build system is recognised, or its variables do not determine the commit that was built.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Self, CiError> {
        Self::from_environment_and(variable, &StatedSource::default())
    }

    /// As [`from_environment`](Self::from_environment), with what the caller states about the source. It takes precedence
    /// over the environment; if it states another commit, the reference, fork and merge commit that the environment
    /// reports are not recorded.
    ///
    /// ```
    /// use bp_artifact::{Artifact, artifact::StatedSource};
    ///
    /// let stated = StatedSource {
    ///     commit: Some("1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d".parse()?),
    ///     reference: Some("refs/heads/main".into()),
    ///     repository: Some("https://user:token@git.example.com/shop".into()),
    /// };
    /// let source = Artifact::from_environment_and(|_| None, &stated)?.source.unwrap();
    /// assert_eq!(source.repository.as_deref(), Some("https://git.example.com/shop"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When neither the environment nor the caller identifies the source, or not completely: the error lists what to
    /// state.
    pub fn from_environment_and(
        variable: impl Fn(&str) -> Option<String>,
        stated: &StatedSource,
    ) -> Result<Self, CiError> {
        let variables = Variables(&variable);
        let (source, build) = match System::of(&variables) {
            Some(system) => {
                let origin = match system.origin(&variables) {
                    // What is stated completely needs nothing from the environment.
                    Err(_) if stated.missing().is_empty() => Origin::Known(Source::default()),
                    origin => origin?,
                };
                (origin.settled(system, stated)?, Some(system.build(&variables)?))
            }
            None if stated.is_empty() => return Err(CiError::NotRecognised),
            None => (stated.applied_to(Source::default()), None),
        };
        let commit = stated.commit.as_ref().or(source.commit.as_ref()).map(CommitSha::abbreviated);
        let source = Some(source).filter(|source| *source != Source::default());
        Ok(Artifact { commit, source, build, ..Artifact::default() })
    }
}
