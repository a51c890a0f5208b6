//! Commit, reference, repository and fork of an artifact, for every event of every build system.
//!
//! The rows are the table in `docs/artifact.md`: a cell is both the documentation of a value and the expected value, with
//! the variables of the row inserted. `BP_WRITE_DOCS=1` writes the table.

#[path = "../documented/mod.rs"]
mod documented;
mod rows;

use std::{collections::HashMap, fs};

use bp_artifact::{
    Artifact, ResolvedImage,
    artifact::{CiError, StatedSource},
    error::{Classified, ErrorClass},
};
use proptest::prelude::*;
use rows::*;
use serde_json::Value;

/// The environment of a row, with its event payload in a file.
struct Environment {
    variables: HashMap<String, String>,
    payload: Value,
    _directory: tempfile::TempDir,
}

impl Environment {
    fn new(system: &str, more: &[(&str, &str)], payload: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("event.json");
        let payload =
            payload.replace("HEAD", &format!("{HEAD:?}")).replace("SAME", SAME).replace("FORK", FORK);
        fs::write(&path, &payload).unwrap();
        let all =
            base(system).iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut variables: HashMap<String, String> = all.collect();
        if !payload.is_empty() {
            variables.insert("GITHUB_EVENT_PATH".into(), path.to_str().unwrap().to_owned());
        }
        let payload = serde_json::from_str(&payload).unwrap_or_default();
        Environment { variables, payload, _directory: directory }
    }

    fn of(row: &Row) -> Self {
        Self::new(row.system, row.variables, row.payload)
    }

    fn read(&self, stated: &StatedSource) -> Result<Artifact, CiError> {
        Artifact::from_environment_and(|name| self.variables.get(name).cloned(), stated)
    }

    fn source(&self) -> bp_artifact::artifact::Source {
        self.read(&StatedSource::default()).unwrap().source.unwrap()
    }

    /// A cell with the values of its variables and payload fields.
    fn filled(&self, cell: &str) -> Option<String> {
        if matches!(cell, "none" | "unknown") {
            return None;
        }
        let (mut filled, mut rest) = (String::new(), cell);
        while let Some((before, behind)) = rest.split_once('{') {
            let (name, after) = behind.split_once('}').unwrap();
            let value = match name.strip_prefix("event.") {
                Some(field) => {
                    match self.payload.pointer(&format!("/{}", field.replace('.', "/"))).unwrap() {
                        Value::String(text) => text.clone(),
                        other => other.to_string(),
                    }
                }
                None => self.variables[name].clone(),
            };
            filled = filled + before + &value;
            rest = after;
        }
        Some(filled + rest)
    }
}

fn stated(commit: &str, reference: &str, repository: &str) -> StatedSource {
    let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    StatedSource {
        commit: given(commit).map(|commit| commit.parse().unwrap()),
        reference: given(reference),
        repository: given(repository),
    }
}

#[test]
fn every_event_has_the_documented_source() {
    for row in rows() {
        let (what, environment) = (format!("{}, {}", row.system, row.event), Environment::of(&row));
        if row.commit == REFUSED {
            let error = environment.read(&StatedSource::default()).unwrap_err();
            assert!(matches!(error, CiError::Ambiguous { .. }), "{what}: {error}");
            let message = error.to_string();
            assert!(message.ends_with("; pass --commit <40 hex digits>, --ref, --source"), "{message}");
            assert_eq!(error.class(), ErrorClass::BadInput);
            let part = stated(HEAD, "refs/heads/main", "");
            let missing = environment.read(&part).unwrap_err().to_string();
            assert!(missing.ends_with("; pass --source"), "{missing}");
            let all = stated(HEAD, "refs/heads/main", "https://github.com/example/shop");
            let source = environment.read(&all).unwrap().source.unwrap();
            assert_eq!(source.commit, all.commit, "{what}");
            assert_eq!(source.reference, all.reference, "{what}");
            assert_eq!(source.repository, all.repository, "{what}");
            continue;
        }
        let artifact = environment.read(&StatedSource::default()).unwrap();
        let source = artifact.source.unwrap();
        assert_eq!(source.commit.map(|commit| commit.to_string()), environment.filled(row.commit), "{what}");
        assert_eq!(source.reference, environment.filled(row.reference), "{what}");
        assert_eq!(source.repository, environment.filled(row.repository), "{what}");
        assert_eq!(source.merge_commit.map(|c| c.to_string()), environment.filled(row.merge), "{what}");
        let fork = source.fork.map(|fork| if fork { "yes" } else { "no" });
        assert_eq!(fork.map(str::to_owned), environment.filled(row.fork), "{what}");
        assert!(artifact.build.unwrap().id.is_some(), "{what}");
    }
}

#[test]
fn the_documented_table_has_these_rows() {
    let cell = |text: &str| match text {
        "none" | "unknown" | "yes" | "no" | "" => text.to_owned(),
        REFUSED => "refused: requires `--commit`, `--ref` and `--source`".to_owned(),
        only if only.starts_with('{') && only.ends_with('}') && only.matches('{').count() == 1 => {
            format!("`{}`", &only[1..only.len() - 1])
        }
        other => format!("`{other}`"),
    };
    let mut table = String::from(
        "| build system | event | commit | ref | repository | fork | merge commit |\n|---|---|---|---|---|---|---|\n",
    );
    for row in rows() {
        let refused = row.commit == REFUSED;
        let rest =
            [row.reference, row.repository, row.fork, row.merge].map(|text| if refused { "" } else { text });
        let [reference, repository, fork, merge] = rest.map(cell);
        let (system, event, commit) = (row.system, row.event, cell(row.commit));
        table +=
            &format!("| {system} | {event} | {commit} | {reference} | {repository} | {fork} | {merge} |\n");
    }
    documented::assert_table("| build system | event |", &table, "provenance");
}

#[test]
fn records_the_build() {
    let build = |system: &str, more: &[(&str, &str)]| {
        let environment = Environment::new(system, more, "");
        environment.read(&StatedSource::default()).unwrap().build.unwrap()
    };
    let codebuild = build("CodeBuild", &[RESOLVED]);
    assert_eq!(codebuild.system, "codebuild");
    assert_eq!(codebuild.started_at.unwrap().as_millisecond(), 1_760_000_000_000);
    assert_eq!(codebuild.uri.unwrap(), "arn:aws:codebuild:eu-central-1:111111111111:build/shop:b1e6661e");
    assert_eq!(codebuild.initiator.unwrap(), "GitHub-Hookshot/1");
    let console =
        "https://eu-central-1.console.aws.amazon.com/codebuild/home?region=eu-central-1#/builds/shop";
    assert_eq!(build("CodeBuild", &[("CODEBUILD_BUILD_URL", console)]).uri.unwrap(), console);
    let github = build("GitHub Actions", &[("GITHUB_SHA", HEAD)]);
    assert_eq!(github.uri.unwrap(), "https://github.com/example/shop/actions/runs/4711/attempts/2");
    assert_eq!(github.initiator.unwrap(), "someone");
    let gitlab = build("GitLab CI/CD", &[("CI_COMMIT_SHA", HEAD)]);
    assert_eq!(gitlab.uri.unwrap(), "https://gitlab.com/example/shop/-/jobs/4711");
    assert_eq!(gitlab.started_at.unwrap().to_string(), "2026-01-01T12:00:00Z");
}

/// CodeBuild hosts the runners of GitHub, GitLab and Buildkite, whose variables are set in addition.
#[test]
fn a_runner_on_codebuild_is_its_own_system() {
    let runner =
        [("CODEBUILD_BUILD_ID", "runner:1"), ("CODEBUILD_WEBHOOK_HEAD_REF", "refs/heads/other"), RESOLVED];
    let push = [("GITHUB_EVENT_NAME", "push"), ("GITHUB_REF", "refs/heads/main"), ("GITHUB_SHA", MERGE)];
    let source = Environment::new("GitHub Actions", &[&runner[..], &push].concat(), "").source();
    assert_eq!(source.commit.unwrap().as_str(), MERGE);
    assert_eq!(source.reference.unwrap(), "refs/heads/main");
    let branch = [("CI_COMMIT_SHA", MERGE), ("CI_COMMIT_BRANCH", "main")];
    let source = Environment::new("GitLab CI/CD", &[&runner[..], &branch].concat(), "").source();
    assert_eq!(source.commit.unwrap().as_str(), MERGE);
}

#[test]
fn a_fork_is_recorded_also_after_it_was_deleted() {
    let variables = [("GITHUB_EVENT_NAME", "pull_request"), ("GITHUB_SHA", MERGE)];
    let source = |repository: &str| {
        let payload = format!(r#"{{"number":5,"pull_request":{{"head":{{"sha":HEAD{repository}}}}}}}"#);
        Environment::new("GitHub Actions", &variables, &payload).source()
    };
    let fork = source(r#","repo":FORK"#);
    assert_eq!(fork.fork, Some(true));
    assert_eq!(fork.head_repository.as_deref(), Some("https://github.com/attacker/shop"));
    let deleted = source(r#","repo":null"#);
    assert_eq!((deleted.fork, deleted.head_repository), (Some(true), None));
    assert_eq!(source("").fork, None);
}

/// What is stated about an ambiguous event identifies the candidate, and with it the fork.
#[test]
fn a_stated_commit_of_an_ambiguous_event_keeps_the_mark_of_a_fork() {
    let variables =
        [("GITHUB_EVENT_NAME", "workflow_run"), ("GITHUB_SHA", MERGE), ("GITHUB_REF", "refs/heads/main")];
    let payload = r#"{"workflow_run":{"head_sha":HEAD,"head_branch":"main","head_repository":FORK}}"#;
    let environment = Environment::new("GitHub Actions", &variables, payload);
    for (commit, fork) in [(HEAD, Some(true)), (MERGE, Some(false)), (&"0".repeat(40), None)] {
        let all = stated(commit, "refs/heads/main", "https://github.com/example/shop");
        assert_eq!(environment.read(&all).unwrap().source.unwrap().fork, fork, "{commit}");
    }
    let short = stated(&HEAD[..12], "refs/heads/main", "https://github.com/example/shop");
    let error = environment.read(&short).unwrap_err().to_string();
    assert!(error.contains("builds fffffff (GITHUB_SHA) or checks out 1a2b3c4 (the head)"), "{error}");
    assert!(error.ends_with("; pass --commit <40 hex digits>"), "{error}");
}

/// A change request is never recorded as a branch of the repository, however the project refers to it.
#[test]
fn a_change_request_of_jenkins_is_refused_whichever_plugin_started_it() {
    let read = |more: &[(&str, &str)]| {
        let all = [&[("GIT_COMMIT", MERGE)], more].concat();
        Environment::new("Jenkins", &all, "").read(&StatedSource::default())
    };
    for variables in [
        &[("ghprbPullId", "7"), ("GIT_BRANCH", "detached")][..],
        &[("gitlabMergeRequestIid", "7"), ("GIT_BRANCH", "origin/topic")],
        &[("BITBUCKET_PULL_REQUEST_ID", "7"), ("GIT_BRANCH", "origin/topic")],
        &[("GIT_BRANCH", "origin/pr/7/head")],
        &[("GIT_BRANCH", "upstream/pull/7/merge")],
        &[("GIT_BRANCH", "origin/pull-requests/7/from")],
        &[("GIT_BRANCH", "origin/merge-requests/7/head")],
    ] {
        let error = read(variables).unwrap_err().to_string();
        assert!(error.starts_with("Jenkins: of the change request 7 "), "{variables:?}: {error}");
    }
    for (branch, reference) in [
        ("origin/pr/fixes", Some("refs/heads/pr/fixes")),
        ("origin/pull/", Some("refs/heads/pull/")),
        ("origin/main", Some("refs/heads/main")),
        ("HEAD", None),
    ] {
        let source = read(&[("GIT_BRANCH", branch)]).unwrap().source.unwrap();
        assert_eq!((source.reference.as_deref(), source.fork), (reference, None), "{branch}");
    }
}

#[test]
fn a_branch_of_circleci_may_have_the_form_of_a_pull_request() {
    for (branch, reference) in [
        ("pull/7", "refs/pull/7/head"),
        ("pull/7/head", "refs/pull/7/head"),
        ("pull/7/merge", "refs/pull/7/head"),
        ("pull/request", "refs/heads/pull/request"),
        ("pull/", "refs/heads/pull/"),
        ("pull/7a", "refs/heads/pull/7a"),
    ] {
        let source = Environment::new("CircleCI", &[("CIRCLE_BRANCH", branch)], "").source();
        assert_eq!((source.reference.as_deref(), source.fork), (Some(reference), None), "{branch}");
    }
}

#[test]
fn a_payload_without_the_head_commit_is_an_error() {
    let variables = [("GITHUB_EVENT_NAME", "pull_request"), ("GITHUB_SHA", MERGE)];
    let read =
        |payload| Environment::new("GitHub Actions", &variables, payload).read(&StatedSource::default());
    // The merge commit is never used instead.
    assert!(matches!(read("{}"), Err(CiError::Event { .. })));
    assert!(matches!(read("{"), Err(CiError::Payload(_))));
    let missing = read("").unwrap_err();
    assert!(missing.to_string().starts_with("the variable GITHUB_EVENT_PATH is not set"), "{missing}");
    let all = stated(HEAD, "refs/pull/5/head", "https://github.com/example/shop");
    let artifact = Environment::new("GitHub Actions", &variables, "{").read(&all).unwrap();
    assert_eq!(artifact.source.unwrap().reference, all.reference);
    for name in ["GITHUB_REPOSITORY", "GITHUB_RUN_ID", "GITHUB_SHA"] {
        let push = [("GITHUB_EVENT_NAME", "push"), ("GITHUB_SHA", HEAD), (name, "")];
        let error = Environment::new("GitHub Actions", &push, "").read(&StatedSource::default()).unwrap_err();
        let expected = format!("the variable {name} is not set, although GitHub Actions always sets it");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn what_is_stated_takes_precedence_over_the_environment() {
    let push = [("GITHUB_EVENT_NAME", "push"), ("GITHUB_REF", "refs/heads/main"), ("GITHUB_SHA", HEAD)];
    let environment = Environment::new("GitHub Actions", &push, "");
    let read = |stated: &StatedSource| environment.read(stated).unwrap();
    // An abbreviation of the reported commit changes nothing else.
    let same = read(&stated(&HEAD[..8], "", ""));
    assert_eq!(same.commit.unwrap().as_str(), "1a2b3c4");
    assert_eq!(same.source.unwrap(), environment.source());
    // Another commit: branch and fork describe the reported one.
    let other = read(&stated(MERGE, "", ""));
    assert_eq!(other.commit.unwrap().as_str(), "fffffff");
    let source = other.source.unwrap();
    assert_eq!(source.commit.unwrap().as_str(), MERGE);
    assert_eq!((source.reference, source.fork), (None, None));
    assert_eq!(source.repository.as_deref(), Some("https://github.com/example/shop"));
    let short = read(&stated("0123456", "", ""));
    assert_eq!((short.commit.unwrap().as_str(), short.source.unwrap().commit), ("0123456", None));
    let moved = read(&stated("", "refs/tags/v1", "https://x:y@git.example.com/o")).source.unwrap();
    assert_eq!(moved.reference.as_deref(), Some("refs/tags/v1"));
    assert_eq!((moved.repository.as_deref(), moved.fork), (Some("https://git.example.com/o"), None));
}

#[test]
fn without_a_build_system_the_source_must_be_stated() {
    let read = |stated: &StatedSource| Artifact::from_environment_and(|_| None, stated);
    let error = read(&StatedSource::default()).unwrap_err();
    assert!(matches!(error, CiError::NotRecognised), "{error}");
    assert!(error.to_string().ends_with("pass --commit, --ref and --source"), "{error}");
    assert_eq!(error.class(), ErrorClass::BadInput);
    let artifact = read(&stated(HEAD, "refs/heads/main", "")).unwrap();
    assert_eq!(artifact.source.unwrap().reference.as_deref(), Some("refs/heads/main"));
    assert_eq!(artifact.build, None);
}

#[test]
fn credentials_of_a_checkout_are_not_recorded() {
    for (system, variable, more) in [
        ("CodeBuild", "CODEBUILD_SOURCE_REPO_URL", ("CODEBUILD_WEBHOOK_TRIGGER", "branch/main")),
        ("GitLab CI/CD", "CI_PROJECT_URL", ("CI_COMMIT_SHA", HEAD)),
        ("GitHub Actions", "GITHUB_SERVER_URL", ("GITHUB_SHA", HEAD)),
        ("Bitbucket", "BITBUCKET_GIT_HTTP_ORIGIN", ("BITBUCKET_TAG", "v1")),
        ("CircleCI", "CIRCLE_REPOSITORY_URL", ("CIRCLE_TAG", "v1")),
        ("CircleCI", "CIRCLE_BUILD_URL", ("CIRCLE_TAG", "v1")),
        ("Buildkite", "BUILDKITE_REPO", ("BUILDKITE_COMMIT", HEAD)),
        ("Buildkite", "BUILDKITE_PULL_REQUEST_REPO", ("BUILDKITE_COMMIT", HEAD)),
        ("Jenkins", "GIT_URL", ("GIT_COMMIT", HEAD)),
        ("Jenkins", "BUILD_URL", ("GIT_COMMIT", HEAD)),
    ] {
        for url in [
            "https://x-access-token:ghp_SECRET@github.com/o/r.git",
            "https://ghp_SECRET@github.com/o/r.git",
            "x-access-token:ghp_SECRET@github.com/o/r.git",
            "ghp_SECRET@github.com:o/r.git",
            "https://github.com/o/r.git?access_token=ghp_SECRET",
            "https://user:pa/ghp_SECRET@github.com/o/r.git",
            "https://user:12?ghp_SECRET@github.com/o/r.git",
        ] {
            let request = ("BUILDKITE_PULL_REQUEST", "7");
            let environment = Environment::new(system, &[(variable, url), more, request], "");
            let artifact = environment.read(&StatedSource::default()).unwrap();
            assert!(!artifact.to_json().contains("SECRET"), "{variable}={url}: {}", artifact.to_json());
        }
    }
    // Whoever sets the field: the file is written without them.
    let mut artifact = Artifact::from_environment_and(|_| None, &stated(HEAD, "", "")).unwrap();
    artifact.source.as_mut().unwrap().repository = Some("https://x:SECRET@github.com/o/r".into());
    artifact.source.as_mut().unwrap().head_repository = Some("x:SECRET@github.com/o/f".into());
    assert!(!artifact.to_json().contains("SECRET"), "{}", artifact.to_json());
    assert!(artifact.to_json().contains("https://github.com/o/r"), "{}", artifact.to_json());
}

/// Values as environments contain them, and others.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(HEAD.to_owned()),
        Just(MERGE.to_owned()),
        Just("true".to_owned()),
        Just("pr/3".to_owned()),
        Just("refs/heads/main".to_owned()),
        Just("https://x:y@github.com/o/r".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        ".{0,30}",
    ]
}

proptest! {
    /// Every artifact that is created from an environment can be written, and reads back as it was.
    #[test]
    fn what_is_written_reads_back(
        row in 0..rows().len(),
        replaced in proptest::collection::vec((any::<proptest::sample::Index>(), value()), 0..4),
        commit in proptest::option::of("[0-9a-f]{7,40}"),
        reference in proptest::option::of(".{1,20}"),
        repository in proptest::option::of(value()),
    ) {
        let row = &rows()[row];
        let mut environment = Environment::of(row);
        let mut names: Vec<String> = environment.variables.keys().cloned().collect();
        names.sort();
        for (index, value) in replaced {
            environment.variables.insert(index.get(&names).clone(), value);
        }
        let commit = commit.map(|text| text.parse().unwrap());
        let Ok(mut artifact) = environment.read(&StatedSource { commit, reference, repository }) else { return Ok(()) };
        let image: bp_artifact::DigestRef =
            format!("r.example.com/web@{}", bp_artifact::Digest::sha256("x")).parse().unwrap();
        artifact.set_image(&ResolvedImage::from(image), None);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("artifact.json");
        artifact.write(&path).unwrap();
        prop_assert_eq!(Artifact::read(&path).unwrap(), artifact);
    }
}
