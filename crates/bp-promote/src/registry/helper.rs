//! Docker credential helpers: programs that store the logins for registries.
//!
//! <https://github.com/docker/docker-credential-helpers>

use std::{io, process::Stdio, time::Duration};

use bp_artifact::{
    process::{Group, own_group},
    text::truncate,
};
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
};

use super::login::Login;

/// Some helpers call a service, or wait for the user to unlock a key store.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The maximum output in bytes; logins are much shorter.
const MAX_OUTPUT: u64 = 1 << 20;

/// Asks the helper `docker-credential-<name>` for the login for `server`. Returns `None` if it has none.
///
/// # Errors
/// The reason, without the output of the helper, which may contain a secret.
///
/// # Cancel safety
/// The helper is killed.
pub(super) async fn ask(name: &str, server: &str) -> Result<Option<Login>, String> {
    match run(name, "get", server.as_bytes()).await? {
        Some(output) => login(output.expose_secret())
            .ok_or_else(|| format!("the credential helper {} returned invalid output", program(name))),
        None => Ok(None),
    }
}

/// Stores a login in a helper.
///
/// # Errors
/// As [`ask`].
///
/// # Cancel safety
/// The helper is killed; the login may be stored.
pub(super) async fn store(
    name: &str,
    server: &str,
    user: &str,
    password: &SecretString,
) -> Result<(), String> {
    let login = json!({ "ServerURL": server, "Username": user, "Secret": password.expose_secret() });
    let login = SecretString::from(login.to_string());
    match run(name, "store", login.expose_secret().as_bytes()).await? {
        Some(_) => Ok(()),
        None => Err(format!("the credential helper {} failed", program(name))),
    }
}

/// Removes a login from a helper; returns whether there was one.
///
/// # Errors
/// As [`ask`].
///
/// # Cancel safety
/// The helper is killed; the login may be removed.
pub(super) async fn erase(name: &str, server: &str) -> Result<bool, String> {
    Ok(run(name, "erase", server.as_bytes()).await?.is_some())
}

/// The program of a helper. Its name is part of a file that may be read by mistake.
fn program(name: &str) -> String {
    format!("docker-credential-{}", truncate(name, 100))
}

/// Runs a command of a helper and returns its output; `None` if the helper has no login.
async fn run(name: &str, command: &str, input: &[u8]) -> Result<Option<SecretSlice<u8>>, String> {
    let program = program(name);
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.chars().all(is_name) {
        return Err(format!("{program:?} is not a valid name of a credential helper"));
    }
    match tokio::time::timeout(TIMEOUT, exchange(&program, command, input)).await {
        Ok(Ok((true, output))) => Ok(Some(output)),
        Ok(Ok((false, output))) if has_no_login(output.expose_secret()) => Ok(None),
        Ok(Ok((false, _))) => Err(format!("the credential helper {program} failed")),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            Err(format!("the credential helper {program} is not installed or not in PATH"))
        }
        Ok(Err(error)) => Err(format!("the credential helper {program} could not be run: {error}")),
        Err(_) => {
            Err(format!("the credential helper {program} did not answer within {} s", TIMEOUT.as_secs()))
        }
    }
}

/// Runs the helper; returns whether it succeeded, and its output.
async fn exchange(program: &str, command: &str, input: &[u8]) -> io::Result<(bool, SecretSlice<u8>)> {
    let mut helper = Command::new(program);
    helper.arg(command).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = own_group(&mut helper).spawn()?;
    let group = Group::of(&child);
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let write = async {
        if let Some(mut stdin) = stdin
            && let Err(error) = stdin.write_all(input).await
            // A helper with a single login may exit without reading the server name.
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            return Err(error);
        }
        Ok(())
    };
    let read = async {
        let mut output = Vec::new();
        if let Some(stdout) = stdout {
            stdout.take(MAX_OUTPUT + 1).read_to_end(&mut output).await?;
        }
        Ok(SecretSlice::from(output))
    };
    let ((), output) = tokio::try_join!(write, read)?;
    if output.expose_secret().len() as u64 > MAX_OUTPUT {
        return Err(io::Error::other(format!("its output exceeds {MAX_OUTPUT} bytes")));
    }
    let ended = child.wait().await?;
    group.ended();
    Ok((ended.success(), output))
}

/// The login in the output of a helper. Some helpers return empty fields instead of an error if they have none.
fn login(output: &[u8]) -> Option<Option<Login>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let Answer { username, secret } = serde_json::from_slice(output).ok()?;
    Some(match username.as_str() {
        _ if secret.is_empty() => None,
        "<token>" => Some(Login::identity_token(secret)),
        _ => Some(Login::password(username, secret)),
    })
}

/// Whether a helper that has failed reports that it has no login: there are several texts for it.
fn has_no_login(output: &[u8]) -> bool {
    let output = String::from_utf8_lossy(output).to_ascii_lowercase();
    ["credentials not found", "no stored credential", "no credentials found", "not logged in"]
        .iter()
        .any(|text| output.contains(text))
}
