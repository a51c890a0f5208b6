//! The frame of every binary: arguments, logging, Ctrl-C, the last line, the exit code.

use std::{
    future::Future,
    panic::{self, AssertUnwindSafe},
    process,
};

use bp_artifact::{ExitCode, text};
use clap::{Args, Command, CommandFactory as _, FromArgMatches as _, Parser, error::ContextValue};
use tracing_subscriber::EnvFilter;

use crate::{
    Failure, Ui,
    cli::OutputArgs,
    printer::{self, Printer, Stream},
};

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
    panic::set_hook(Box::new(printer::panicked));
    let CommandLine { output, own } = match command_line::<A>() {
        Ok(line) => line,
        Err(code) => return code,
    };
    let ui = Ui::new(output.output);
    let printer = ui.printer().clone();
    tracing_subscriber::fmt()
        .with_writer(move || printer.clone())
        .with_ansi(false)
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error")))
        .init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            ui.error(&format!("cannot start: {error}"));
            return ExitCode::Unexpected.into();
        }
    };
    let work = async {
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
    };
    let code = panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(work))).unwrap_or_else(|_| {
        ui.error(
            "the program stopped because of the bug above; changes already applied remain, rerun to resume",
        );
        ExitCode::Unexpected
    });
    ui.close();
    // Tasks that are still winding down get a moment to reach their safe point.
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    code.into()
}

/// Reads the command line; on a wrong one, or when help is asked for, prints what clap says and returns the exit code.
fn command_line<A: Args>() -> Result<CommandLine<A>, process::ExitCode> {
    let mut command = without_values(CommandLine::<A>::command());
    let line = command.try_get_matches_from_mut(std::env::args_os());
    line.and_then(|matches| CommandLine::from_arg_matches(&matches)).map_err(|error| {
        let (stream, code) = if error.use_stderr() {
            (Stream::Err, ExitCode::BadInput)
        } else {
            (Stream::Out, ExitCode::Done)
        };
        let printer = Printer::new(false);
        for line in quoting_safely(error.with_cmd(&command)).render().to_string().trim_end().lines() {
            printer.entry(stream, line);
        }
        code.into()
    })
}

/// Help names the variables, and does not quote their values.
fn without_values(command: Command) -> Command {
    command.mut_args(|argument| argument.hide_env_values(true)).mut_subcommands(without_values)
}

/// What the error quotes of the command line stays on the line where clap puts it.
fn quoting_safely(mut error: clap::Error) -> clap::Error {
    let quoted = |value: &ContextValue| match value {
        ContextValue::String(text) => Some(ContextValue::String(text::single_line(text))),
        ContextValue::Strings(texts) => {
            Some(ContextValue::Strings(texts.iter().map(|text| text::single_line(text)).collect()))
        }
        _ => None,
    };
    let changed: Vec<_> = error.context().filter_map(|(kind, value)| Some((kind, quoted(value)?))).collect();
    for (kind, value) in changed {
        error.insert(kind, value);
    }
    error
}
