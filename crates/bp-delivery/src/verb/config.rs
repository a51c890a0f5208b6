//! Show and check the settings of `bp.toml`, merged from all layers, with the origin of each value.

use bp_artifact::{
    Config, ExitCode,
    config::{EnvironmentConfig, Origin, ServiceConfig, ServiceName, Setting, config_schema},
};
use serde_json::{Value, json};

use crate::{
    Failure, Ui,
    cli::{ConfigArgs, FileArgs},
    program::Verb,
};

/// Show and check the settings of bp.toml, merged from all layers, with the origin of each value
#[derive(Debug, clap::Args)]
pub struct Configuration {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, clap::Subcommand)]
enum ConfigCommand {
    /// Show the settings of an environment with the origin of each; without --env, of all environments
    Show {
        /// Environment of bp.toml
        #[arg(long, value_name = "NAME", env = "BP_ENV")]
        env: Option<String>,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Check every environment with overlays and variables; exit with code 2 at the first error
    Check {
        #[command(flatten)]
        files: FileArgs,
    },
    /// Print the JSON Schema of bp.toml, for editors
    Schema,
}

impl Verb for Configuration {
    const NAME: &'static str = "config";
    const HELP: crate::help::Help = crate::help::verbs::CONFIG;

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        match self.command {
            ConfigCommand::Show { env, config } => {
                show(env.as_deref(), &load(env.as_deref(), &config)?, &ui)?
            }
            ConfigCommand::Check { files } => check(&files.load()?, &ui),
            ConfigCommand::Schema => {
                ui.document(&config_schema());
            }
        }
        Ok(ExitCode::Done)
    }
}

fn load(env: Option<&str>, config: &ConfigArgs) -> Result<Config, Failure> {
    if env.is_none() && !config.settings.is_empty() {
        return Err(Failure::bad_input("--set applies to one environment: add --env"));
    }
    Ok(config.load(env.unwrap_or_default())?)
}

fn show(env: Option<&str>, config: &Config, ui: &Ui) -> Result<(), Failure> {
    let environments = match env {
        Some(name) => std::slice::from_ref(config.environment(name)?),
        None => config.environments(),
    };
    let mut entries = Vec::new();
    for environment in environments {
        if !entries.is_empty() {
            entries.push(String::new());
        }
        entries.push(table(environment.name.as_str(), environment.origin(), environment.settings()));
        for (name, service) in named(environment) {
            entries.push(String::new());
            let head = format!("{}, service {name}", environment.name);
            entries.push(table(&head, service.origin(), service.settings()));
        }
    }
    ui.results(entries, &environments.iter().map(value).collect::<Vec<Value>>());
    Ok(())
}

/// The services with a name.
fn named(environment: &EnvironmentConfig) -> impl Iterator<Item = (&ServiceName, &ServiceConfig)> {
    environment.services().iter().filter_map(|service| Some((service.name.as_ref()?, service)))
}

fn value(environment: &EnvironmentConfig) -> Value {
    let mut value = json!({ "environment": environment.name, "settings": environment.settings() });
    let services: Vec<Value> = named(environment)
        .map(|(name, service)| json!({ "service": name, "settings": service.settings() }))
        .collect();
    if !services.is_empty() {
        value["services"] = services.into();
    }
    value
}

/// The settings in columns: key, value, origin.
fn table(name: &str, origin: &Origin, rows: &[Setting]) -> String {
    let widest = |of: fn(&Setting) -> &str| rows.iter().map(|row| of(row).len()).max().unwrap_or(0);
    let (key, value) = (widest(|row| &row.key), widest(|row| &row.value));
    let row = |row: &Setting| format!("\n  {:key$}  {:value$}  {}", row.key, row.value, row.origin);
    rows.iter().map(row).fold(format!("{name}  ({origin})"), |table, row| table + &row)
}

fn check(config: &Config, ui: &Ui) {
    let names: Vec<&str> = config.environments().iter().map(|e| e.name.as_str()).collect();
    let services: Vec<&str> =
        config.environments().first().into_iter().flat_map(named).map(|(name, _)| name.as_str()).collect();
    let mut value = json!({ "project": config.project.name, "environments": names });
    let mut line = format!("{}: {}", config.project.name, names.join(" -> "));
    if !services.is_empty() {
        line.push_str(&format!("; services {}", services.join(", ")));
        value["services"] = json!(services);
    }
    ui.result(line, &value);
}
