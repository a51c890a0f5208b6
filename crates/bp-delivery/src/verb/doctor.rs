//! Check what the commands need on this machine and in the environments. Changes nothing.

use std::time::Duration;

use bp_artifact::{ExitCode, config::EnvironmentConfig, time::parse_duration};

use crate::{Failure, Session, Ui, cli::ConfigArgs, doctor, program::Verb};

/// Check credentials, roles, registries, clusters, permissions, tools and the clock, each with a remedy; changes nothing
#[derive(Debug, clap::Args)]
pub struct Doctor {
    /// Environment of bp.toml; defaults to all of them
    #[arg(long, value_name = "NAME", env = "BP_ENV")]
    env: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
    /// How long all checks may take together: 90s, 15m, 1h30m
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "60s")]
    timeout: Duration,
}

impl Verb for Doctor {
    const NAME: &'static str = "doctor";
    const HELP: crate::help::Help = crate::help::verbs::DOCTOR;

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        if self.env.is_none() && !self.config.settings.is_empty() {
            return Err(Failure::bad_input("--set applies to one environment: add --env"));
        }
        let config = self.config.load(self.env.as_deref().unwrap_or_default())?;
        let environments: Vec<&EnvironmentConfig> = match &self.env {
            Some(name) => vec![config.environment(name)?],
            None => config.environments().iter().collect(),
        };
        let report =
            doctor::Doctor::new(Session::from_env()?, self.timeout).run(&config, &environments).await;
        ui.results(report.entries(), &report);
        Ok(report.exit_code())
    }
}
