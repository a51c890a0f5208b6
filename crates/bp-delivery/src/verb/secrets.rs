//! Check references to secrets, and print them for ECS or Kubernetes. Never shows a value.

use std::path::PathBuf;

use bp_artifact::ExitCode;
use bp_secrets::Depth;

use crate::{
    Delivery, Failure, Session, Ui,
    cli::{ConfigArgs, GivenFlags, ServiceArg},
    program::Verb,
    secrets::{self, Form},
};

/// Check references to secrets, and print them for ECS or Kubernetes; never shows a value
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
    /// Print NAME=reference lines in the format of ECS, External Secrets Operator, the CSI driver or Kubernetes
    Print {
        #[command(flatten)]
        given: GivenFlags,
        /// File of NAME=reference lines
        #[arg(long, value_name = "FILE")]
        references: PathBuf,
        /// Output format, by the consumer of the references
        #[arg(long, value_enum)]
        form: Form,
        /// Name of the Kubernetes object
        #[arg(long, default_value = "secrets")]
        name: String,
        /// Namespace of the Kubernetes object
        #[arg(long)]
        namespace: Option<String>,
        /// Type of the Kubernetes Secret that the ExternalSecret creates, such as kubernetes.io/tls; defaults to Opaque
        #[arg(id = "type", long, value_name = "TYPE")]
        kind: Option<String>,
    },
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
            SecretsCommand::Print { given, references, form, name, namespace, kind } => {
                if form == Form::Ecs {
                    given.refuse(&["name", "namespace"], "with --form ecs")?;
                }
                if form != Form::ExternalSecret {
                    given.refuse(&["type"], "without --form external-secret")?;
                }
                let bindings = secrets::of_file(&references)?;
                let (namespace, kind) = (namespace.as_deref(), kind.as_deref());
                let (object, warnings) = secrets::project(form, &name, namespace, kind, &bindings)?;
                for warning in warnings {
                    ui.warn(format!("{}: {}", warning.name, warning.lint));
                }
                ui.document(&object);
                Ok(ExitCode::Done)
            }
        }
    }
}
