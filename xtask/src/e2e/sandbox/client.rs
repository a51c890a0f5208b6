//! Running a client command with an expected result.

use std::{process::Command, time::Duration};

use anyhow::{Result, ensure};

use crate::command;

/// Timeout of a client, long enough for a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

/// Runs a client that must succeed and returns its output.
pub(super) fn expect_success(command: &mut Command) -> Result<String> {
    command::output_within(LIMIT, command)
}

/// Runs a client that must fail and returns its standard error.
pub(super) fn expect_failure(command: &mut Command) -> Result<String> {
    let ended = command::ended_within(LIMIT, command)?;
    ensure!(!ended.status.success(), "`{}` should have failed", command::show(command));
    Ok(ended.stderr)
}
