//! Arguments that several binaries take. Flags win over environment variables, and those over `bp.toml`.

use std::{path::PathBuf, time::Duration};

use bp_artifact::{Config, ConfigError, ConfigLoader, time::parse_duration};
use clap::{ArgMatches, Args, Command, Error, FromArgMatches, ValueEnum, parser::ValueSource};

use crate::Failure;

/// How events are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Bars on a terminal, lines elsewhere.
    #[default]
    Auto,
    /// Plain lines, as CI logs want them.
    Lines,
    /// One JSON object a line on standard output, and nothing else there.
    Json,
}

/// How to show what happens.
#[derive(Debug, Clone, Args)]
pub struct OutputArgs {
    /// How to show what happens: bars or lines on standard error, or JSON lines on standard output
    #[arg(long, value_enum, default_value_t, env = "BP_OUTPUT", global = true)]
    pub output: Output,
}

/// The files that the project's environments are in.
#[derive(Debug, Clone, Args)]
pub struct FileArgs {
    /// The project's environments
    #[arg(long, value_name = "FILE", default_value = "bp.toml", env = "BP_CONFIG")]
    config: PathBuf,
    /// A file laid over bp.toml, which has only what it changes; several are laid in their order
    #[arg(id = "overlay", long = "overlay", value_name = "FILE", env = "BP_OVERLAY", value_delimiter = ',')]
    overlays: Vec<PathBuf>,
}

impl FileArgs {
    /// Reads `bp.toml`, the overlays and the variables `BP_<ENVIRONMENT>_<KEY>`. The later win.
    ///
    /// # Errors
    /// When a file cannot be read or a setting is wrong.
    pub fn load(&self) -> Result<Config, ConfigError> {
        self.loader().load()
    }

    fn loader(&self) -> ConfigLoader {
        let loader = ConfigLoader::new(&self.config).variables(|name| std::env::var(name).ok());
        self.overlays.iter().fold(loader, ConfigLoader::overlay)
    }
}

/// Where the project's environments are, and what is laid over one of them.
#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    /// The files.
    #[command(flatten)]
    pub files: FileArgs,
    /// A setting of the environment, over bp.toml and variables: ecs.cluster=blue
    #[arg(id = "set", long = "set", value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub settings: Vec<(String, String)>,
}

impl ConfigArgs {
    /// Reads `bp.toml`, the overlays, the variables `BP_<ENVIRONMENT>_<KEY>`, and the flags, which are about
    /// `environment`. The later win.
    ///
    /// # Errors
    /// When a file cannot be read or a setting is wrong.
    pub fn load(&self, environment: &str) -> Result<Config, ConfigError> {
        let mut loader = self.files.loader();
        for (key, value) in &self.settings {
            loader = loader.flag("--set", environment, key, value);
        }
        loader.load()
    }
}

/// Reads `ecs.cluster=blue`.
fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("expected a key and a value, as in ecs.cluster=blue".to_owned()),
    }
}

/// How long to wait.
#[derive(Debug, Clone, Args)]
pub struct WaitArgs {
    /// When to stop waiting: 90s, 15m, 1h30m; defaults to deploy.timeout of bp.toml
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub deadline: Option<Duration>,
}

/// The flags that the command line has, as opposed to variables and defaults: a pipeline sets variables for all its
/// steps, and a step that has no use for one ignores it.
///
/// Flatten it as the first field of a struct: it sees the flags of the fields behind it.
#[derive(Debug, Clone, Default)]
pub struct Given(Vec<String>);

impl Given {
    /// Refuses those of `flags` that were given, because they have no effect in this `case`: `with --image`.
    ///
    /// # Errors
    /// When one of them was given.
    pub fn refuse(&self, flags: &[&str], case: &str) -> Result<(), Failure> {
        match flags.iter().find(|flag| self.0.iter().any(|given| given == *flag)) {
            Some(flag) => Err(Failure::bad_input(format!("--{flag} has no effect {case}: leave it out"))),
            None => Ok(()),
        }
    }
}

impl FromArgMatches for Given {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let given = |id: &&str| matches.value_source(id) == Some(ValueSource::CommandLine);
        Ok(Given(matches.ids().map(clap::Id::as_str).filter(given).map(|id| id.replace('_', "-")).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Given {
    fn augment_args(command: Command) -> Command {
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values() {
        let pair = |key: &str, value: &str| Ok((key.to_owned(), value.to_owned()));
        assert_eq!(key_and_value("ecs.cluster=blue"), pair("ecs.cluster", "blue"));
        assert_eq!(key_and_value("tags.Query=a=b"), pair("tags.Query", "a=b"));
        assert!(key_and_value("ecs.cluster").is_err() && key_and_value("=blue").is_err());
    }
}
