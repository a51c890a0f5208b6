//! Check references to secrets, and print them for ECS or Kubernetes. Never shows a value.

use std::process::ExitCode;

use bp_delivery::{program, verb::Secrets};

fn main() -> ExitCode {
    program::run::<Secrets>()
}
