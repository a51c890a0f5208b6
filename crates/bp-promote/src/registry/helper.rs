//! Docker credential helpers: programs that return the login for a registry.
//!
//! <https://github.com/docker/docker-credential-helpers>

use std::{io, process::Stdio, time::Duration};

use secrecy::{ExposeSecret as _, SecretSlice};
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
};

use super::login::Login;

/// Some helpers call a service, or wait for the user to unlock a key store.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The maximum output in bytes; logins are much shorter.
const MAX_OUTPUT: u64 = 1 << 20;

/// Runs the helper `docker-credential-<name>` for `server`. Returns `None` if it has no login.
///
/// # Errors
/// The reason, without the output of the helper, which may contain a secret.
///
/// # Cancel safety
/// The helper is killed.
pub(super) async fn ask(name: &str, server: &str) -> Result<Option<Login>, String> {
    let program = format!("docker-credential-{name}");
    match tokio::time::timeout(TIMEOUT, run(&program, server)).await {
        Ok(Ok((true, output))) => match login(output.expose_secret()) {
            Some(login) => Ok(Some(login)),
            None => Err(format!("the credential helper {program} returned invalid output")),
        },
        // Every helper prints this if it has no login for the registry.
        Ok(Ok((false, output))) if says(output.expose_secret(), "credentials not found") => Ok(None),
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
async fn run(program: &str, server: &str) -> io::Result<(bool, SecretSlice<u8>)> {
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let write = async {
        if let Some(mut stdin) = stdin
            && let Err(error) = stdin.write_all(server.as_bytes()).await
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
    Ok((child.wait().await?.success(), output))
}

fn login(output: &[u8]) -> Option<Login> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let Answer { username, secret } = serde_json::from_slice(output).ok()?;
    Some(match username.as_str() {
        "<token>" => Login::identity_token(secret),
        _ => Login::password(username, secret),
    })
}

fn says(output: &[u8], text: &str) -> bool {
    String::from_utf8_lossy(output).contains(text)
}
