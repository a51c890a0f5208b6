//! Logins of docker's configuration and of credential helpers, in a process of its own: they are found by variables.
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

/// Set in the other process: the registry to read from.
const ASKED: &str = "BP_TEST_REGISTRY";

/// A helper as docker's are: the registry on standard input, the login or the excuse on standard output.
const HELPER: &str = r#"#!/bin/sh
read registry
case "$registry" in
    127.0.0.1:*) echo '{"Username":"ci","Secret":"s3cret"}' ;;
    *) echo 'credentials not found in native keychain'; exit 1 ;;
esac
"#;

const EXCUSE: &str = "#!/bin/sh\necho 'credentials not found in native keychain'\nexit 1\n";

/// Set in the other process: what the error must say, one after the other.
const WORDS: &str = "BP_TEST_WORDS";

async fn read(registry: &str) {
    let client = RegistryClient::builder().build().unwrap();
    let repository = client.repository(&format!("{registry}/shop/web").parse().unwrap());
    repository.manifest(&Reference::Tag("v1".parse().unwrap())).await.unwrap();
}

/// Runs this test in a process of its own, with this configuration. Whether it could read the image.
async fn reads(registry: &str, directory: &Path, config: &str) -> bool {
    fs::write(directory.join("config.json"), config).unwrap();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "dockers_configuration_and_helpers_give_the_login"]);
    child.env_clear().env(ASKED, registry).env("DOCKER_CONFIG", directory);
    child.env("PATH", format!("{}:/usr/bin:/bin", directory.display()));
    child.stdout(Stdio::null()).stderr(Stdio::null());
    tokio::task::spawn_blocking(move || child.status().unwrap().success()).await.unwrap()
}

#[tokio::test]
async fn dockers_configuration_and_helpers_give_the_login() {
    if let Ok(registry) = std::env::var(ASKED) {
        return read(&registry).await;
    }
    let options = RegistryOptions::default().auth(Auth::basic("ci", "s3cret"));
    let sandbox = Sandbox::builder().registry(SRC, options).build();
    sandbox.registry(SRC).push(&single(), "shop/web", "v1");
    let served = sandbox.serve().await.unwrap();
    let registry = served.address(SRC).unwrap().to_string();

    let directory = tempfile::tempdir().unwrap();
    for (name, script) in [("test", HELPER), ("empty", EXCUSE)] {
        let helper = directory.path().join(format!("docker-credential-{name}"));
        fs::write(&helper, script).unwrap();
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let login = |password: &str| BASE64_STANDARD.encode(format!("ci:{password}"));
    let auths = |password| format!(r#"{{"auths":{{"{registry}":{{"auth":"{}"}}}}}}"#, login(password));
    for (config, is_let_in) in [
        (auths("s3cret"), true),
        (auths("wrong"), false),
        (format!(r#"{{"credHelpers":{{"{registry}":"test"}}}}"#), true),
        (r#"{"credsStore":"test"}"#.to_owned(), true),
        // Nobody knows this registry: it is asked without a name.
        (r#"{"credsStore":"empty"}"#.to_owned(), false),
        ("{}".to_owned(), false),
    ] {
        assert_eq!(reads(&registry, directory.path(), &config).await, is_let_in, "{config}");
    }
}

/// Asks a registry in memory that wants a login. What went wrong, with all causes.
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
fn a_helper_that_gives_no_login_is_named_with_its_configuration_and_killed() {
    let tokio = |paused| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(paused).build().unwrap()
    };
    if let Ok(words) = std::env::var(WORDS) {
        // The minute of a helper that never answers passes at once; the others answer.
        let error = tokio(words.contains("60 s")).block_on(refused());
        for word in words.split('|') {
            assert!(error.contains(word), "{error}");
        }
        return assert!(!error.contains("s3cret"), "{error}");
    }
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config.json");
    let pid = directory.path().join("pid");
    let hang = format!("echo $$ >{}; exec sleep 3600", pid.display());
    for (script, text, words) in [
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
        child.args(["--exact", "a_helper_that_gives_no_login_is_named_with_its_configuration_and_killed"]);
        child
            .env_clear()
            .env(WORDS, format!("{}|{words}", config.display()))
            .env("DOCKER_CONFIG", directory.path());
        child.env("PATH", format!("{}:/usr/bin:/bin", directory.path().display()));
        let output = child.output().unwrap();
        assert!(output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stdout));
        if let Ok(id) = fs::read_to_string(&pid) {
            // Of a process that has ended, and that nobody has waited for, the command is empty.
            let command = format!("/proc/{}/cmdline", id.trim());
            let is_gone = || fs::read(&command).unwrap_or_default().is_empty();
            let until_gone = async {
                while !is_gone() {
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
            };
            let patience = std::time::Duration::from_secs(10);
            let gone = tokio(false).block_on(async { tokio::time::timeout(patience, until_gone).await });
            assert!(gone.is_ok(), "the helper is killed");
            fs::remove_file(&pid).unwrap();
        }
    }
}
