//! Promote the artifact's image, or selected tags, to an environment's registry with the same digest.

use std::process::ExitCode;

use bp_delivery::{program, verb::Promote};

fn main() -> ExitCode {
    program::run::<Promote>()
}
