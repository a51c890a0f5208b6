//! The table of commands and flags in `docs/cli.md` matches the programs.

use std::{collections::BTreeMap, fmt::Write as _};

use bp_delivery::verb;
use clap::Command;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
/// The markers before and after the generated part.
const MARKS: [&str; 2] = ["<!-- generated: begin -->\n", "<!-- generated: end -->"];

/// The flags of a command and of its subcommands, with their short help.
fn flags(command: &Command, all: &mut Vec<(String, String)>) {
    for argument in command.get_arguments() {
        let Some(long) = argument.get_long().filter(|long| !matches!(*long, "help" | "version")) else {
            continue;
        };
        let value = if argument.get_action().takes_values() {
            let name = argument.get_value_names().and_then(|names| names.first());
            name.map_or_else(String::new, |name| format!(" {name}"))
        } else {
            String::new()
        };
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default().replace('|', "\\|");
        all.push((format!("--{long}{value}"), help));
    }
    command.get_subcommands().for_each(|subcommand| flags(subcommand, all));
}

fn table() -> String {
    let mut rows: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    let commands = verb::commands();
    let count = commands.len();
    for mut command in commands {
        command.build();
        let mut own = Vec::new();
        flags(&command, &mut own);
        own.sort();
        own.dedup();
        for row in own {
            rows.entry(row).or_default().push(format!("`{}`", command.get_name()));
        }
    }
    let mut table = String::from("| flag | meaning | commands |\n|---|---|---|\n");
    for ((flag, help), mut commands) in rows {
        commands.dedup();
        let commands = if commands.len() == count { "all".to_owned() } else { commands.join(", ") };
        writeln!(table, "| `{flag}` | {help} | {commands} |").unwrap();
    }
    table
}

/// Compares the page with the programs; `BP_WRITE_DOCS=1` updates the page.
#[test]
fn documented_flags_match_the_programs() {
    let page = std::fs::read_to_string(PAGE).unwrap().replace("\r\n", "\n");
    let (before, rest) = page.split_once(MARKS[0]).expect("the page has a generated part");
    let (documented, after) = rest.split_once(MARKS[1]).expect("the generated part has an end");
    let table = table();
    if std::env::var_os("BP_WRITE_DOCS").is_some() {
        std::fs::write(PAGE, format!("{before}{}{table}{}{after}", MARKS[0], MARKS[1])).unwrap();
    } else {
        assert!(
            documented == table,
            "docs/cli.md is out of date: BP_WRITE_DOCS=1 cargo test -p bp-delivery --test cli"
        );
    }
}

/// A flag has the same value name and the same help in every command.
#[test]
fn a_flag_has_the_same_help_in_every_command() {
    // These depend on the command.
    let differing = [
        "--service",
        "--env",
        "--image",
        "--name",
        "--namespace",
        "--references",
        "--tag",
        "--artifact",
        "--receipt",
        "--set-env",
        "--timeout",
        "--platform",
        "--all-tags",
        "--as",
        "--revision",
        "--container",
    ];
    let mut seen: BTreeMap<String, (String, String, String)> = BTreeMap::new();
    let mut differences = Vec::new();
    for command in verb::commands() {
        let mut own = Vec::new();
        flags(&command, &mut own);
        for (flag, help) in own {
            let (name, value) = flag.split_once(' ').unwrap_or((&flag, ""));
            let entry = (value.to_owned(), help, command.get_name().to_owned());
            let earlier = seen.entry(name.to_owned()).or_insert_with(|| entry.clone());
            if !differing.contains(&name) && (&earlier.0, &earlier.1) != (&entry.0, &entry.1) {
                differences.push(format!("{name}: {earlier:?} and {entry:?}"));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
