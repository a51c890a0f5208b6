//! This build, and the programs that commands run: helm, git, credential helpers of docker.

use std::{
    collections::BTreeSet,
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use bp_artifact::{
    config::{EksObject, EnvironmentConfig, GateCondition},
    process::{Group, own_group},
    text::{single_line, truncate},
};
use bp_promote::registry::DockerConfig;
use serde_json::Value;
use tokio::process::Command;

use super::{
    checks::Doctor,
    row::{Row, State},
};

/// How long a program may take to print its version.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest version that is shown.
const LONGEST: usize = 100;
/// The largest file of logins that is read; usual ones have some kilobytes.
const LARGEST_FILE: u64 = 1 << 20;

/// The row of this build: whether it has the features that `bp.toml` requires.
pub(super) fn build(environments: &[&EnvironmentConfig]) -> Row {
    let services = || environments.iter().flat_map(|environment| environment.services());
    let releases = services().any(has_release);
    let schedules = services().any(|service| service.ecs().is_ok_and(|ecs| ecs.schedules));
    let alarms = environments.iter().flat_map(|environment| environment.gates());
    let alarms = alarms.into_iter().any(|gate| matches!(gate.condition, GateCondition::Alarms { .. }));
    let features = [
        ("helm", cfg!(feature = "helm"), releases, "eks.release"),
        ("schedules", cfg!(feature = "schedules"), schedules, "ecs.schedules"),
        ("alarms", cfg!(feature = "alarms"), alarms, "a gate with alarms"),
        ("logs", cfg!(feature = "logs"), false, ""),
        ("preflight", cfg!(feature = "preflight"), false, ""),
    ];
    let missing: Vec<String> = features
        .iter()
        .filter(|(_, built, needed, _)| *needed && !built)
        .map(|(feature, _, _, key)| format!("{feature} ({key})"))
        .collect();
    if !missing.is_empty() {
        let detail = format!("this build lacks the features that bp.toml requires: {}", missing.join(", "));
        return Row::new("bp", State::Failed, detail).remedy("use a build with them (docs/releases.md)");
    }
    let built: Vec<&str> =
        features.iter().filter(|(_, built, ..)| *built).map(|(feature, ..)| *feature).collect();
    let built = if built.is_empty() { "none".to_owned() } else { built.join(", ") };
    Row::ok("bp", format!("{}, features {built}", env!("CARGO_PKG_VERSION")))
}

fn has_release(service: &bp_artifact::config::ServiceConfig) -> bool {
    service.eks().is_ok_and(|eks| matches!(eks.object, EksObject::Release(_)))
}

impl Doctor {
    pub(super) async fn tools(&self, environments: &[&EnvironmentConfig]) -> Vec<Row> {
        let releases = environments.iter().flat_map(|environment| environment.services()).any(has_release);
        let helm = env::var_os("BP_HELM").filter(|program| !program.is_empty());
        let helm = helm.unwrap_or_else(|| "helm".into());
        let (helm, git) = tokio::join!(
            program("helm", &helm, &["version", "--short"], releases.then_some("eks.release")),
            program("git", OsStr::new("git"), &["--version"], None),
        );
        let path = env::var_os("PATH").unwrap_or_default();
        let mut rows = vec![helm, git];
        for file in DockerConfig::files() {
            rows.extend(helpers(file.path()).into_iter().map(|name| helper(&name, &path)));
        }
        rows.dedup();
        rows
    }
}

/// The version of a program; `needed_by` is the setting that requires it.
async fn program(name: &str, path: &OsStr, arguments: &[&str], needed_by: Option<&str>) -> Row {
    let mut command = Command::new(path);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let run = async {
        let child = own_group(&mut command).spawn()?;
        let group = Group::of(&child);
        let output = child.wait_with_output().await?;
        group.ended();
        Ok::<_, std::io::Error>(output)
    };
    let state = if needed_by.is_some() { State::Failed } else { State::Warning };
    let remedy = format!("install {name}, or correct PATH");
    match tokio::time::timeout(PATIENCE, run).await {
        Ok(Ok(output)) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout);
            let version = single_line(text.lines().next().unwrap_or_default());
            Row::ok(name, truncate(version.trim(), LONGEST))
        }
        Ok(Ok(output)) => {
            Row::new(name, state, format!("it cannot print its version: {}", output.status)).remedy(remedy)
        }
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => match needed_by {
            Some(setting) => {
                Row::new(name, State::Failed, format!("not installed, and {setting} requires it"))
                    .remedy(remedy)
            }
            None => Row::ok(name, "not installed, and not needed by this bp.toml"),
        },
        Ok(Err(error)) => Row::new(name, state, format!("cannot be run: {error}")).remedy(remedy),
        Err(_) => Row::new(name, State::Unknown, "it did not print its version").remedy(remedy),
    }
}

/// The credential helpers that a file of logins refers to.
fn helpers(file: &Path) -> BTreeSet<String> {
    let is_small = std::fs::metadata(file).is_ok_and(|found| found.is_file() && found.len() <= LARGEST_FILE);
    let text = if is_small { std::fs::read_to_string(file).unwrap_or_default() } else { String::new() };
    let document: Value = serde_json::from_str(&text).unwrap_or_default();
    let stored = document["credsStore"].as_str();
    let own = document["credHelpers"].as_object().into_iter().flatten().filter_map(|(_, name)| name.as_str());
    stored.into_iter().chain(own).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Whether a credential helper is installed. It is not run: it could ask for a password.
fn helper(name: &str, path: &OsStr) -> Row {
    let program = format!("docker-credential-{}", truncate(name, LONGEST));
    let check = format!("credential helper {}", single_line(&truncate(name, LONGEST)));
    let found: Option<PathBuf> =
        env::split_paths(path).map(|directory| directory.join(&program)).find(|file| file.is_file());
    match found {
        Some(file) => Row::ok(check, file.display().to_string()),
        None => Row::new(check, State::Warning, format!("{program} is not in PATH")).remedy(
            "install it, or remove it from the docker configuration: logins that it stores cannot be read",
        ),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn script(directory: &Path, name: &str, text: &str) -> PathBuf {
        let path = directory.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[tokio::test]
    async fn a_missing_program_fails_only_if_a_setting_requires_it() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("helm");
        let row = async |path: &Path, needed| program("helm", path.as_os_str(), &["version"], needed).await;
        assert_eq!(row(&missing, None).await.state, State::Ok);
        let failed = row(&missing, Some("eks.release")).await;
        assert!(failed.state == State::Failed && failed.detail.contains("eks.release"), "{failed:?}");
        let hostile = script(directory.path(), "hostile", "printf 'v4.0.0\\033[2J\\n::error::x\\n'");
        assert_eq!(row(&hostile, Some("eks.release")).await.detail, "v4.0.0");
        let broken = script(directory.path(), "broken", "exit 3");
        assert_eq!(row(&broken, Some("eks.release")).await.state, State::Failed);
        assert_eq!(row(&broken, None).await.state, State::Warning);
    }

    #[test]
    fn credential_helpers_of_the_docker_configuration_must_be_in_path() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.json");
        let text =
            r#"{ "credsStore": "osxkeychain", "credHelpers": { "a.example.com": "ecr-login", "b": 7 } }"#;
        std::fs::write(&config, text).unwrap();
        let names = helpers(&config);
        assert_eq!(names.iter().map(String::as_str).collect::<Vec<_>>(), ["ecr-login", "osxkeychain"]);
        script(directory.path(), "docker-credential-ecr-login", "exit 1");
        let state = |name: &str| helper(name, directory.path().as_os_str()).state;
        assert_eq!((state("ecr-login"), state("osxkeychain")), (State::Ok, State::Warning));
        assert!(helpers(&directory.path().join("none")).is_empty());
        std::fs::write(&config, "[").unwrap();
        assert!(helpers(&config).is_empty());
    }
}
