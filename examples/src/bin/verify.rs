//! Verify that an environment runs the deployed artifact. Changes nothing.

use std::process::ExitCode;

use bp_delivery::{program, verb::Verify};

fn main() -> ExitCode {
    program::run::<Verify>()
}
