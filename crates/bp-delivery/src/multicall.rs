//! All verbs in one program: `bp VERB`, or a symbolic link with the name of a verb.

use std::{panic, path::Path, process};

use bp_artifact::ExitCode;
use clap::Command;

use crate::{printer, program::refused, verb};

/// Runs all verbs as one program called `bp`: the first argument is the verb, or the verb is the name by which the program
/// was called, through a symbolic link.
pub fn run() -> process::ExitCode {
    panic::set_hook(Box::new(printer::panicked));
    let arguments: Vec<_> = std::env::args_os().collect();
    let called = arguments.first().and_then(|path| Path::new(path).file_stem());
    let entries = verb::entries();
    if let Some(entry) = entries.iter().find(|entry| called == Some(entry.name.as_ref())) {
        let mut command = (entry.command)();
        return match command.try_get_matches_from_mut(arguments) {
            Ok(matches) => (entry.run)(&matches),
            Err(error) => refused(&command, error),
        };
    }
    let mut command = command();
    let matches = match command.try_get_matches_from_mut(arguments) {
        Ok(matches) => matches,
        Err(error) => return refused(&command, error),
    };
    let chosen = matches.subcommand();
    let entry = chosen.and_then(|(name, _)| entries.iter().find(|entry| entry.name == name));
    match (entry, chosen) {
        (Some(entry), Some((_, matches))) => (entry.run)(matches),
        // clap requires a subcommand, and knows only those of the table.
        _ => ExitCode::BadInput.into(),
    }
}

/// The command line of [`run`].
pub fn command() -> Command {
    Command::new("bp")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Carry one container image, by digest, from a commit to every place it runs on AWS")
        .after_help("A symbolic link to bp with the name of a command runs that command.")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(verb::commands())
}
