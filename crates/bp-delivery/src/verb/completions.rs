//! Print the completions of `bp` for a shell.

use bp_artifact::ExitCode;
use clap_complete::Shell;
use serde_json::json;

use crate::{Failure, Ui, multicall, program::Verb};

/// Print a script that completes the commands and flags of bp in a shell
#[derive(Debug, clap::Args)]
pub struct Completions {
    /// Shell that reads the script
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

impl Verb for Completions {
    const NAME: &'static str = "completions";
    const HELP: crate::help::Help = crate::help::verbs::COMPLETIONS;

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        let script = script(self.shell)?;
        ui.results(script.lines(), &json!({ "shell": self.shell.to_string(), "script": script }));
        Ok(ExitCode::Done)
    }
}

fn script(shell: Shell) -> Result<String, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut multicall::command(), multicall::NAME, &mut script);
    String::from_utf8(script).map_err(|error| Failure::unexpected(format!("the script is not text: {error}")))
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
}
