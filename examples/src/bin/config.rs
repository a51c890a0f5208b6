//! Shows what `bp.toml` says, all layers taken together, and where each value comes from.

use std::process::ExitCode;

use bp_delivery::{program, verb::Configuration};

fn main() -> ExitCode {
    program::run::<Configuration>()
}
