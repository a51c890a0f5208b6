//! `artifact.json`: both formats, preserved fields, parse errors.

use std::fs;

use bp_artifact::{
    Artifact, Digest, Repository,
    document::DocumentError,
    error::{Classified, ErrorClass},
};

const HEAD: &str = "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d";

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
    let artifact = parse(&format!(r#"{{"commit_sha":"1a2b3c4","source":{{"commit":"{HEAD}"}}}}"#)).unwrap();
    artifact.write(&path).unwrap();
    assert_eq!(Artifact::read(&path).unwrap(), artifact);
    // Windows shells write a byte order mark.
    fs::write(&path, format!("\u{feff}{}", artifact.to_json())).unwrap();
    assert_eq!(Artifact::read(&path).unwrap(), artifact);
}

/// What readers would reject is not written, and the file that exists remains.
#[test]
fn writes_nothing_that_cannot_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("artifact.json");
    let mut artifact =
        parse(&format!(r#"{{"commit_sha":"1a2b3c4","source":{{"commit":"{HEAD}"}}}}"#)).unwrap();
    artifact.write(&path).unwrap();
    artifact.commit = Some("fffffff".parse().unwrap());
    let error = artifact.write(&path).unwrap_err();
    assert!(error.to_string().contains("commit_sha is fffffff, but source.commit is 1a2b3c4"), "{error}");
    assert!(Artifact::default().write(&path).is_err());
    assert_eq!(Artifact::read(&path).unwrap().commit.unwrap().as_str(), "1a2b3c4");
}

/// With the feature `schema`: the committed schemas are the generated ones.
#[cfg(feature = "schema")]
#[test]
fn committed_schemas_match_the_types() {
    for (name, schema) in [
        ("artifact", bp_artifact::artifact::artifact_schema()),
        ("verification", bp_artifact::check::verification_schema()),
    ] {
        let path = format!("{}/../../docs/schema/{name}.schema.json", env!("CARGO_MANIFEST_DIR"));
        let mut expected = serde_json::to_string_pretty(&schema).unwrap();
        expected.push('\n');
        if std::env::var_os("BP_WRITE_SCHEMA").is_some() {
            fs::write(&path, &expected).unwrap();
        }
        // As values: the order of keys depends on the features of other crates.
        let committed: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert!(
            committed == serde_json::from_str::<serde_json::Value>(&expected).unwrap(),
            "update {name}: BP_WRITE_SCHEMA=1 cargo test -p bp-artifact --features schema --test artifact"
        );
    }
}
