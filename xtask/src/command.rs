//! Running other programs with a timeout and captured output.

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::clock;

/// The root directory of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_owned)
}

/// Target directory for the programs that are measured.
#[derive(clap::Args)]
pub(crate) struct Builds {
    /// Target directory for the programs to measure [default: target/bench]
    #[arg(long, value_name = "DIR", env = "BP_BENCH_TARGET")]
    target: Option<PathBuf>,
}

impl Builds {
    pub(crate) fn directory(&self) -> PathBuf {
        self.target.clone().unwrap_or_else(|| root().join("target/bench"))
    }
}

/// The cargo that runs this task.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    cargo
}

/// Exit status and output of a program.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the command until it exits and returns standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    output_within(Duration::from_secs(3600), command)
}

/// Runs the command for at most `limit` and returns standard output; an exit code other than 0 is an error that
/// contains the end of the output.
pub(crate) fn output_within(limit: Duration, command: &mut Command) -> Result<String> {
    let ended = ended_within(limit, command)?;
    if !ended.status.success() {
        let output = format!("{}\n{}", ended.stdout.trim_end(), ended.stderr.trim_end());
        bail!("`{}` failed with {}:\n{}", show(command), ended.status, tail(output.trim(), 40));
    }
    Ok(ended.stdout)
}

/// Runs the command for at most `limit` and returns its output and exit status.
pub(crate) fn ended_within(limit: Duration, command: &mut Command) -> Result<Ended> {
    let shown = show(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run `{shown}`"))?;
    // Both pipes are drained concurrently: a full pipe would block the program.
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let Some(status) = clock::poll(limit, || child.try_wait().transpose()) else {
        let _ = child.kill();
        let _ = child.wait();
        bail!("`{shown}` did not exit within {} s", limit.as_secs());
    };
    let text = |pipe: thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&pipe.join().unwrap_or_default()).into_owned()
    };
    Ok(Ended { status: status?, stdout: text(stdout), stderr: text(stderr) })
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // A broken pipe ends the output; the exit code reports the failure.
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

/// The last `count` lines.
pub(crate) fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// The command as typed in a shell.
pub(crate) fn show(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy();
    let words = command.get_args().map(|word| word.to_string_lossy());
    std::iter::once(program).chain(words).collect::<Vec<_>>().join(" ")
}
