//! Write the manual pages of `bp`.

use std::path::{Path, PathBuf};

use bp_artifact::{ExitCode, document, error::ErrorClass};
use clap::Command;
use clap_mangen::Man;
use serde_json::json;

use crate::{Failure, Ui, multicall, program::Verb};

/// Write the manual pages of bp and its commands to a directory
#[derive(Debug, clap::Args)]
pub struct ManPages {
    /// Directory to write to, which is created; pages of the same name are replaced
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Verb for ManPages {
    const NAME: &'static str = "man";
    const HELP: crate::help::Help = crate::help::verbs::MAN;

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
    let mut program = multicall::command().disable_help_subcommand(true);
    program.build();
    let mut pages = Vec::new();
    add(&program, multicall::NAME, &mut pages)?;
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
    use super::*;

    #[test]
    fn every_command_has_a_page_with_its_examples_and_exit_codes() {
        let pages = pages().unwrap();
        for verb in crate::verb::commands() {
            let name = format!("bp-{}.1", verb.get_name());
            let (_, page) =
                pages.iter().find(|(found, _)| *found == name).unwrap_or_else(|| panic!("{name}"));
            let page = String::from_utf8_lossy(page);
            assert!(page.starts_with(".ie") && page.contains(".TH"), "{page}");
            assert!(page.contains("Examples:") && page.contains("Exit codes"), "{page}");
        }
        assert!(pages.iter().any(|(name, _)| name == "bp-config-show.1"), "{:?}", pages.iter().map(|p| &p.0));
    }
}
