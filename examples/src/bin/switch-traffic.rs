//! Switch traffic on EKS: blue/green by slots with a switch back, an Ingress between two Services, or in steps by weights.

use std::process::ExitCode;

use bp_delivery::{program, verb::SwitchTraffic};

fn main() -> ExitCode {
    program::run::<SwitchTraffic>()
}
