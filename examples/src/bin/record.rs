//! Record the ECS or Kubernetes API responses about a service, redacted, in a file for a test.

use std::process::ExitCode;

use bp_delivery::{program, verb::Record};

fn main() -> ExitCode {
    program::run::<Record>()
}
