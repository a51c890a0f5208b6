//! Store and remove logins to registries, where docker and podman find them.

use std::io::{IsTerminal as _, Read as _};

use bp_artifact::{ExitCode, Registry};
use bp_promote::registry::{AuthFile, DockerConfig, Login, LoginStore, Logins};
use serde_json::json;

use crate::{
    Failure, RegistryOptions, Ui,
    cli::{AuthfileArgs, ConnectionArgs},
    program::Verb,
};

/// Check a login to a registry and store it in the configured credential helper, or in the file of logins
#[derive(Debug, clap::Args)]
pub struct LogIn {
    /// Host name of the registry, with its port if it has one
    #[arg(value_name = "REGISTRY")]
    registry: Registry,
    /// User name
    #[arg(long, short, value_name = "NAME")]
    username: String,
    /// Read the password from standard input: passwords are accepted only there
    #[arg(long, required = true)]
    password_stdin: bool,
    #[command(flatten)]
    authfile: AuthfileArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Remove the login to a registry from the credential helper and the file of logins
#[derive(Debug, clap::Args)]
pub struct LogOut {
    /// Host name of the registry, with its port if it has one
    #[arg(value_name = "REGISTRY")]
    registry: Registry,
    #[command(flatten)]
    authfile: AuthfileArgs,
}

/// The file that a login is stored in.
fn file(authfile: &AuthfileArgs) -> Result<AuthFile, Failure> {
    match &authfile.authfile {
        Some(path) => Ok(AuthFile::at(path)),
        None => DockerConfig::file_for_login().ok_or_else(|| {
            Failure::bad_input(
                "there is no file for logins: set --authfile, REGISTRY_AUTH_FILE, DOCKER_CONFIG or HOME",
            )
        }),
    }
}

/// The longest password in bytes. Tokens of cloud providers have some thousands.
const MAX_PASSWORD: u64 = 64 << 10;

/// Reads the password from standard input, without the end of its line.
fn password() -> Result<String, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(Failure::bad_input(
            "standard input is a terminal, which would show the password: pass it through a pipe or from a file",
        ));
    }
    let mut text = String::new();
    let read = stdin.lock().take(MAX_PASSWORD + 1).read_to_string(&mut text);
    read.map_err(|error| {
        Failure::bad_input(format!("cannot read the password from standard input: {error}"))
    })?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    let password = password.strip_suffix('\r').unwrap_or(password);
    if password.is_empty() || text.len() as u64 > MAX_PASSWORD || password.contains(['\n', '\r', '\0']) {
        return Err(Failure::bad_input(format!(
            "the password on standard input is not one line of 1 to {MAX_PASSWORD} bytes"
        )));
    }
    Ok(password.to_owned())
}

impl Verb for LogIn {
    const NAME: &'static str = "login";
    const HELP: crate::help::Help = crate::help::verbs::LOG_IN;

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        if self.username.is_empty() || self.username.contains(':') {
            return Err(Failure::bad_input("--username is empty or contains a colon"));
        }
        let file = file(&self.authfile)?;
        let password = password()?;
        let login = Login::password(&self.username, password.as_str());
        let options = RegistryOptions {
            logins: Logins::new().with(self.registry.clone(), login),
            ..self.connection.options()?
        };
        let checked = options.client(&[]).await?.check_login(&self.registry).await?;
        if !checked {
            ui.say(format!("{} requires no login at /v2/: the login could not be checked", self.registry));
        }
        let stored = file.store(&self.registry, &self.username, &password.into()).await?;
        let how = match &stored {
            LoginStore::File(_) => "unencrypted, in",
            _ => "in",
        };
        let value = json!({ "registry": self.registry, "checked": checked, "storedIn": stored.to_string() });
        ui.result(format!("logged in to {}: stored {how} {stored}", self.registry), &value);
        Ok(ExitCode::Done)
    }
}

impl Verb for LogOut {
    const NAME: &'static str = "logout";
    const HELP: crate::help::Help = crate::help::verbs::LOG_OUT;

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        let file = file(&self.authfile)?;
        let erased = file.erase(&self.registry).await?;
        let stores: Vec<String> = erased.iter().map(ToString::to_string).collect();
        let text = if stores.is_empty() {
            format!("there was no login to {} in {}", self.registry, file.path().display())
        } else {
            format!("logged out of {}: removed from {}", self.registry, stores.join(" and "))
        };
        ui.result(text, &json!({ "registry": self.registry, "removedFrom": stores }));
        Ok(ExitCode::Done)
    }
}
