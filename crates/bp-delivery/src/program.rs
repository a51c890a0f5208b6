//! The frame of a program: arguments, logging, signals, the last line, the exit code.

mod signal;

use std::{
    future::Future,
    panic::{self, AssertUnwindSafe},
    process,
    time::Duration,
};

use bp_artifact::{ExitCode, text};
use clap::{
    ArgMatches, Command, CommandFactory as _, FromArgMatches as _, Parser,
    error::{ContextKind, ContextValue},
};
pub use signal::{Signal, Signals};
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
    ci::Ci,
    cli::OutputArgs,
    help::{self, Help},
    look::Entry,
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
    command_in::<V>("")
}

/// The command line of a verb in a program whose name `prefix` is, with a space after it.
pub(crate) fn command_in<V: Verb>(prefix: &str) -> Command {
    V::HELP.applied_to(without_values(CommandLine::<V>::command()), prefix)
}

/// A verb of the command line: its arguments, and the work that they ask for.
pub trait Verb: clap::Args {
    /// The name of the program, or of the subcommand.
    const NAME: &'static str;
    /// The end of its `--help`.
    const HELP: Help = Help::NONE;
    /// Does the work. At a signal, the operations that it follows with [`Ui`] stop at their next safe point; if it follows
    /// none, it is dropped.
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
/// Wrong arguments end with [`ExitCode::BadInput`], as clap does by itself. At SIGINT, SIGTERM or SIGHUP, the operations in
/// progress stop at their next safe point and report how far they got; the platform continues, and the same command
/// resumes. A second signal stops at once. `nohup` is respected.
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
    let ci = Ci::from_environment(|name| std::env::var(name).ok(), output.export.clone());
    let ui = Ui::in_ci(output.output, ci);
    let printer = ui.printer().clone();
    let filter = match output.filter() {
        Some(filter) => EnvFilter::new(filter),
        None => EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error")),
    };
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
    ui.end(V::NAME, code);
    // Tasks that are still winding down get a moment to reach their safe point.
    runtime.shutdown_timeout(Duration::from_millis(500));
    code.into()
}

/// Whether a log line can be printed: at level trace, the AWS SDK and the HTTP clients log headers and bodies, which
/// contain credentials. Only this project's crates are logged at that level, whatever `RUST_LOG` requests.
fn is_free_of_credentials(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::DEBUG || metadata.target().starts_with("bp_")
}

/// How long the operations have to stop at a safe point. Kubernetes and Docker kill after 30 s and 10 s by default.
const GRACE: Duration = Duration::from_secs(20);

/// The work of a verb up to its end or to a signal.
async fn work<V: Verb>(verb: V, ui: &Ui) -> ExitCode {
    let mut signals = Signals::listen();
    let span = tracing::info_span!("command", name = V::NAME);
    supervise(verb.run(ui.clone()).instrument(span), ui, async || signals.next().await).await
}

/// Runs `work`; at the first signal it stops, if it follows operations at their next safe point.
async fn supervise(
    work: impl Future<Output = Result<ExitCode, Failure>>,
    ui: &Ui,
    mut next: impl AsyncFnMut() -> Signal,
) -> ExitCode {
    let mut work = Box::pin(work);
    let signal = tokio::select! {
        biased;
        end = &mut work => return ended(ui, end),
        signal = next() => signal,
    };
    if ui.stop().is_following() {
        ui.say(format!("{signal}: stopping at the next safe point; a second signal stops at once"));
        ui.interrupt();
        let end = tokio::select! {
            biased;
            end = &mut work => Some(end),
            _ = next() => None,
            () = late(ui) => None,
        };
        if let Some(end) = end {
            let code = ended(ui, end);
            return if code == ExitCode::Interrupted { signal.exit_code() } else { code };
        }
    }
    drop(work);
    ui.error("interrupted: changes already applied remain; rerun the same command to resume");
    signal.exit_code()
}

/// Completes when the operations should have stopped. A rollback may take longer: it has its own deadline.
async fn late(ui: &Ui) {
    tokio::time::sleep(GRACE).await;
    while ui.stop().is_rolling_back() {
        tokio::time::sleep(GRACE).await;
    }
}

fn ended(ui: &Ui, end: Result<ExitCode, Failure>) -> ExitCode {
    end.unwrap_or_else(|failure| {
        ui.failed(&failure);
        failure.exit_code()
    })
}

/// Prints what clap says about a wrong command line, or the help that was asked for, and returns the exit code.
fn refused(command: &Command, error: clap::Error) -> process::ExitCode {
    let (stream, code) =
        if error.use_stderr() { (Stream::Err, ExitCode::BadInput) } else { (Stream::Out, ExitCode::Done) };
    let printer = Printer::new(true);
    for line in quoting_safely(suggesting(error.with_cmd(command))).render().to_string().trim_end().lines() {
        printer.entry(stream, Entry::plain(line));
    }
    code.into()
}

/// Help lists the environment variables without their values.
fn without_values(command: Command) -> Command {
    command.mut_args(|argument| argument.hide_env_values(true)).mut_subcommands(without_values)
}

/// Adds to the error about an unknown command those that a word of another tool means here.
pub fn suggesting(mut error: clap::Error) -> clap::Error {
    let found = match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(word)) => help::suggested(word),
        _ => &[],
    };
    if !found.is_empty() {
        let commands = found.iter().map(|command| (*command).to_owned()).collect();
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(commands));
    }
    error
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

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use bp_artifact::{
        Operation,
        deploy::{DeployEvent, TargetError},
        operation::Emitter,
    };
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::Output;

    /// SIGTERM after one second, and SIGINT `second` seconds later.
    fn signals(second: u64) -> impl AsyncFnMut() -> Signal {
        let mut sent = vec![(second, Signal::Interrupt), (1, Signal::Terminate)];
        async move || match sent.pop() {
            Some((seconds, signal)) => {
                sleep(Duration::from_secs(seconds)).await;
                signal
            }
            None => pending().await,
        }
    }

    type Work = Operation<DeployEvent, Result<ExitCode, TargetError>>;

    /// Ends `seconds` after it was cancelled.
    fn stops_after(seconds: u64) -> Work {
        Operation::spawn(move |events: Emitter<DeployEvent>| async move {
            events.cancelled().await;
            sleep(Duration::from_secs(seconds)).await;
            Ok(ExitCode::Interrupted)
        })
    }

    async fn ends(work: impl AsyncFnOnce(&Ui) -> Result<ExitCode, Failure>, second: u64) -> (ExitCode, u64) {
        let (ui, start) = (Ui::new(Output::Lines), Instant::now());
        let code = supervise(work(&ui), &ui, signals(second)).await;
        (code, start.elapsed().as_secs())
    }

    async fn waits(_: &Ui) -> Result<ExitCode, Failure> {
        pending().await
    }

    async fn follows(ui: &Ui) -> Result<ExitCode, Failure> {
        Ok(ui.follow(stops_after(3)).await?)
    }

    async fn hangs(ui: &Ui) -> Result<ExitCode, Failure> {
        Ok(ui.follow(stops_after(3600)).await?)
    }

    async fn has_failed(ui: &Ui) -> Result<ExitCode, Failure> {
        let _ = ui.follow(stops_after(3)).await;
        Ok(ExitCode::RolledBack)
    }

    async fn rolls_back(ui: &Ui) -> Result<ExitCode, Failure> {
        let _ = ui.follow(stops_after(0)).await;
        ui.follow_rollback(Operation::<DeployEvent, ()>::spawn(|_| sleep(Duration::from_secs(300)))).await;
        Ok(ExitCode::RolledBack)
    }

    #[tokio::test(start_paused = true)]
    async fn stops_within_the_grace_period_of_kubernetes() {
        assert_eq!(ends(waits, 600).await, (ExitCode::Terminated, 1), "nothing is followed");
        assert_eq!(ends(follows, 600).await, (ExitCode::Terminated, 4), "it reports how far it got");
        let (code, seconds) = ends(hangs, 600).await;
        assert_eq!(code, ExitCode::Terminated);
        assert!(seconds < 30, "SIGKILL would come after 30 s: {seconds}");
        assert_eq!(ends(has_failed, 600).await, (ExitCode::RolledBack, 4), "its result counts");
    }

    #[tokio::test(start_paused = true)]
    async fn a_rollback_may_take_longer_and_a_second_signal_stops_it() {
        assert_eq!(ends(rolls_back, 600).await, (ExitCode::RolledBack, 301));
        assert_eq!(ends(rolls_back, 50).await, (ExitCode::Terminated, 51));
    }
}
