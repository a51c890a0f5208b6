//! Command-line arguments shared by several programs. Flags win over environment variables, which win over `bp.toml`.

mod changes;
mod config;
mod copy;
mod delivery;
mod end;
mod governance;
mod receipt;
mod registry;

use std::{path::PathBuf, time::Duration};

use bp_artifact::time::parse_duration;
use clap::{ArgMatches, Args, Command, Error, FromArgMatches, parser::ValueSource};

pub(crate) use self::changes::{concern_any, skipped};
pub(crate) use self::end::{End, conclude, rolled_back, worst};
pub use self::{
    changes::ChangedArgs,
    config::{ConfigArgs, FileArgs},
    copy::{CopyArgs, JobsArgs, OtherName, ReplicationArgs, TransferArgs},
    delivery::{
        DeliveryArgs, EnvironmentArgs, ImageArgs, RollbackArgs, ServiceArg, ServicesArgs, SlotArgs,
        TakeOverArgs,
    },
    end::{NoWaitArgs, RollbackOnCancelArgs},
    governance::{GovernanceArgs, SignArgs},
    receipt::ReceiptArgs,
    registry::{AuthfileArgs, ConnectionArgs, ReadingTimeArgs, RegistryArgs},
};
use crate::{Failure, Output};

/// The output format, and what is logged.
#[derive(Debug, Clone, Args)]
pub struct OutputArgs {
    /// Output format: progress in place or lines on standard error, or JSON lines on standard output
    #[arg(long, value_enum, default_value_t, env = "BP_OUTPUT", global = true)]
    pub output: Output,
    /// Log operations to standard error, twice (-vv) also requests and retries; RUST_LOG selects more precisely
    #[arg(long, short, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
    /// Write exit code, verdict, image and digest as shell variables BP_RESULT_... to this file, for later steps of a CI
    /// system
    #[arg(long, value_name = "FILE", env = "BP_EXPORT", global = true)]
    pub export: Option<PathBuf>,
}

impl OutputArgs {
    /// The filter of log lines that `--verbose` asks for.
    pub(crate) fn filter(&self) -> Option<&'static str> {
        match self.verbose {
            0 => None,
            1 => Some("error,bp_=info"),
            _ => Some("error,bp_=debug"),
        }
    }
}

/// The deployment timeout.
#[derive(Debug, Clone, Args)]
pub struct WaitArgs {
    /// How long to watch a deployment: 90s, 15m, 1h30m; defaults to deploy.timeout of bp.toml
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
}

/// The image timeout, which overrides that of `bp.toml`.
#[derive(Debug, Clone, Args)]
pub struct ImageTimeoutArgs {
    /// How long to wait for the image to appear in the registry: 90s, 15m, 1h30m; defaults to deploy.image-timeout of
    /// bp.toml
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub image_timeout: Option<Duration>,
}

/// Parses an environment variable: `DEPLOY_PLATFORM=eks`.
pub(crate) fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE, as in DEPLOY_PLATFORM=eks".to_owned()),
    }
}

/// The flags that were given on the command line, excluding values from variables and defaults: a pipeline sets
/// variables for all its steps, and a step ignores those that do not apply to it.
///
/// Flatten it as the first field of a struct: it sees the flags of the fields after it.
#[derive(Debug, Clone, Default)]
pub struct GivenFlags(Vec<String>);

impl GivenFlags {
    /// Whether `flag` was given.
    pub fn has(&self, flag: &str) -> bool {
        self.0.iter().any(|given| given == flag)
    }

    /// Refuses `flags` that have no effect in `case`, such as `with --image`.
    ///
    /// # Errors
    /// When one of them was given.
    pub fn refuse(&self, flags: &[&str], case: &str) -> Result<(), Failure> {
        match flags.iter().find(|flag| self.has(flag)) {
            Some(flag) => Err(Failure::bad_input(format!("--{flag} has no effect {case}: remove it"))),
            None => Ok(()),
        }
    }
}

impl FromArgMatches for GivenFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let given = |id: &&str| matches.value_source(id) == Some(ValueSource::CommandLine);
        Ok(GivenFlags(
            matches.ids().map(clap::Id::as_str).filter(given).map(|id| id.replace('_', "-")).collect(),
        ))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for GivenFlags {
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
    fn parses_variables_and_rejects_a_missing_name_or_equals_sign() {
        assert_eq!(name_and_value("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(name_and_value("A="), Ok(("A".into(), String::new())));
        for wrong in ["", "A", "=b"] {
            assert!(name_and_value(wrong).is_err(), "{wrong}");
        }
    }
}
