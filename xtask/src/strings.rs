//! `strings`: print all user-visible texts of the programs, for review.

use std::{fs, process::Command};

use anyhow::Result;

use crate::{
    command, report,
    rust::{Kind, prose},
};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Print only files whose path contains one of these
    paths: Vec<String>,
}

/// Modules that are compiled only for tests.
const TEST_FILES: [&str; 2] = ["/tests.rs", "/recorded.rs"];

/// Prints the texts, file by file.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    let root = command::root();
    let listed =
        command::output(Command::new("git").current_dir(&root).args(["ls-files", "crates", "examples"]))?;
    let is_chosen = |file: &&str| {
        file.ends_with(".rs")
            && file.contains("/src/")
            && !TEST_FILES.iter().any(|name| file.ends_with(name))
            && (arguments.paths.is_empty() || arguments.paths.iter().any(|path| file.contains(path)))
    };
    for file in listed.lines().filter(is_chosen) {
        let source = fs::read_to_string(root.join(file))?;
        for (line, text) in texts(&source) {
            report::line(format_args!("{file}:{line}: {text}"));
        }
    }
    Ok(true)
}

/// String literals of more than one word outside tests, and the doc comments of files that declare command lines, because
/// clap prints them as help.
fn texts(source: &str) -> Vec<(usize, String)> {
    let declares_arguments = source.contains("clap::") || source.contains("use clap");
    let is_shown = |kind, text: &str| match kind {
        Kind::Literal => text.trim().contains(' '),
        Kind::Doc => declares_arguments,
        Kind::Comment | Kind::Function => false,
    };
    prose(source)
        .into_iter()
        .filter(|prose| !prose.in_tests && is_shown(prose.kind, &prose.text))
        .map(|prose| (prose.line, prose.text.split_whitespace().collect::<Vec<_>>().join(" ")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::texts;

    #[test]
    fn prints_sentences_and_help_but_no_keys_comments_or_tests() {
        let source = "use clap::Args;\n/// Copy an image\nstruct A; // why\nfn f() { g(\"key\", \"image not\n  found\") }\n\
                      #[cfg(test)]\nmod tests { fn t() { g(\"only a test\") } }\n";
        let expected = [(2, "Copy an image".to_owned()), (4, "image not found".to_owned())];
        assert_eq!(texts(source), expected);
    }
}
