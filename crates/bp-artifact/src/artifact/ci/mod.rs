//! Read commit, source and build from the environment of a build system.
//!
//! The caller passes the environment in; git is not called. Only variables that the build system's documentation
//! describes are read, and an event whose variables do not determine what was checked out is refused. The table of
//! events is in `docs/artifact.md`; its rows are test cases.

mod codebuild;
mod github;
mod gitlab;
mod origin;
mod others;

pub use self::origin::{CiError, StatedSource};
use self::origin::{Origin, Variables};
use super::{Artifact, Build, Source};
use crate::commit::CommitSha;

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
    /// In the order in which they are recognised. CodeBuild is last: it also hosts the runners of others, which set their
    /// own variables in addition.
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
            System::Github => github::TITLE,
            System::Gitlab => gitlab::TITLE,
            System::Bitbucket => others::BITBUCKET,
            System::Circle => others::CIRCLE,
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
                (origin.settled(system.title(), stated)?, Some(system.build(&variables)?))
            }
            None if stated.is_empty() => return Err(CiError::NotRecognised),
            None => (stated.applied_to(Source::default()), None),
        };
        let commit = stated.commit.as_ref().or(source.commit.as_ref()).map(CommitSha::abbreviated);
        let source = Some(source).filter(|source| *source != Source::default());
        Ok(Artifact { commit, source, build, ..Artifact::default() })
    }
}
