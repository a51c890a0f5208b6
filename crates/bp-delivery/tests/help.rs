//! The end of `--help`: each command has examples that parse and its exit codes.

use bp_delivery::{multicall, verb};
use clap::{Command, error::ErrorKind};

/// Every command of `bp`.
fn commands() -> Vec<Command> {
    multicall::command().get_subcommands().cloned().collect()
}

/// The words of a command line, as a shell splits them; what follows a redirection is left out.
fn words(line: &str) -> Vec<String> {
    let line = line.split(" > ").next().unwrap();
    let mut words = Vec::new();
    let (mut word, mut quote, mut open) = (String::new(), None, false);
    for character in line.chars() {
        match (character, quote) {
            (character, Some(end)) if character == end => quote = None,
            ('\'' | '"', None) => (quote, open) = (Some(character), true),
            (' ', None) => {
                if open || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                open = false;
            }
            (character, _) => word.push(character),
        }
    }
    if open || !word.is_empty() {
        words.push(word);
    }
    assert!(quote.is_none(), "{line}");
    words
}

/// The examples in a help text: the lines after those with a number sign.
fn examples(help: &str) -> Vec<String> {
    let lines: Vec<&str> = help.lines().map(str::trim).collect();
    let is_example = |pair: &[&str]| pair[0].starts_with("# ").then(|| pair[1].to_owned());
    lines.windows(2).filter_map(is_example).collect()
}

fn long_help(command: &Command) -> String {
    let after = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    assert!(command.clone().render_long_help().to_string().contains(after.trim()), "{after}");
    after
}

#[test]
fn every_command_has_examples_that_parse_and_exit_codes() {
    for command in commands() {
        let name = command.get_name().to_owned();
        let help = long_help(&command);
        let lines = examples(&help);
        assert!(!lines.is_empty(), "{name} has no example");
        for line in &lines {
            let arguments = words(line);
            assert_eq!(arguments[..2], ["bp", &name], "{line}");
            let parsed = multicall::command().try_get_matches_from(&arguments);
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
        assert!(help.contains("\nExit codes (docs/exit-codes.md):\n  0    "), "{name}: {help}");
        assert!(help.contains("\n  1    unexpected") && help.contains("129, 130, 143"), "{name}: {help}");
    }
}

#[test]
fn the_examples_of_a_subcommand_are_its_own() {
    let commands = commands();
    let secrets = commands.iter().find(|command| command.get_name() == "secrets").unwrap();
    let print = secrets.find_subcommand("print").unwrap();
    let lines = examples(&long_help(print));
    assert!(!lines.is_empty() && lines.iter().all(|line| line.starts_with("bp secrets print ")), "{lines:?}");
}

/// In a program of its own, a verb has no prefix.
#[test]
fn a_program_of_its_own_shows_its_name_alone() {
    let command = bp_delivery::program::command::<verb::Verify>();
    assert!(examples(&long_help(&command)).iter().all(|line| line.starts_with("verify ")));
}

#[test]
fn the_exit_codes_are_those_of_the_page() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/exit-codes.md");
    let page = std::fs::read_to_string(page).unwrap();
    for command in commands() {
        let help = long_help(&command);
        let codes = help.split("Exit codes (docs/exit-codes.md):\n").nth(1).unwrap();
        let codes: Vec<u8> =
            codes.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
        assert!(codes.is_sorted() && codes.len() > 2, "{}: {codes:?}", command.get_name());
        for code in codes {
            let row = format!("| {code} |");
            assert!(page.contains(&row) || (code == 125 && page.contains("are 125")), "{code}");
        }
    }
}

#[test]
fn an_unknown_command_suggests_one() {
    for (word, suggested) in [("undo", "'rollback'"), ("deploy", "'deploy-ecs'"), ("verfy", "'verify'")] {
        let error = multicall::command().try_get_matches_from(["bp", word]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSubcommand);
        let shown = bp_delivery::program::suggesting(error).render().to_string();
        assert!(shown.contains(suggested), "{word}: {shown}");
    }
    let unlike = multicall::command().try_get_matches_from(["bp", "xyzzy"]).unwrap_err();
    assert!(!bp_delivery::program::suggesting(unlike).render().to_string().contains("tip"));
}
