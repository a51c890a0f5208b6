//! Shows how an environment differs from the artifact deployed there. Changes nothing.

use std::process::ExitCode;

use bp_delivery::{program, verb::Verify};

fn main() -> ExitCode {
    program::run::<Verify>()
}
