//! Checks references to secrets, and writes them as others read them. It never shows a value.

use std::path::PathBuf;

use bp_artifact::ExitCode;
use bp_secrets::Depth;

use crate::{
    Failure, Session, Ui,
    cli::{ConfigArgs, Given, ServiceArg},
    program::Verb,
    secrets::{self, Form},
};

/// Checks references to secrets, and writes them as others read them; never shows a value
#[derive(Debug, clap::Args)]
pub struct Secrets {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Does every reference exist, with that key? Reads a value only where a key has to be seen
    Check {
        /// The environment of bp.toml
        #[arg(long, value_name = "NAME", env = "BP_ENV")]
        env: String,
        /// A file of NAME=reference lines; if not given, what the environment's ECS service refers to now
        #[arg(long, value_name = "FILE")]
        references: Option<PathBuf>,
        /// Read no value at all: whether keys are there stays open
        #[arg(long)]
        describe: bool,
        /// Show the IAM policy that whoever reads them needs: on ECS the execution role
        #[arg(long)]
        policy: bool,
        #[command(flatten)]
        service: ServiceArg,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Writes NAME=reference lines as ECS, External Secrets Operator, the CSI driver or Kubernetes read them
    Print {
        #[command(flatten)]
        given: Given,
        /// A file of NAME=reference lines
        #[arg(long, value_name = "FILE")]
        references: PathBuf,
        /// Who is to read them
        #[arg(long, value_enum)]
        form: Form,
        /// What the Kubernetes object is called
        #[arg(long, default_value = "secrets")]
        name: String,
        /// The object's namespace
        #[arg(long)]
        namespace: Option<String>,
    },
}

impl Verb for Secrets {
    const NAME: &'static str = "secrets";

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        match self.what {
            What::Check { env, references, describe, policy, service, config } => {
                let config = config.load(&env)?;
                let environment = config.environment(&env)?;
                let clients = Session::from_env()?.open(environment).await?;
                let bindings = match &references {
                    Some(path) => secrets::of_file(path)?,
                    None => {
                        secrets::of_service(environment.service(service.service.as_ref())?, &clients).await?
                    }
                };
                let depth = if describe { Depth::Describe } else { Depth::Keys };
                let report = secrets::checked(&bindings, &clients, depth).await;
                ui.results(secrets::lines(&bindings, &report), &report);
                if policy {
                    ui.document(&secrets::needs(&report, environment));
                }
                Ok(secrets::verdict(&report))
            }
            What::Print { given, references, form, name, namespace } => {
                if form == Form::Ecs {
                    given.refuse(&["name", "namespace"], "with --form ecs")?;
                }
                let bindings = secrets::of_file(&references)?;
                let (object, warnings) = secrets::project(form, &name, namespace.as_deref(), &bindings)?;
                for warning in warnings {
                    ui.say(format!("warning: {}: {}", warning.name, warning.lint));
                }
                ui.document(&object);
                Ok(ExitCode::Done)
            }
        }
    }
}
