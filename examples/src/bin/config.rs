//! Show and check the settings of `bp.toml`, merged from all layers, with the origin of each value.

use std::process::ExitCode;

use bp_delivery::{program, verb::Configuration};

fn main() -> ExitCode {
    program::run::<Configuration>()
}
