//! `artifact.json`: both formats, preserved fields, parse errors, and the environments of build systems.

use std::{collections::HashMap, fs};

use bp_artifact::{
    Artifact, Digest, Repository,
    artifact::CiError,
    document::DocumentError,
    error::{Classified, ErrorClass},
};

const HEAD: &str = "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d";
const MERGE: &str = "ffffffffffffffffffffffffffffffffffffffff";

fn parse(text: &str) -> Result<Artifact, DocumentError> {
    Artifact::parse(text, "artifact.json")
}

#[test]
fn the_older_format_requires_a_repository() {
    let artifact = parse("\u{7b} \"commit_sha\": \"1A2B3C4\" }").unwrap();
    let repository: Repository = "r.example.com/shop/web".parse().unwrap();
    assert_eq!(artifact.image_ref(Some(&repository)).unwrap().to_string(), "r.example.com/shop/web:1a2b3c4");
    assert_eq!(artifact.resolved(), None);
    let error = artifact.image_ref(None).unwrap_err();
    assert!(error.to_string().contains("only the commit 1a2b3c4: set the repository in bp.toml"), "{error}");
    assert_eq!(error.class(), ErrorClass::BadInput);
}

#[test]
fn an_image_takes_precedence_over_the_given_repository() {
    let digest = Digest::sha256("x");
    let artifact = parse(&format!(
        r#"{{ "schema": "bp.artifact/1.0", "commit_sha": "1a2b3c4",
             "image": {{ "repository": "r.example.com/web", "tag": "1", "digest": "{digest}" }} }}"#
    ))
    .unwrap();
    let other: Repository = "r.example.com/other".parse().unwrap();
    let image = artifact.image_ref(Some(&other)).unwrap();
    assert_eq!(image.to_string(), format!("r.example.com/web:1@{digest}"));
    assert_eq!(artifact.resolved().unwrap().reference.to_string(), format!("r.example.com/web@{digest}"));
}

/// Every environment has its own repository for the image, whichever way the artifact references it.
#[test]
fn uses_the_repository_of_the_environment() {
    let digest = Digest::sha256("x");
    let prod: Repository = "prod.example.com/live/web".parse().unwrap();
    for (image, expected) in [
        (r#""tag": "1""#.to_owned(), "prod.example.com/live/web:1".to_owned()),
        (format!(r#""digest": "{digest}""#), format!("prod.example.com/live/web@{digest}")),
        (format!(r#""tag": "1", "digest": "{digest}""#), format!("prod.example.com/live/web:1@{digest}")),
    ] {
        let text = format!(r#"{{ "image": {{ "repository": "dev.example.com/web", {image} }} }}"#);
        assert_eq!(parse(&text).unwrap().image_in(&prod).unwrap().to_string(), expected);
    }
    let old = parse(r#"{ "commit_sha": "1a2b3c4" }"#).unwrap();
    assert_eq!(old.image_in(&prod).unwrap().to_string(), "prod.example.com/live/web:1a2b3c4");
    let full = parse(&format!(r#"{{ "source": {{ "commit": "{HEAD}" }} }}"#)).unwrap();
    assert_eq!(full.image_in(&prod).unwrap().to_string(), "prod.example.com/live/web:1a2b3c4");
    let nothing = Artifact::default().image_in(&prod).unwrap_err();
    assert!(nothing.to_string().contains("neither an image nor a commit"), "{nothing}");
}

#[test]
fn preserves_unknown_fields() {
    let text = format!(
        r#"{{ "schema": "bp.artifact/1.9", "commit_sha": "1a2b3c4", "sbom": {{ "format": "spdx" }},
             "image": {{ "repository": "r.example.com/web", "tag": "1", "labels": ["a"] }},
             "source": {{ "commit": "{HEAD}", "dirty": false }},
             "build": {{ "system": "own", "agent": 7 }} }}"#
    );
    let mut artifact = parse(&text).unwrap();
    let image = parse(&text).unwrap().image_ref(None).unwrap().with_digest(Digest::sha256("x"));
    let resolved = bp_artifact::DigestRef::try_from(image).unwrap().into();
    artifact.set_image(&resolved, None);
    let again: serde_json::Value = serde_json::from_str(&artifact.to_json()).unwrap();
    assert_eq!(again["schema"], "bp.artifact/1.9");
    assert_eq!(again["sbom"]["format"], "spdx");
    assert_eq!(again["image"]["labels"][0], "a");
    assert_eq!(again["image"]["digest"], Digest::sha256("x").to_string());
    assert_eq!(again["source"]["dirty"], false);
    assert_eq!(again["build"]["agent"], 7);
}

#[test]
fn parse_errors_state_the_location() {
    for (text, message) in [
        ("", "artifact.json:1:1: EOF while parsing a value"),
        ("[]", "artifact.json:1:"),
        ("{\n  \"commit_sha\": 7\n}", "artifact.json:2:17: invalid type: integer `7`"),
        ("{\n  \"commit_sha\": \"latest\"\n}", "artifact.json:2:24: \"latest\" is not a commit id"),
        ("{\n  \"commit_sha\": \"1a2b3c4\",\n}", "artifact.json:3:1: trailing comma"),
        ("{}", "artifact.json:1:1: it has neither an image nor a commit_sha"),
        (
            r#"{"image":{"repository":"r.example.com/web"}}"#,
            "artifact.json:1:1: the image has neither tag nor digest",
        ),
        (r#"{"image":{"repository":"nginx","tag":"1"}}"#, "the registry is missing"),
        (r#"{"image":{"repository":"r.example.com/web","digest":"sha256:1"}}"#, "64 hex digits, found 1"),
        (
            r#"{"schema":"bp.artifact/2.0"}"#,
            "the schema is \"bp.artifact/2.0\", and this version reads bp.artifact/1",
        ),
        (r#"{"schema":"bp.receipt/1.0"}"#, "the schema is \"bp.receipt/1.0\""),
        (
            &format!(r#"{{"commit_sha":"0000000","source":{{"commit":"{HEAD}"}}}}"#),
            "commit_sha is 0000000, but source.commit is 1a2b3c4",
        ),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.to_string().contains(message), "{text}: {error}");
        assert_eq!(error.class(), ErrorClass::BadInput);
    }
    // The schema is checked first: in a later version the fields may have another meaning.
    let later = parse(r#"{"schema":"bp.artifact/2.0","commit_sha":{}}"#).unwrap_err();
    assert!(matches!(later, DocumentError::Unsupported { .. }), "{later}");
}

#[test]
fn reads_what_it_writes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("artifact.json");
    assert!(Artifact::read(&path).unwrap_err().is_missing());
    let artifact = codebuild(&[("CODEBUILD_RESOLVED_SOURCE_VERSION", HEAD)]);
    artifact.write(&path).unwrap();
    assert_eq!(Artifact::read(&path).unwrap(), artifact);
    // Windows shells write a byte order mark.
    fs::write(&path, format!("\u{feff}{}", artifact.to_json())).unwrap();
    assert_eq!(Artifact::read(&path).unwrap(), artifact);
}

fn from(variables: &[(&str, &str)]) -> Result<Artifact, CiError> {
    let variables: HashMap<&str, &str> = variables.iter().copied().collect();
    Artifact::from_environment(|name| variables.get(name).map(|value| (*value).to_owned()))
}

fn codebuild(more: &[(&str, &str)]) -> Artifact {
    let mut variables = vec![
        ("CODEBUILD_BUILD_ID", "shop:b1e6661e-e4f2-4156-9ab9-82a19EXAMPLE"),
        ("CODEBUILD_BUILD_ARN", "arn:aws:codebuild:eu-central-1:111111111111:build/shop:b1e6661e"),
        ("CODEBUILD_START_TIME", "1760000000000"),
        ("CODEBUILD_INITIATOR", "GitHub-Hookshot/1"),
    ];
    variables.extend_from_slice(more);
    from(&variables).unwrap()
}

#[test]
fn codebuild_by_webhook() {
    let artifact = codebuild(&[
        ("CODEBUILD_RESOLVED_SOURCE_VERSION", HEAD),
        ("CODEBUILD_SOURCE_VERSION", &format!("refs/heads/main^{{{HEAD}}}")),
        ("CODEBUILD_SOURCE_REPO_URL", "https://user:token@github.com/example/shop.git"),
        ("CODEBUILD_WEBHOOK_TRIGGER", "branch/main"),
        ("CODEBUILD_WEBHOOK_HEAD_REF", "refs/heads/main"),
    ]);
    assert_eq!(artifact.commit.unwrap().as_str(), "1a2b3c4");
    let source = artifact.source.unwrap();
    assert_eq!(source.commit.unwrap().as_str(), HEAD);
    assert_eq!(source.reference.as_deref(), Some("refs/heads/main"));
    assert_eq!(source.repository.as_deref(), Some("https://github.com/example/shop.git"));
    let build = artifact.build.unwrap();
    assert_eq!(build.system, "codebuild");
    assert_eq!(build.started_at.unwrap().as_millisecond(), 1_760_000_000_000);
    assert_eq!(build.uri.as_deref(), Some("arn:aws:codebuild:eu-central-1:111111111111:build/shop:b1e6661e"));
}

#[test]
fn codebuild_of_a_pull_request() {
    let source = codebuild(&[
        ("CODEBUILD_SOURCE_VERSION", "pr/12"),
        ("CODEBUILD_RESOLVED_SOURCE_VERSION", HEAD),
        ("CODEBUILD_WEBHOOK_MERGE_COMMIT", MERGE),
        ("CODEBUILD_SOURCE_REPO_URL", ""),
    ])
    .source
    .unwrap();
    assert_eq!(source.commit.unwrap().as_str(), HEAD);
    assert_eq!(source.merge_commit.unwrap().as_str(), MERGE);
    assert_eq!(source.reference.as_deref(), Some("pr/12"));
    assert_eq!(source.repository, None);
}

#[test]
fn codebuild_under_codepipeline_may_lack_the_commit() {
    // The source version is the pipeline's zip file; the commit may be missing altogether.
    let zip = "arn:aws:s3:::codepipeline-bucket/shop/source/abc";
    let with = codebuild(&[
        ("CODEBUILD_SOURCE_VERSION", zip),
        ("CODEBUILD_RESOLVED_SOURCE_VERSION", HEAD),
        ("CODEBUILD_INITIATOR", "codepipeline/shop"),
    ]);
    assert_eq!(with.commit.as_ref().unwrap().as_str(), "1a2b3c4");
    assert_eq!(with.source.unwrap().reference, None);
    let without = codebuild(&[("CODEBUILD_SOURCE_VERSION", zip)]);
    assert_eq!(without.commit, None);
    assert_eq!(without.build.unwrap().started_at.unwrap().as_second(), 1_760_000_000);
}

#[test]
fn codebuild_from_s3_has_no_commit() {
    let artifact = codebuild(&[
        ("CODEBUILD_SOURCE_VERSION", "arn:aws:s3:::bucket/source.zip"),
        ("CODEBUILD_RESOLVED_SOURCE_VERSION", "3sL4kqtJlcpXroDTDmJ_rmSpXd3dIbrHY"),
    ]);
    assert_eq!(artifact.commit, None);
}

fn github(more: &[(&str, &str)]) -> Result<Artifact, CiError> {
    let mut variables = vec![
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_SERVER_URL", "https://github.com"),
        ("GITHUB_REPOSITORY", "example/shop"),
        ("GITHUB_RUN_ID", "4711"),
        ("GITHUB_RUN_ATTEMPT", "2"),
        ("GITHUB_ACTOR", "someone"),
        ("GITHUB_SHA", MERGE),
    ];
    variables.extend_from_slice(more);
    from(&variables)
}

#[test]
fn github_on_a_push() {
    let artifact = github(&[("GITHUB_EVENT_NAME", "push"), ("GITHUB_REF", "refs/heads/main")]).unwrap();
    let source = artifact.source.unwrap();
    assert_eq!(source.commit.unwrap().as_str(), MERGE);
    assert_eq!(source.merge_commit, None);
    assert_eq!(source.reference.as_deref(), Some("refs/heads/main"));
    let build = artifact.build.unwrap();
    assert_eq!(build.uri.as_deref(), Some("https://github.com/example/shop/actions/runs/4711/attempts/2"));
    assert_eq!(build.initiator.as_deref(), Some("someone"));
}

#[test]
fn github_on_a_pull_request_uses_the_head_not_the_merge_commit() {
    let directory = tempfile::tempdir().unwrap();
    let event = directory.path().join("event.json");
    let path = event.to_str().unwrap();
    let variables = [("GITHUB_EVENT_NAME", "pull_request"), ("GITHUB_EVENT_PATH", path)];

    fs::write(&event, format!(r#"{{"number":5,"pull_request":{{"head":{{"sha":"{HEAD}"}}}}}}"#)).unwrap();
    let source = github(&variables).unwrap().source.unwrap();
    assert_eq!(source.commit.unwrap().as_str(), HEAD);
    assert_eq!(source.merge_commit.unwrap().as_str(), MERGE);
    assert_eq!(source.reference.as_deref(), Some("refs/pull/5/head"));

    // A payload without the head commit is an error; the merge commit is never used instead.
    fs::write(&event, "{}").unwrap();
    assert!(matches!(github(&variables), Err(CiError::Event { .. })));
    fs::write(&event, "{").unwrap();
    assert!(matches!(github(&variables), Err(CiError::Payload(_))));
    let missing = github(&[("GITHUB_EVENT_NAME", "pull_request")]).unwrap_err();
    assert!(missing.to_string().starts_with("the variable GITHUB_EVENT_PATH is not set"), "{missing}");
}

/// On pull_request_target GITHUB_SHA is the base branch: neither the head nor a merge.
#[test]
fn github_on_a_pull_request_from_a_fork() {
    let directory = tempfile::tempdir().unwrap();
    let event = directory.path().join("event.json");
    fs::write(&event, format!(r#"{{"number":5,"pull_request":{{"head":{{"sha":"{HEAD}"}}}}}}"#)).unwrap();
    let path = event.to_str().unwrap();
    let variables = [("GITHUB_EVENT_NAME", "pull_request_target"), ("GITHUB_EVENT_PATH", path)];
    let source = github(&variables).unwrap().source.unwrap();
    assert_eq!(source.commit.unwrap().as_str(), HEAD);
    assert_eq!(source.merge_commit, None);
}

#[test]
fn github_on_a_tag_and_without_required_variables() {
    let tag = github(&[("GITHUB_EVENT_NAME", "push"), ("GITHUB_REF", "refs/tags/v1.4.2")]).unwrap();
    assert_eq!(tag.source.unwrap().reference.as_deref(), Some("refs/tags/v1.4.2"));
    for name in ["GITHUB_REPOSITORY", "GITHUB_RUN_ID", "GITHUB_SHA"] {
        let error = github(&[("GITHUB_EVENT_NAME", "push"), (name, "")]).unwrap_err().to_string();
        assert_eq!(error, format!("the variable {name} is not set, although GitHub Actions always sets it"));
    }
}

#[test]
fn github_after_another_workflow_uses_the_commit_of_that_workflow() {
    let directory = tempfile::tempdir().unwrap();
    let event = directory.path().join("event.json");
    fs::write(&event, format!(r#"{{"workflow_run":{{"head_sha":"{HEAD}","head_branch":"main"}}}}"#)).unwrap();
    let variables = [("GITHUB_EVENT_NAME", "workflow_run"), ("GITHUB_EVENT_PATH", event.to_str().unwrap())];
    let source = github(&variables).unwrap().source.unwrap();
    assert_eq!(source.commit.unwrap().as_str(), HEAD);
    assert_eq!(source.reference.as_deref(), Some("refs/heads/main"));
}

#[test]
fn rejects_an_environment_without_a_build_system() {
    let error = from(&[("HOME", "/somewhere")]).unwrap_err();
    assert!(matches!(error, CiError::NotRecognised));
    assert_eq!(error.class(), ErrorClass::BadInput);
}

/// With the feature `schema`: the committed schema is the generated one.
#[cfg(feature = "schema")]
#[test]
fn committed_schema_matches_the_types() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/schema/artifact.schema.json");
    let mut expected = serde_json::to_string_pretty(&bp_artifact::artifact::artifact_schema()).unwrap();
    expected.push('\n');
    if std::env::var_os("BP_WRITE_SCHEMA").is_some() {
        fs::write(path, &expected).unwrap();
    }
    // As values: the order of keys depends on the features of other crates.
    let committed: serde_json::Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert!(
        committed == serde_json::from_str::<serde_json::Value>(&expected).unwrap(),
        "update it: BP_WRITE_SCHEMA=1 cargo test -p bp-artifact --features schema --test artifact"
    );
}
