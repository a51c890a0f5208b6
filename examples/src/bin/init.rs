//! Write a first `bp.toml`.

use std::process::ExitCode;

use bp_delivery::{program, verb::Init};

fn main() -> ExitCode {
    program::run::<Init>()
}
