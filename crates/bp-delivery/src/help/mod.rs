//! The end of `--help`: examples and exit codes of each command, and the command that a mistyped one means.

mod suggest;
pub(crate) mod verbs;

use std::fmt::Write as _;

use clap::Command;

pub(crate) use self::suggest::suggested;

/// What the `--help` of a [`Verb`](crate::verb::Verb) ends with.
#[derive(Debug, Clone, Copy)]
pub struct Help {
    /// Command lines, without the name of the program.
    pub examples: &'static [Example],
    /// The exit codes with their meanings, in ascending order. Those of a signal and of a defect are added.
    pub exit_codes: &'static [(u8, &'static str)],
}

/// A command line that does something useful.
#[derive(Debug, Clone, Copy)]
pub struct Example {
    /// What it does.
    pub about: &'static str,
    /// The arguments of the program: the name of the verb, and its own.
    pub arguments: &'static str,
}

/// The exit code of a defect.
const UNEXPECTED: (u8, &str) = (1, "unexpected: a defect in this program or in a server");

impl Help {
    /// No examples and no exit codes.
    pub const NONE: Help = Help { examples: &[], exit_codes: &[] };

    /// Adds the examples and the exit codes to a command and to its subcommands; a subcommand gets the examples that
    /// begin with its name. `program` precedes the name of the verb; it is empty in a program of its own.
    pub(crate) fn applied_to(&self, command: Command, program: &str) -> Command {
        let name = command.get_name().to_owned();
        self.applied(command, program, &name)
    }

    fn applied(&self, command: Command, program: &str, path: &str) -> Command {
        let subcommands: Vec<String> =
            command.get_subcommands().map(|subcommand| subcommand.get_name().to_owned()).collect();
        let mut command = command;
        for name in subcommands {
            let path = format!("{path} {name}");
            command = command.mut_subcommand(&name, |subcommand| self.applied(subcommand, program, &path));
        }
        match self.text(program, path) {
            text if text.is_empty() => command,
            text => command.after_long_help(text),
        }
    }

    fn text(&self, program: &str, path: &str) -> String {
        let mut text = String::new();
        for Example { about, arguments } in self.examples.iter().filter(|example| example.is_of(path)) {
            let head = if text.is_empty() { "Examples:\n" } else { "\n" };
            let _ = write!(text, "{head}  # {about}\n  {program}{arguments}\n");
        }
        if self.exit_codes.is_empty() {
            return text;
        }
        let gap = if text.is_empty() { "" } else { "\n" };
        let _ = write!(text, "{gap}Exit codes (docs/exit-codes.md):");
        let mut codes = self.exit_codes.to_vec();
        codes.push(UNEXPECTED);
        codes.sort_unstable_by_key(|(code, _)| *code);
        for (code, meaning) in codes {
            let _ = write!(text, "\n  {code:<3}  {meaning}");
        }
        text.push_str("\n  129, 130, 143  interrupted by SIGHUP, SIGINT (Ctrl-C), SIGTERM; rerun to resume");
        text
    }
}

impl Example {
    /// Whether the command line begins with these words.
    fn is_of(&self, path: &str) -> bool {
        // Flags of the verb may precede the subcommand.
        let mut words = self.arguments.split_whitespace();
        path.split(' ').all(|wanted| words.any(|word| word == wanted))
    }
}
