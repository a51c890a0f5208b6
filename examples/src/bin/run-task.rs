//! Run a one-off task, such as a migration, with the artifact's image and the settings of an environment's ECS service.

use std::process::ExitCode;

use bp_delivery::{program, verb::RunTask};

fn main() -> ExitCode {
    program::run::<RunTask>()
}
