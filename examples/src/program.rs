//! The frame of every binary: arguments, logging, Ctrl-C, the last line, the exit code.

use std::{future::Future, process};

use bp_artifact::ExitCode;
use clap::{Args, Parser};
use tracing_subscriber::EnvFilter;

use crate::{Failure, Ui, cli::OutputArgs};

// The command line of a binary: its own arguments, and those that all take. No doc comment here: `--help` opens with
// that of the binary's own arguments.
#[derive(Parser)]
#[command(version)]
struct CommandLine<A: Args> {
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    own: A,
}

/// Runs a binary: reads its arguments, calls `body`, and turns its end into the exit code.
///
/// Wrong arguments end with [`ExitCode::BadInput`], as clap does by itself. Ctrl-C drops `body`, which lets running
/// operations stop at their next safe point and leaves the platform at work: the same command takes it up again.
pub fn run<A, B, F>(body: B) -> process::ExitCode
where
    A: Args,
    B: FnOnce(A, Ui) -> F,
    F: Future<Output = Result<ExitCode, Failure>>,
{
    start(body, async { drop(tokio::signal::ctrl_c().await) })
}

/// The same for a body that listens for Ctrl-C itself.
pub fn run_listening<A, B, F>(body: B) -> process::ExitCode
where
    A: Args,
    B: FnOnce(A, Ui) -> F,
    F: Future<Output = Result<ExitCode, Failure>>,
{
    start(body, std::future::pending())
}

fn start<A, B, F>(body: B, interrupted: impl Future<Output = ()>) -> process::ExitCode
where
    A: Args,
    B: FnOnce(A, Ui) -> F,
    F: Future<Output = Result<ExitCode, Failure>>,
{
    let CommandLine { output, own } = CommandLine::<A>::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error")))
        .init();
    let ui = Ui::new(output.output);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            ui.error(&format!("cannot start: {error}"));
            return ExitCode::Unexpected.into();
        }
    };
    let code = runtime.block_on(async {
        tokio::select! {
            biased;
            end = body(own, ui.clone()) => match end {
                Ok(code) => code,
                Err(failure) => {
                    ui.error(&failure.to_string());
                    failure.exit_code()
                }
            },
            () = interrupted => {
                ui.error("interrupted; what was started goes on by itself, and the same command takes it up again");
                ExitCode::Interrupted
            }
        }
    });
    ui.close();
    // Tasks that are still winding down get a moment to reach their safe point.
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    code.into()
}
