//! Wall time, CPU time and peak memory of one run of a program.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};

use crate::{clock, command, report};

/// Resource usage of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Seconds.
    pub(crate) wall: f64,
    /// Seconds of user and system time, of the program and its children.
    pub(crate) cpu: f64,
    /// Peak memory of the largest process, in MiB.
    pub(super) memory: f64,
    /// Requests to the source and to the destination.
    #[serde(skip)]
    pub(super) requests: (usize, usize),
}

/// Runs a command as the only child of a separate process, because the kernel reports the peak memory of all children
/// together.
pub(crate) fn measure(program: &Command) -> Result<Sample> {
    let mut child =
        Command::new(std::env::current_exe().context("cannot determine the path of this program")?);
    child.arg("measure").arg(program.get_program()).args(program.get_args());
    child.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command::output_within(Duration::from_secs(900), &mut child)?;
    let line = output.lines().last().unwrap_or_default();
    serde_json::from_str(line)
        .with_context(|| format!("cannot parse the measurement of {}", command::show(program)))
}

/// The process started by [`measure`]: prints the sample as its last line.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    let (program, rest) = arguments.command.split_first().context("no program given")?;
    let mut command = Command::new(program);
    command.args(rest).stdin(Stdio::null()).stdout(Stdio::null());
    let (status, wall) = clock::timed(|| command.status());
    let status = status.with_context(|| format!("cannot run `{}`", command::show(&command)))?;
    if !status.success() {
        bail!("`{}` failed with {status}", command::show(&command));
    }
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    let sample = Sample {
        wall: wall.as_secs_f64(),
        cpu: seconds(usage.user_time()) + seconds(usage.system_time()),
        memory: usage.max_rss() as f64 / 1024.0,
        requests: (0, 0),
    };
    report::line(serde_json::to_string(&sample)?);
    Ok(true)
}
