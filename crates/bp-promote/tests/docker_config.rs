//! Tests of logins from docker's configuration and credential helpers, in separate processes with their own
//! environment.
#![cfg(unix)]

mod common;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Stdio};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bp_promote::{RegistryClient, content::Reference};
use bp_sandbox::{
    Sandbox,
    registry::{Auth, RegistryOptions},
};
use common::*;

/// Environment variable of the other process: the registry to read from.
const REGISTRY: &str = "BP_TEST_REGISTRY";

/// A credential helper like docker's: reads the registry from standard input, prints the login or an error.
const HELPER: &str = r#"#!/bin/sh
read registry
case "$registry" in
    127.0.0.1:*) echo '{"Username":"ci","Secret":"s3cret"}' ;;
    *) echo 'credentials not found in native keychain'; exit 1 ;;
esac
"#;

const NO_LOGIN: &str = "#!/bin/sh\necho 'credentials not found in native keychain'\nexit 1\n";

/// Environment variable of the other process: strings that the error must contain, separated by `|`.
const EXPECTED: &str = "BP_TEST_EXPECTED";

async fn read(registry: &str) {
    let client = RegistryClient::builder().build().unwrap();
    let repository = client.repository(&format!("{registry}/shop/web").parse().unwrap());
    repository.manifest(&Reference::Tag("v1".parse().unwrap())).await.unwrap();
}

/// Runs this test in another process with this configuration; returns whether it could read the image.
async fn reads(registry: &str, directory: &Path, config: &str) -> bool {
    fs::write(directory.join("config.json"), config).unwrap();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "uses_logins_of_docker_config_and_credential_helpers"]);
    child.env_clear().env(REGISTRY, registry).env("DOCKER_CONFIG", directory);
    child.env("PATH", format!("{}:/usr/bin:/bin", directory.display()));
    child.stdout(Stdio::null()).stderr(Stdio::null());
    tokio::task::spawn_blocking(move || child.status().unwrap().success()).await.unwrap()
}

#[tokio::test]
async fn uses_logins_of_docker_config_and_credential_helpers() {
    if let Ok(registry) = std::env::var(REGISTRY) {
        return read(&registry).await;
    }
    let options = RegistryOptions::default().auth(Auth::basic("ci", "s3cret"));
    let sandbox = Sandbox::builder().registry(SRC, options).build();
    sandbox.registry(SRC).push(&single(), "shop/web", "v1");
    let served = sandbox.serve().await.unwrap();
    let registry = served.address(SRC).unwrap().to_string();

    let directory = tempfile::tempdir().unwrap();
    for (name, script) in [("test", HELPER), ("empty", NO_LOGIN)] {
        let helper = directory.path().join(format!("docker-credential-{name}"));
        fs::write(&helper, script).unwrap();
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let login = |password: &str| BASE64_STANDARD.encode(format!("ci:{password}"));
    let auths = |password| format!(r#"{{"auths":{{"{registry}":{{"auth":"{}"}}}}}}"#, login(password));
    for (config, succeeds) in [
        (auths("s3cret"), true),
        (auths("wrong"), false),
        (format!(r#"{{"credHelpers":{{"{registry}":"test"}}}}"#), true),
        (r#"{"credsStore":"test"}"#.to_owned(), true),
        // No login for this registry: it is accessed anonymously.
        (r#"{"credsStore":"empty"}"#.to_owned(), false),
        ("{}".to_owned(), false),
    ] {
        assert_eq!(reads(&registry, directory.path(), &config).await, succeeds, "{config}");
    }
}

/// The error with all causes from an in-memory registry that requires a login.
async fn refused() -> String {
    let options = RegistryOptions::default().auth(Auth::basic("ci", "s3cret"));
    let sandbox = Sandbox::builder().registry(SRC, options).build();
    let transport = bp_promote::registry::transport(sandbox.transport());
    let client = RegistryClient::builder().transport(transport).build().unwrap();
    let repository = client.repository(&format!("{SRC}/shop/web").parse().unwrap());
    let error = repository.manifest(&Reference::Tag("v1".parse().unwrap())).await.unwrap_err();
    format!("{error}: {}", std::error::Error::source(&error).unwrap())
}

#[test]
fn reports_failing_credential_helpers_and_kills_hanging_ones() {
    let tokio = |paused| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(paused).build().unwrap()
    };
    if let Ok(expected) = std::env::var(EXPECTED) {
        // The paused clock skips the minute of a helper that hangs; the others need real time.
        let error = tokio(expected.contains("60 s")).block_on(refused());
        for part in expected.split('|') {
            assert!(error.contains(part), "{error}");
        }
        return assert!(!error.contains("s3cret"), "{error}");
    }
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config.json");
    let pid = directory.path().join("pid");
    // It is killed with the processes that it has started.
    let hang = format!("sleep 3600 & echo $! >{}; wait", pid.display());
    for (script, text, expected) in [
        (hang.as_str(), r#"{"credsStore":"test"}"#, "docker-credential-test|60 s"),
        (&hang, r#"{"credHelpers":{"dev.example.com":"test"}}"#, "docker-credential-test|60 s"),
        ("exec yes s3cret", r#"{"credsStore":"test"}"#, "docker-credential-test|1048576 bytes"),
        ("echo s3cret", r#"{"credsStore":"test"}"#, "docker-credential-test|invalid output"),
        ("echo s3cret; exit 3", r#"{"credsStore":"test"}"#, "docker-credential-test|failed"),
        ("", r#"{"credsStore":"absent"}"#, "docker-credential-absent|not installed"),
        ("", "{", "invalid configuration"),
        ("", "[]", "invalid configuration"),
        ("", r#"{"auths":5}"#, "invalid configuration"),
    ] {
        fs::write(&config, text).unwrap();
        let helper = directory.path().join("docker-credential-test");
        fs::write(&helper, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "reports_failing_credential_helpers_and_kills_hanging_ones"]);
        child
            .env_clear()
            .env(EXPECTED, format!("{}|{expected}", config.display()))
            .env("DOCKER_CONFIG", directory.path());
        child.env("PATH", format!("{}:/usr/bin:/bin", directory.path().display()));
        let output = child.output().unwrap();
        assert!(output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stdout));
        // It is empty if the helper was killed while it wrote the file.
        let id = fs::read_to_string(&pid).unwrap_or_default();
        if !id.trim().is_empty() {
            // The command line of a zombie process is empty.
            let command = format!("/proc/{}/cmdline", id.trim());
            let is_gone = || fs::read(&command).unwrap_or_default().is_empty();
            let until_gone = async {
                while !is_gone() {
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
            };
            let limit = std::time::Duration::from_secs(10);
            let gone = tokio(false).block_on(async { tokio::time::timeout(limit, until_gone).await });
            assert!(gone.is_ok(), "the helper is killed");
        }
        let _ = fs::remove_file(&pid);
    }
}
