//! Docker's credential helpers: programs that are asked for the login to a registry.
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

/// Some helpers call a service, or wait for a person who unlocks a key store.
const PATIENCE: Duration = Duration::from_secs(60);

/// The largest answer that is read; no login is as long.
const MOST: u64 = 1 << 20;

/// Asks the helper `docker-credential-<name>` for the login for `server`. `None` when it has none.
///
/// # Errors
/// With what is wrong, without what the helper printed, which may hold a secret.
///
/// # Cancel safety
/// The helper is killed.
pub(super) async fn ask(name: &str, server: &str) -> Result<Option<Login>, String> {
    let program = format!("docker-credential-{name}");
    match tokio::time::timeout(PATIENCE, run(&program, server)).await {
        Ok(Ok((true, output))) => match login(output.expose_secret()) {
            Some(login) => Ok(Some(login)),
            None => Err(format!("the credential helper {program} returned an answer that cannot be read")),
        },
        // What every helper prints when it has no login for the registry.
        Ok(Ok((false, output))) if says(output.expose_secret(), "credentials not found") => Ok(None),
        Ok(Ok((false, _))) => Err(format!("the credential helper {program} failed")),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            Err(format!("the credential helper {program} is not installed, or not in PATH"))
        }
        Ok(Err(error)) => Err(format!("the credential helper {program} could not be run: {error}")),
        Err(_) => {
            Err(format!("the credential helper {program} did not answer within {} s", PATIENCE.as_secs()))
        }
    }
}

/// Whether it succeeded, and what it wrote.
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
            // A helper with a single login need not read which registry is asked for.
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            return Err(error);
        }
        Ok(())
    };
    let read = async {
        let mut output = Vec::new();
        if let Some(stdout) = stdout {
            stdout.take(MOST + 1).read_to_end(&mut output).await?;
        }
        Ok(SecretSlice::from(output))
    };
    let ((), output) = tokio::try_join!(write, read)?;
    if output.expose_secret().len() as u64 > MOST {
        return Err(io::Error::other(format!("it writes more than {MOST} bytes")));
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

fn says(output: &[u8], words: &str) -> bool {
    String::from_utf8_lossy(output).contains(words)
}
