//! Run a one-off task, such as a database migration, with the artifact's image and the settings of an environment's ECS
//! service.

use std::time::Duration;

use bp_artifact::{ExitCode, time::parse_duration};
use bp_ecs::OneOff;
use clap::Args;

use crate::{
    Delivery, Failure, Ui,
    cli::{EnvironmentArgs, ImageArgs, ImageTimeoutArgs, ServiceArg, name_and_value},
    program::Verb,
};

/// Run a one-off task, such as a migration, with the artifact's image and the settings of an environment's ECS service;
/// exit with the code of its container
///
/// The exit code is that of the container. It is 125 if the task was not started or did not end by itself, 2 for wrong
/// arguments, and 129, 130 or 143 after SIGHUP, SIGINT or SIGTERM, which stop the task. A rerun of a killed run follows the task that
/// still runs.
///
/// Example: run-task --env prod --command ./manage migrate --noinput
#[derive(Debug, Args)]
pub struct RunTask {
    #[command(flatten)]
    environment: EnvironmentArgs,
    #[command(flatten)]
    service: ServiceArg,
    #[command(flatten)]
    image: ImageArgs,
    #[command(flatten)]
    image_wait: ImageTimeoutArgs,
    #[command(flatten)]
    task: TaskArgs,
}

/// What the task runs.
#[derive(Debug, Args)]
struct TaskArgs {
    /// How long the task may run before it is stopped: 90s, 15m, 1h30m; defaults to ecs.task-timeout, or else to
    /// deploy.timeout of bp.toml
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// Container that runs the command, and whose exit code counts; defaults to ecs.task-container, or else to
    /// ecs.container of bp.toml
    #[arg(long, value_name = "NAME")]
    container: Option<String>,
    /// Set an environment variable of the container for this task, such as STEP=2; visible in ECS, so not for secrets;
    /// repeatable
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    set_env: Vec<(String, String)>,
    /// CPU units of the task, such as 512 or "1 vCPU"; defaults to those of the task definition
    #[arg(long, value_name = "UNITS")]
    cpu: Option<String>,
    /// Memory of the task, such as 1024 or 1GB; defaults to that of the task definition
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Command and its arguments, instead of the container's own; must be the last flag: all following words belong to
    /// the command
    #[arg(long, value_name = "WORD", num_args = 1.., allow_hyphen_values = true)]
    command: Vec<String>,
}

impl TaskArgs {
    fn apply_to(&self, task: OneOff) -> OneOff {
        let task = self.timeout.iter().fold(task, |task, timeout| task.timeout(*timeout));
        let task = self.container.iter().fold(task, OneOff::container);
        let task = self.cpu.iter().fold(task, OneOff::cpu);
        let task = self.memory.iter().fold(task, OneOff::memory);
        let task = self.set_env.iter().fold(task, |task, (name, value)| task.variable(name, value));
        task.command(&self.command)
    }
}

impl Verb for RunTask {
    const NAME: &'static str = "run-task";
    const HELP: crate::help::Help = crate::help::verbs::RUN_TASK;

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        self.run_task(&ui).await.map_err(|failure| {
            let is_interrupted = failure.exit_code() == ExitCode::Interrupted;
            if is_interrupted { failure } else { failure.with_exit_code(ExitCode::RunFailed) }
        })
    }
}

impl RunTask {
    async fn run_task(&self, ui: &Ui) -> Result<ExitCode, Failure> {
        self.image.check()?;
        let delivery: Delivery = self.image.describe(self.environment.open(&self.service).await?)?;
        ui.step(format!("Run a task in {}", self.environment.env));
        let timeout = self.image_wait.image_timeout.unwrap_or(delivery.service.deploy.image_timeout);
        let image = self.image.wait(&delivery, timeout, ui).await?;
        let task = self.task.apply_to(delivery.one_off()?);
        let work = delivery.ecs().await?.run_task(&image, &task);
        let outcome = ui.follow(work).await?;
        let code = ExitCode::of_task(&outcome);
        ui.ended(outcome);
        Ok(code)
    }
}
