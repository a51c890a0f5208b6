//! All verbs in one program: `bp VERB`, or a symbolic link with the name of a verb; and the verbs about the program itself,
//! completions and manual pages.

use std::{
    path::{Path, PathBuf},
    process,
};

use bp_artifact::{ExitCode, document, error::ErrorClass};
use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use serde_json::json;

use crate::{
    Failure, Ui,
    help::{self, Help},
    program::{Verb, start},
    verb::{self, Entry},
};

/// Runs all verbs as one program called `bp`: the first argument is the verb, or the verb is the name by which the program
/// was called, through a symbolic link.
pub fn run() -> process::ExitCode {
    let called = std::env::args_os().next();
    let called = called.as_ref().and_then(|path| Path::new(path).file_stem());
    let entries = entries();
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
const NAME: &str = "bp";

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
        .subcommands(entries().iter().map(|entry| (entry.command)("bp ")))
}

/// Every verb of this build, and those of this module, in alphabetical order.
fn entries() -> Vec<Entry> {
    let mut entries = verb::entries();
    entries.extend([Entry::of::<Completions>(), Entry::of::<ManPages>()]);
    entries.sort_by_key(|entry| entry.name);
    entries
}

/// Print a script that completes the commands and flags of bp in a shell
#[derive(Debug, clap::Args)]
pub struct Completions {
    /// Shell that reads the script
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

impl Verb for Completions {
    const NAME: &'static str = "completions";
    const HELP: Help = help::verbs::COMPLETIONS;

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        let script = script(self.shell)?;
        ui.results(script.lines(), &json!({ "shell": self.shell.to_string(), "script": script }));
        Ok(ExitCode::Done)
    }
}

fn script(shell: Shell) -> Result<String, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), NAME, &mut script);
    String::from_utf8(script).map_err(|error| Failure::unexpected(format!("the script is not text: {error}")))
}

/// Write the manual pages of bp and its commands to a directory
#[derive(Debug, clap::Args)]
pub struct ManPages {
    /// Directory to write to, which is created; pages of the same name are replaced
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Verb for ManPages {
    const NAME: &'static str = "man";
    const HELP: Help = help::verbs::MAN;

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        let failed = |path: &Path, error: &std::io::Error| {
            Failure::new(ErrorClass::BadInput, error).context(format!("cannot write {}", path.display()))
        };
        std::fs::create_dir_all(&self.directory).map_err(|error| failed(&self.directory, &error))?;
        let pages = pages().map_err(|error| failed(&self.directory, &error))?;
        for (name, page) in &pages {
            document::write(&self.directory.join(name), page)?;
        }
        let names: Vec<&String> = pages.iter().map(|(name, _)| name).collect();
        let line = format!("{} pages written to {}", pages.len(), self.directory.display());
        ui.result(line, &json!({ "directory": self.directory, "pages": names }));
        Ok(ExitCode::Done)
    }
}

/// Each page, with its file name: of the program, of each command and of its subcommands.
fn pages() -> std::io::Result<Vec<(String, Vec<u8>)>> {
    // Hidden: `bp help` has no page.
    let mut program = command().disable_help_subcommand(true);
    program.build();
    let mut pages = Vec::new();
    add(&program, NAME, &mut pages)?;
    Ok(pages)
}

fn add(command: &Command, name: &str, pages: &mut Vec<(String, Vec<u8>)>) -> std::io::Result<()> {
    let mut page = Vec::new();
    Man::new(command.clone()).render(&mut page)?;
    pages.push((format!("{name}.1"), page));
    command.get_subcommands().try_for_each(|sub| add(sub, &format!("{name}-{}", sub.get_name()), pages))
}

#[cfg(test)]
mod tests {
    use bp_artifact::text::Clean;
    use clap::ValueEnum as _;

    use super::*;

    /// What prints the script removes nothing from it.
    #[test]
    fn a_script_survives_the_sanitizer_in_every_shell() {
        for shell in Shell::value_variants() {
            let script = script(*shell).unwrap();
            assert!(script.contains("dual-deploy") && script.contains("rollback-on-cancel"), "{shell}");
            for line in script.lines() {
                assert_eq!(Clean::entry(line).as_str(), line, "{shell}");
            }
        }
    }

    #[test]
    fn every_command_has_a_page_with_its_examples_and_exit_codes() {
        let pages = pages().unwrap();
        for entry in entries() {
            let name = format!("bp-{}.1", entry.name);
            let (_, page) =
                pages.iter().find(|(found, _)| *found == name).unwrap_or_else(|| panic!("{name}"));
            let page = String::from_utf8_lossy(page);
            assert!(page.starts_with(".ie") && page.contains(".TH"), "{page}");
            assert!(page.contains("Examples:") && page.contains("Exit codes"), "{page}");
        }
        assert!(pages.iter().any(|(name, _)| name == "bp-config-show.1"), "{:?}", pages.len());
    }
}
