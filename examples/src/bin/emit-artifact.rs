//! Resolve the image that a build has pushed and write `artifact.json` for later stages.

use std::process::ExitCode;

use bp_delivery::{program, verb::EmitArtifact};

fn main() -> ExitCode {
    program::run::<EmitArtifact>()
}
