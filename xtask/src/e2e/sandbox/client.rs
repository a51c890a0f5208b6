//! Running a client to its end.

use std::{process::Command, time::Duration};

use anyhow::{Result, ensure};

use crate::command;

/// How long a client may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

/// Runs a client that must succeed.
pub(super) fn done(command: &mut Command) -> Result<String> {
    command::output_within(LIMIT, command)
}

/// Runs a client that must fail, and returns what it says.
pub(super) fn refused(command: &mut Command) -> Result<String> {
    let ended = command::ended_within(LIMIT, command)?;
    ensure!(!ended.status.success(), "`{}` should have failed", command::show(command));
    Ok(ended.stderr)
}
