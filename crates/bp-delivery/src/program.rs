//! The frame of a program: arguments, logging, signals, the last line, the exit code.

use std::{
    future::Future,
    panic::{self, AssertUnwindSafe},
    process,
    time::Duration,
};

use bp_artifact::{ExitCode, text};
use clap::{ArgMatches, Command, CommandFactory as _, FromArgMatches as _, Parser, error::ContextValue};
use tracing::{Instrument as _, Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer as _,
    filter::{FilterExt as _, filter_fn},
    fmt::format::FmtSpan,
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::{
    Failure, Ui,
    cli::OutputArgs,
    printer::{self, Printer, Stream},
};

// The command line of a program: the verb's arguments, and those that all take. No doc comment here: `--help` opens with
// that of the verb.
#[derive(Parser)]
#[command(name = V::NAME, version)]
struct CommandLine<V: Verb> {
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    verb: V,
}

/// The command line of a verb, as its `--help` shows it.
pub fn command<V: Verb>() -> Command {
    without_values(CommandLine::<V>::command())
}

/// A verb of the command line: its arguments, and the work that they ask for.
pub trait Verb: clap::Args {
    /// The name of the program, or of the subcommand.
    const NAME: &'static str;
    /// Whether the work handles SIGINT and SIGTERM itself. Otherwise it is dropped at one: running operations stop at their
    /// next safe point, and nothing is rolled back.
    const HANDLES_SIGNALS: bool = false;

    /// Does the work.
    ///
    /// # Errors
    /// What ends the program with [`Failure::exit_code`].
    ///
    /// # Permissions
    /// Those of the library calls that the verb makes.
    ///
    /// # Cancel safety
    /// Dropped, it stops at the next safe point; the same arguments resume.
    fn run(self, ui: Ui) -> impl Future<Output = Result<ExitCode, Failure>>;
}

/// Runs a verb as a program of its own: reads its arguments, does its work, and returns the exit code.
///
/// Wrong arguments end with [`ExitCode::BadInput`], as clap does by itself. SIGINT and SIGTERM drop the work: running
/// operations stop at their next safe point, the platform continues, and the same command resumes.
pub fn run<V: Verb>() -> process::ExitCode {
    start(command::<V>(), run_with::<V>)
}

/// Reads the arguments of the process with `command`, and passes them to `run`.
pub(crate) fn start(
    mut command: Command,
    run: impl FnOnce(&ArgMatches) -> process::ExitCode,
) -> process::ExitCode {
    panic::set_hook(Box::new(printer::panicked));
    match command.try_get_matches_from_mut(std::env::args_os()) {
        Ok(matches) => run(&matches),
        Err(error) => refused(&command, error),
    }
}

/// Runs a verb with the arguments that clap has read.
pub(crate) fn run_with<V: Verb>(matches: &ArgMatches) -> process::ExitCode {
    let CommandLine { output, verb } = match CommandLine::<V>::from_arg_matches(matches) {
        Ok(line) => line,
        Err(error) => return refused(&command::<V>(), error),
    };
    let ui = Ui::new(output.output);
    let printer = ui.printer().clone();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error"));
    let log = tracing_subscriber::fmt::layer()
        .with_writer(move || printer.clone())
        .with_ansi(false)
        .with_span_events(FmtSpan::CLOSE)
        .with_filter(filter.and(filter_fn(is_free_of_credentials)));
    tracing_subscriber::registry().with(log).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            ui.error(&format!("cannot start: {error}"));
            return ExitCode::Unexpected.into();
        }
    };
    let code =
        panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(work(verb, &ui)))).unwrap_or_else(|_| {
            ui.error(
                "the program stopped because of the bug above; changes already applied remain, rerun to resume",
            );
            ExitCode::Unexpected
        });
    ui.close();
    // Tasks that are still winding down get a moment to reach their safe point.
    runtime.shutdown_timeout(Duration::from_millis(500));
    code.into()
}

/// Whether a log line can be printed: at level trace, the AWS SDK and the HTTP clients log headers and bodies, which
/// contain credentials. Only this project's crates are logged at that level, whatever `RUST_LOG` requests.
fn is_free_of_credentials(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::DEBUG || metadata.target().starts_with("bp_")
}

/// The work of a verb up to its end or to a signal.
async fn work<V: Verb>(verb: V, ui: &Ui) -> ExitCode {
    let signal = async { if V::HANDLES_SIGNALS { std::future::pending().await } else { signal().await } };
    tokio::select! {
        biased;
        end = verb.run(ui.clone()).instrument(tracing::info_span!("command", name = V::NAME)) => match end {
            Ok(code) => code,
            Err(failure) => {
                ui.error(&failure.to_string());
                failure.exit_code()
            }
        },
        signal = signal => {
            let failure = interrupted(signal);
            ui.error(&failure.to_string());
            failure.exit_code()
        }
    }
}

/// The failure of a verb that ends because of a signal.
pub(crate) fn interrupted(signal: Signal) -> Failure {
    let said = "interrupted: changes already applied remain; rerun the same command to resume";
    Failure::unexpected(said).with_exit_code(signal.exit_code())
}

/// A signal that asks a program to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT: somebody pressed Ctrl-C, or a workflow was cancelled.
    Interrupt,
    /// SIGTERM: the machine, the container or the build is being stopped.
    Terminate,
}

impl Signal {
    /// How a program ends that ends because of it.
    pub fn exit_code(self) -> ExitCode {
        match self {
            Signal::Interrupt => ExitCode::Interrupted,
            Signal::Terminate => ExitCode::Terminated,
        }
    }
}

/// Waits for SIGINT or SIGTERM. From the first call on neither ends the process by itself.
///
/// # Cancel safety
/// Cancel safe.
pub async fn signal() -> Signal {
    let terminate = async {
        #[cfg(unix)]
        if let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
            && terminate.recv().await.is_some()
        {
            return;
        }
        std::future::pending().await
    };
    tokio::select! {
        // A process that can listen for no signals ends by them.
        interrupt = tokio::signal::ctrl_c() => match interrupt {
            Ok(()) => Signal::Interrupt,
            Err(_) => std::future::pending().await,
        },
        () = terminate => Signal::Terminate,
    }
}

/// Prints what clap says about a wrong command line, or the help that was asked for, and returns the exit code.
fn refused(command: &Command, error: clap::Error) -> process::ExitCode {
    let (stream, code) =
        if error.use_stderr() { (Stream::Err, ExitCode::BadInput) } else { (Stream::Out, ExitCode::Done) };
    let printer = Printer::new(false);
    for line in quoting_safely(error.with_cmd(command)).render().to_string().trim_end().lines() {
        printer.entry(stream, line);
    }
    code.into()
}

/// Help lists the environment variables without their values.
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
