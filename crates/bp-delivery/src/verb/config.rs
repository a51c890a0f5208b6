//! Shows what `bp.toml` says, all layers taken together, and where each value comes from.

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

/// Shows what bp.toml says, all layers taken together, and where each value comes from
#[derive(Debug, clap::Args)]
pub struct Configuration {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Shows an environment's settings and where each comes from; without --env those of all environments
    Show {
        /// The environment of bp.toml
        #[arg(long, value_name = "NAME", env = "BP_ENV")]
        env: Option<String>,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Checks every environment with what is laid over it; ends with 2 at the first mistake
    Check {
        #[command(flatten)]
        files: FileArgs,
    },
    /// Prints the JSON Schema of bp.toml, for editors
    Schema,
}

impl Verb for Configuration {
    const NAME: &'static str = "config";

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        match self.what {
            What::Show { env, config } => show(env.as_deref(), &load(env.as_deref(), &config)?, &ui)?,
            What::Check { files } => check(&files.load()?, &ui),
            What::Schema => {
                ui.document(&config_schema());
            }
        }
        Ok(ExitCode::Done)
    }
}

fn load(env: Option<&str>, config: &ConfigArgs) -> Result<Config, Failure> {
    if env.is_none() && !config.settings.is_empty() {
        return Err(Failure::bad_input("--set is about one environment: say --env"));
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

/// The services that have names.
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
