//! All verbs in one program: `bp VERB`, or a symbolic link with the name of a verb.

use std::{path::Path, process};

use bp_artifact::ExitCode;
use clap::Command;

use crate::{program::start, verb};

/// Runs all verbs as one program called `bp`: the first argument is the verb, or the verb is the name by which the program
/// was called, through a symbolic link.
pub fn run() -> process::ExitCode {
    let called = std::env::args_os().next();
    let called = called.as_ref().and_then(|path| Path::new(path).file_stem());
    let entries = verb::entries();
    if let Some(entry) = entries.iter().find(|entry| called == Some(entry.name.as_ref())) {
        return start((entry.command)(""), entry.run);
    }
    start(command(), |matches| {
        let chosen = matches.subcommand().and_then(|(name, matches)| {
            let entry = entries.iter().find(|entry| entry.name == name)?;
            Some((entry.run)(matches))
        });
        // clap requires a subcommand, and knows only those of the table.
        chosen.unwrap_or_else(|| ExitCode::BadInput.into())
    })
}

/// The name of the program.
pub(crate) const NAME: &str = "bp";

/// The command line of [`run`].
pub fn command() -> Command {
    Command::new(NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .about("Carry one container image, by digest, from a commit to every place it runs on AWS")
        .after_help(
            "Begin with `bp init`, which writes bp.toml, and `bp doctor`, which checks what the commands need.\n\
             A symbolic link to bp with the name of a command runs that command.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(verb::commands())
}
