//! GitHub Actions: what its runner executes in the output is exactly ours, whatever registries and containers report;
//! summary, outputs and exported variables contain the result.
#![cfg(feature = "sandbox")]

mod common;
#[path = "../../crates/bp-artifact/tests/console/mod.rs"]
mod console;

use bp_examples::world::shop;
use common::{Ended, Stage, ended};
use console::{commands, executed};

/// Log lines of a container that would control a runner.
const HOSTILE: &str = "starting\n::add-mask::a\r\n::stop-commands::x\n  ::set-output name=digest::sha256:0\n##[add-path]/tmp\n\
                       </pre><script>x</script>\n%0A::error::forged\nhunter-of-logs";

/// The commands of a run on GitHub Actions, by name, and its files.
struct Run {
    end: Ended,
    names: Vec<String>,
    messages: Vec<String>,
    outputs: String,
    summary: String,
}

async fn on_github(stage: &Stage, name: &str, arguments: &[&str]) -> Run {
    for file in ["summary.md", "outputs"] {
        stage.write(file, "");
    }
    let mut command = stage.command(name, arguments);
    command
        .env("GITHUB_ACTIONS", "true")
        .env("GITHUB_STEP_SUMMARY", stage.path("summary.md"))
        .env("GITHUB_OUTPUT", stage.path("outputs"));
    let end = ended(command).await;
    let mut all = executed(&end.stdout);
    all.extend(executed(&end.stderr));
    let found = commands(&end.stdout).len() + commands(&end.stderr).len();
    assert_eq!(found, all.len(), "another parser executes more: {end:?}");
    Run {
        names: all.iter().map(|command| command.name.clone()).collect(),
        messages: all.iter().map(|command| format!("{:?} {}", command.properties, command.data)).collect(),
        end,
        outputs: stage.read("outputs"),
        summary: stage.read("summary.md"),
    }
}

fn output<'a>(run: &'a Run, name: &str) -> &'a str {
    let value = |line: &'a str| line.strip_prefix(name)?.strip_prefix('=');
    run.outputs.lines().find_map(value).unwrap_or_else(|| panic!("{name}: {}", run.outputs))
}

#[tokio::test]
async fn the_runner_executes_only_our_commands() {
    let stage = Stage::new().await;
    let good = on_github(&stage, "deploy-ecs", &["--env", "staging"]).await;
    assert_eq!(good.end.code, 0, "{:?}", good.end);
    assert_eq!(good.names, ["group", "endgroup"], "{:?}", good.end);
    assert_eq!((output(&good, "exit-code"), output(&good, "verdict")), ("0", "deployed"));
    assert!(output(&good, "image").ends_with(output(&good, "digest")) && good.outputs.contains("sha256:"));
    assert!(good.summary.contains("deploy-ecs") && good.summary.contains("exit code 0"), "{}", good.summary);

    let image =
        shop("6.6.6").label("dev.bp-sandbox.behaviour", "exit:3").label("dev.bp-sandbox.log", HOSTILE);
    stage.built(&image.build(), "6.6.6");
    let bad = on_github(&stage, "dual-deploy", &["--env", "staging"]).await;
    assert_eq!(bad.end.code, 3, "{:?}", bad.end);
    assert_eq!(bad.names, ["group", "endgroup", "error"], "{:?}", bad.end);
    assert!(bad.messages[2].contains("bp dual-deploy: failed and rolled back"), "{:?}", bad.messages);
    assert_eq!((output(&bad, "exit-code"), output(&bad, "verdict")), ("3", "rolled-back"));
    assert!(!bad.summary.contains("<script") && !bad.summary.contains("</pre><s"), "{}", bad.summary);
    // The cause is outside of the folded group.
    let lines: Vec<&str> = bad.end.stderr.lines().collect();
    let at = |text: &str| {
        lines.iter().position(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}: {lines:?}"))
    };
    assert!(at("::endgroup::") < at("FAILING") && bad.end.stderr.contains("hunter-of-logs"), "{lines:?}");

    // JSON lines stay JSON lines.
    let json = on_github(&stage, "verify", &["--env", "staging", "--output", "json"]).await;
    assert!(
        json.end.stdout.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()),
        "{:?}",
        json.end
    );
}

#[tokio::test]
async fn an_error_in_a_file_is_an_annotation_of_its_line() {
    let stage = Stage::new().await;
    stage.edit_config("region = \"eu-central-1\"", "region = \"a,b::c%\"");
    let run = on_github(&stage, "config", &["check"]).await;
    assert_eq!((run.end.code, run.names.as_slice()), (2, &["error".to_owned()][..]), "{:?}", run.end);
    let message = &run.messages[0];
    for text in ["(\"file\", \"bp.toml\")", "(\"line\", ", "(\"col\", ", "a,b::c%"] {
        assert!(message.contains(text), "{text}: {message}");
    }

    // Turned off, nothing is written for the runner.
    let mut command = stage.command("config", &["check"]);
    command.env("GITHUB_ACTIONS", "true").env("BP_CI", "off").env("GITHUB_OUTPUT", stage.path("none"));
    let end = ended(command).await;
    assert!(executed(&end.stderr).is_empty() && !stage.path("none").exists(), "{end:?}");
}

#[tokio::test]
async fn variables_are_exported_to_a_shell() {
    let stage = Stage::new().await;
    let end = stage.run("deploy-ecs", &["--env", "staging", "--export", "bp.env"]).await;
    assert_eq!(end.code, 0, "{end:?}");
    let script =
        ". ./bp.env; printf '%s %s %s' \"$BP_RESULT_EXIT_CODE\" \"$BP_RESULT_VERDICT\" \"$BP_RESULT_DIGEST\"";
    let shell =
        std::process::Command::new("sh").args(["-euc", script]).current_dir(stage.directory.path()).output();
    let shown = String::from_utf8(shell.unwrap().stdout).unwrap();
    assert!(shown.starts_with("0 deployed sha256:"), "{shown}");
    // An earlier result does not remain.
    let end = stage.run("verify", &["--env", "none", "--export", "bp.env"]).await;
    assert!(end.code == 2 && stage.read("bp.env").contains("BP_RESULT_VERDICT=''"), "{end:?}");
}
