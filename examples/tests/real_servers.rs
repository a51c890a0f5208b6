//! The binaries on servers that others wrote: `cargo xtask e2e` starts them, names them in the environment, and reads back
//! with clients of others what was left there.

use std::{
    path::Path,
    process::{Command, Output},
};

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run cargo xtask e2e"))
}

/// A binary in a directory of its own, which knows no AWS but that of `aws`.
fn binary(program: &str, directory: &Path, aws: &str) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(directory)
        .env_clear()
        .env("CI", "true")
        .env("HOME", directory)
        .env("AWS_ACCESS_KEY_ID", "AKIASANDBOX")
        .env("AWS_SECRET_ACCESS_KEY", "sandbox-secret")
        .env("AWS_REGION", "eu-central-1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_ENDPOINT_URL", aws);
    command
}

/// Runs it, and shows what it said where it ended otherwise than with `code`.
fn ends_with(code: i32, command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("the binary starts");
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert_eq!(status.code(), Some(code), "{stdout}\n{stderr}");
    stdout.into_owned()
}

mod registries {
    use super::*;

    const BP_TOML: &str = r#"
version = 1
[project]
name = "shop"
repository = "shop/web"
[[environment]]
name = "dev"
region = "eu-central-1"
registry = "source.example.com"
[[environment]]
name = "prod"
region = "eu-central-1"
registry = "target.example.com"
repository = "promoted/web"
"#;

    /// A directory as a pipeline's stage has it.
    fn stage() -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("bp.toml"), BP_TOML).expect("bp.toml");
        directory
    }

    fn run(program: &str, directory: &Path, arguments: &[&str]) -> Command {
        // No AWS API is asked: whoever listens there would be a surprise.
        let mut command = binary(program, directory, "http://127.0.0.1:1");
        let (source, target) = (variable("BP_E2E_SOURCE"), variable("BP_E2E_TARGET"));
        let endpoints = format!("source.example.com=http://{source},target.example.com=http://{target}");
        command.args(arguments).env("BP_REGISTRY_ENDPOINTS", endpoints);
        command
    }

    #[test]
    #[ignore = "needs the servers of cargo xtask e2e"]
    fn a_tag_becomes_an_artifact_and_is_promoted_twice() {
        let stage = stage();
        let emit = ["--image", "source.example.com/shop/web:1", "--env", "dev"];
        ends_with(0, &mut run(env!("CARGO_BIN_EXE_emit-artifact"), stage.path(), &emit));
        let artifact = std::fs::read_to_string(stage.path().join("artifact.json")).expect("an artifact");
        assert!(artifact.contains(&variable("BP_E2E_DIGEST")), "{artifact}");
        for _ in 0..2 {
            let said = ends_with(0, &mut run(env!("CARGO_BIN_EXE_promote"), stage.path(), &["--to", "prod"]));
            let expected = format!("target.example.com/promoted/web@{}", variable("BP_E2E_DIGEST"));
            assert!(said.contains(&expected), "{said}");
        }
    }

    #[test]
    #[ignore = "needs the servers of cargo xtask e2e"]
    fn a_digest_that_is_not_there_is_not_promoted() {
        let stage = stage();
        let emit = ["--image", "source.example.com/shop/web:1", "--env", "dev"];
        ends_with(0, &mut run(env!("CARGO_BIN_EXE_emit-artifact"), stage.path(), &emit));
        let artifact = stage.path().join("artifact.json");
        let text = std::fs::read_to_string(&artifact).expect("an artifact");
        let missing = format!("sha256:{:0>64}", "404");
        std::fs::write(&artifact, text.replace(&variable("BP_E2E_DIGEST"), &missing)).expect("an artifact");
        let ended =
            run(env!("CARGO_BIN_EXE_promote"), stage.path(), &["--to", "prod"]).output().expect("it runs");
        assert_ne!(ended.status.code(), Some(0));
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(said.contains(&missing), "{said}");
    }
}
