//! Refresh the image pull Secret with which an environment's EKS cluster pulls from Amazon ECR.

use std::process::ExitCode;

use bp_delivery::{program, verb::RefreshPullSecret};

fn main() -> ExitCode {
    program::run::<RefreshPullSecret>()
}
