//! Files of `bp-artifact`, and the texts of flags.

use std::{fmt::Debug, str::FromStr};

use bp_artifact::{
    Artifact, CommitSha, Config, Platform, Repository,
    artifact::{ArtifactImage, without_credentials},
    deploy::Receipt,
    recording::{Recorder, Recording},
    select::TagSelector,
    text::{self, Clean},
    time::parse_duration,
};

use super::replay::Target;

/// The targets of this file.
pub const TARGETS: &[Target] = &[
    ("artifact", artifact),
    ("buildx", buildx),
    ("config", config),
    ("receipt", receipt),
    ("recording", recording),
    ("flags", flags),
    ("printed", printed),
];

fn located(error: &dyn std::error::Error) {
    let message = error.to_string();
    assert!(message.starts_with("file:") && !message.contains('\n'), "{message}");
}

/// `artifact.json`: what is read is written so that it reads as the same value, without credentials.
pub fn artifact(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Artifact::parse(text, "file") {
        Err(error) => located(&error),
        Ok(artifact) => {
            let written = artifact.to_json();
            let again = Artifact::parse(&written, "file").expect("it reads what it wrote");
            assert_eq!(again.to_json(), written);
            let _ = (artifact.image_ref(None), artifact.resolved(), artifact.image_detail());
            let _ = artifact.image_in(&repository());
        }
    }
}

fn repository() -> Repository {
    "registry.example.com/shop/web".parse().expect("a repository")
}

/// The metadata file of buildx.
pub fn buildx(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for target in [None, Some("web")] {
        for wanted in [None, Some(&repository())] {
            match ArtifactImage::from_buildx(text, "file", target, wanted) {
                Ok(image) => {
                    assert!(image.digest.is_some() && wanted.is_none_or(|wanted| image.repository == *wanted))
                }
                Err(error) => assert!(error.to_string().starts_with("file"), "{error}"),
            }
        }
    }
}

/// `bp.toml`: every error has a location, and every environment can be read.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Config::parse(text, "file") {
        Err(error) => located(&error),
        Ok(config) => {
            for environment in config.environments() {
                let _ = config.next(&environment.name);
                for service in environment.services() {
                    let _ = (service.ecs(), service.eks());
                }
            }
        }
    }
}

/// A receipt: what is read is written so that it reads as the same value.
pub fn receipt(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Receipt::parse(text, "file") {
        Err(error) => assert!(error.to_string().starts_with("file"), "{error}"),
        Ok(receipt) => {
            let written = serde_json::to_string(&receipt).expect("JSON");
            let again = Receipt::parse(&written, "file").expect("it reads what it wrote");
            assert_eq!(serde_json::to_string(&again).expect("JSON"), written);
            let _ = (receipt.is_changed(), receipt.rollback_verdict());
        }
    }
}

/// A recording, and the responses that become one: redacting twice changes nothing.
pub fn recording(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(error) = Recording::parse(text, "file") {
        assert!(error.to_string().starts_with("file"), "{error}");
    }
    let Ok(response) = serde_json::from_str(text) else { return };
    let mut recorder = Recorder::default();
    recorder.note("service", response);
    let recorded = recorder.finish("ecs-service", jiff::Timestamp::UNIX_EPOCH);
    let written = serde_json::to_string(&recorded).expect("JSON");
    Recording::parse(&written, "file").expect("it reads what it wrote");
}

/// The texts of flags and of `bp.toml`.
pub fn flags(bytes: &[u8]) {
    fn same<T: FromStr + ToString + PartialEq + Debug>(text: &str) {
        let Ok(read) = text.parse::<T>() else { return };
        let again = read.to_string().parse::<T>().ok().expect("the displayed form parses");
        assert_eq!(again, read);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    same::<TagSelector>(text);
    same::<CommitSha>(text);
    same::<Platform>(text);
    if let Ok(duration) = parse_duration(text) {
        assert!(!duration.is_zero());
    }
    let clean = without_credentials(text);
    if let Some(clean) = &clean {
        assert!(
            !clean.contains(['?', '#', '@']) && without_credentials(clean).as_ref() == Some(clean),
            "{clean}"
        );
    }
    if let Ok(TagSelector::Semver(range)) = format!("semver:{text}").parse() {
        let _ = range.matches(&"1.2.3-rc.1".parse().expect("a version"));
    }
}

/// Text for terminals and CI logs.
pub fn printed(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for clean in [text::printable(&text), Clean::entry(&text).into(), text::single_line(&text)] {
        assert!(!clean.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{clean:?}");
        assert!(!clean.lines().any(|line| line.trim_start().starts_with("::")), "{clean:?}");
        assert!(!clean.contains("##["), "{clean:?}");
        assert_eq!(text::printable(&clean), clean);
    }
    let value = serde_json::Value::from(text.as_ref());
    let json = text::json(&value.to_string());
    assert!(!json.contains(char::is_control) && !json.contains("##["), "{json}");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).expect("JSON"), value);
}
