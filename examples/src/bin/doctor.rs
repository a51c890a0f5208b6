//! Check what the commands need on this machine and in the environments.

use std::process::ExitCode;

use bp_delivery::{program, verb::Doctor};

fn main() -> ExitCode {
    program::run::<Doctor>()
}
