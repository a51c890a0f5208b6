//! Records what ECS or Kubernetes responds about a service now, redacted, in a file for a test.

use std::process::ExitCode;

use bp_delivery::{program, verb::Record};

fn main() -> ExitCode {
    program::run::<Record>()
}
