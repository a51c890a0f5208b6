//! `bp` runs a verb by its first argument, or by the name it was called by.

use std::{
    path::Path,
    process::{Command, Output},
};

fn run(program: &Path, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).env_clear().output().expect("the program starts")
}

fn bp() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_bp"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn help_lists_every_verb() {
    let end = run(bp(), &["--help"]);
    assert!(end.status.success());
    let help = text(&end.stdout);
    for verb in bp_delivery::verb::commands() {
        assert!(help.contains(&format!("\n  {} ", verb.get_name())), "{}: {help}", verb.get_name());
    }
}

#[test]
fn a_subcommand_has_the_output_and_exit_code_of_the_verb() {
    let directory = tempfile::tempdir().expect("a directory");
    let missing = directory.path().join("bp.toml");
    let end = run(bp(), &["config", "check", "--config", &missing.to_string_lossy()]);
    assert_eq!(end.status.code(), Some(2), "{}", text(&end.stderr));
    assert!(text(&end.stderr).contains("bp.toml"), "{}", text(&end.stderr));
}

#[test]
fn a_wrong_command_line_is_bad_input() {
    for arguments in [&["deploy"][..], &["verify", "--no-such-flag"], &["verify"]] {
        let end = run(bp(), arguments);
        assert_eq!(end.status.code(), Some(2), "{arguments:?}: {}", text(&end.stderr));
        assert!(end.stdout.is_empty());
    }
}

#[cfg(unix)]
#[test]
fn a_symbolic_link_with_the_name_of_a_verb_runs_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let link = directory.path().join("verify");
    std::os::unix::fs::symlink(bp(), &link).expect("a link");
    let (linked, sub) = (run(&link, &["--help"]), run(bp(), &["verify", "--help"]));
    assert!(linked.status.success());
    let flags = |help: &Output| {
        text(&help.stdout)
            .lines()
            .filter(|line| line.trim_start().starts_with("--"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert!(!flags(&linked).is_empty());
    assert_eq!(flags(&linked), flags(&sub));
}
