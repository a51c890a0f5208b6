//! `bp`: a subcommand per verb; called by the name of a verb, through a symbolic link, it runs that verb.

use std::process::ExitCode;

fn main() -> ExitCode {
    bp_delivery::multicall::run()
}
