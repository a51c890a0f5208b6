//! Run a command with secrets in its environment. The values are in that environment and nowhere else.

use std::{ffi::OsString, path::PathBuf, process::Command};

use bp_artifact::ExitCode;
use bp_secrets::{
    Reference, Store as _,
    projection::{Bindings, env},
};

use crate::{
    Failure, Ui,
    cli::{EnvironmentArgs, ServiceArg},
    program::Verb,
    secrets,
};

/// Run a command with an environment's secrets as environment variables; the values are not printed
///
/// The command replaces this program: it gets all signals, the terminal and the standard streams, and its exit code is the
/// exit code. It is 125 if the command was not started, and 2 for wrong arguments. Variables of the caller are kept, except
/// those that a secret sets.
///
/// Example: with-secrets --env prod --references shop.env -- ./manage migrate
#[derive(Debug, clap::Args)]
pub struct WithSecrets {
    #[command(flatten)]
    environment: EnvironmentArgs,
    #[command(flatten)]
    service: ServiceArg,
    /// File of NAME=reference lines; defaults to ecs.secrets of the service
    #[arg(long, value_name = "FILE")]
    references: Option<PathBuf>,
    /// Command and its arguments
    #[arg(last = true, required = true, num_args = 1.., value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Verb for WithSecrets {
    const NAME: &'static str = "with-secrets";

    async fn run(self, _: Ui) -> Result<ExitCode, Failure> {
        self.start().await.map_err(|failure| failure.with_exit_code(ExitCode::RunFailed))
    }
}

impl WithSecrets {
    async fn start(self) -> Result<ExitCode, Failure> {
        let Some((program, arguments)) = self.command.split_first() else {
            return Err(Failure::bad_input("there is no command"));
        };
        let delivery = self.environment.open(&self.service).await?;
        let bindings = match &self.references {
            Some(path) => secrets::of_file(path)?,
            None => of_config(&delivery.service.ecs()?.secrets)?,
        };
        if bindings.is_empty() {
            return Err(Failure::bad_input("there are no secrets: give --references, or set ecs.secrets"));
        }
        // Before a value is read.
        env::print(&bindings).map_err(|error| secrets::bad_input(&error))?;
        let references = bindings.references();
        let fetched = delivery.clients.secrets(&references).fetch(&references).await;
        let mut command = Command::new(program);
        command.args(arguments);
        for (binding, fetched) in bindings.iter().zip(fetched) {
            let fetched = fetched.map_err(|error| Failure::from(error).context(&binding.name))?;
            let bytes = fetched.value().expose_bytes();
            let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
            let text = text.ok_or_else(|| {
                Failure::bad_input(format!(
                    "{}: the value is binary or contains NUL, which no environment variable can",
                    binding.name
                ))
            })?;
            command.env(&binding.name, text);
        }
        let error = become_it(command).await?;
        let name = bp_artifact::text::single_line(&program.to_string_lossy());
        Err(Failure::bad_input(format!("cannot run {name}: {error}")))
    }
}

/// The references of `ecs.secrets`.
fn of_config(configured: &std::collections::BTreeMap<String, String>) -> Result<Bindings, Failure> {
    let parse = |(name, text): (&String, &String)| {
        let reference = Reference::from_value_from(text);
        reference
            .map(|reference| (name.clone(), reference))
            .map_err(|error| Failure::bad_input(format!("ecs.secrets.{name}: {error}")))
    };
    let all = configured.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    Bindings::new(all).map_err(|error| secrets::bad_input(&error))
}

/// Replaces this process by the command. Returns only if that fails.
#[cfg(unix)]
#[allow(clippy::unused_async, reason = "elsewhere the command is waited for")]
async fn become_it(mut command: Command) -> Result<std::io::Error, Failure> {
    use std::os::unix::process::CommandExt as _;
    Ok(command.exec())
}

/// Runs the command and ends with its exit code: a process cannot be replaced here.
#[cfg(not(unix))]
async fn become_it(command: Command) -> Result<std::io::Error, Failure> {
    match tokio::process::Command::from(command).kill_on_drop(true).status().await {
        Ok(status) => std::process::exit(status.code().unwrap_or(i32::from(ExitCode::RunFailed.code()))),
        Err(error) => Ok(error),
    }
}
