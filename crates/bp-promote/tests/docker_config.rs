//! Logins of docker's configuration and of credential helpers, in a process of its own: they are found by variables.
#![cfg(unix)]

mod common;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Stdio};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bp_promote::{Reference, RegistryClient};
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
