//! Check references to secrets, print and apply them, and roll out new versions. Never shows a value.

mod apply;
mod print;
mod watch;

use std::path::PathBuf;

use bp_artifact::ExitCode;
use bp_secrets::Depth;

use self::{apply::ApplyArgs, print::PrintArgs, watch::WatchArgs};
use crate::{
    Delivery, Failure, Session, Ui,
    cli::{ConfigArgs, ServiceArg},
    program::Verb,
    secrets,
};

/// Check references to secrets, print and apply them, and roll out new versions; never shows a value
#[derive(Debug, clap::Args)]
pub struct Secrets {
    #[command(subcommand)]
    command: SecretsCommand,
}

#[derive(Debug, clap::Subcommand)]
enum SecretsCommand {
    /// Check that every referenced secret and JSON key exists; reads a value only to check a key
    Check {
        /// Environment of bp.toml
        #[arg(long, value_name = "NAME", env = "BP_ENV")]
        env: String,
        /// File of NAME=reference lines; defaults to the references of the environment's ECS service with the settings of
        /// bp.toml
        #[arg(long, value_name = "FILE")]
        references: Option<PathBuf>,
        /// Do not read values; JSON keys are then not checked
        #[arg(long)]
        describe: bool,
        /// Show the IAM policy that the reader of the secrets requires: on ECS, the execution role
        #[arg(long)]
        policy: bool,
        #[command(flatten)]
        service: ServiceArg,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Print NAME=reference lines, and the objects around them, for ECS, External Secrets Operator, the CSI driver or
    /// Kubernetes
    Print(Box<PrintArgs>),
    /// Create or update a Kubernetes Secret with the values; they are not printed
    Apply(ApplyArgs),
    /// Check once whether an environment's secrets have new versions, and roll them out: for a scheduled job
    Watch(Box<WatchArgs>),
}

impl Verb for Secrets {
    const NAME: &'static str = "secrets";
    const HELP: crate::help::Help = crate::help::verbs::SECRETS;

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        match self.command {
            SecretsCommand::Check { env, references, describe, policy, service, config } => {
                let config = config.load(&env)?;
                let environment = config.environment(&env)?;
                let clients = Session::from_env()?.open(environment).await?;
                let bindings = match &references {
                    Some(path) => secrets::of_file(path)?,
                    None => {
                        let service = environment.service(service.service.as_ref())?;
                        let delivery = Delivery::new(environment.clone(), service.clone(), clients.clone());
                        secrets::of_service(&delivery).await?
                    }
                };
                let depth = if describe { Depth::Describe } else { Depth::Keys };
                let report = secrets::checked(&bindings, &clients, depth).await;
                ui.results(secrets::lines(&bindings, &report), &report);
                if policy {
                    ui.document(&secrets::required_policy(&report, environment));
                }
                Ok(secrets::verdict(&report))
            }
            SecretsCommand::Print(print) => print.run(&ui),
            SecretsCommand::Apply(apply) => apply.run(&ui).await,
            SecretsCommand::Watch(watch) => watch.run(&ui).await,
        }
    }
}
