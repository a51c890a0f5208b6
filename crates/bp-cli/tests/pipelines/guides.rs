//! The commands of the guides and runbooks in `docs/`, verbatim, in an empty directory and home with `bp.toml`, on the
//! sandbox. Comments in the pages prepare what a page supposes:
//!
//! - `<!-- sandbox: build VERSION -->`: what the next `docker buildx build` produces
//! - `<!-- sandbox: built VERSION -->`: that version was built, and `artifact.json` (or the file that follows) describes it
//! - `<!-- sandbox: broken VERSION -->`: the same, with containers that exit
//! - `<!-- sandbox: run COMMAND -->`: this command was run
//! - `<!-- sandbox: registry down HOST -->`, `up`: the registry answers with 503
//! - `<!-- sandbox: credentials expired -->`, `renewed`: STS rejects the token
//! - `<!-- sandbox: secret NAME VALUE -->`, `rotated`: the value of a secret in prod
//! - `<!-- file: NAME -->`: the next block is this file
//! - `<!-- exit: CODE -->`: the exit code of the last command of the next block
#![allow(clippy::print_stdout, reason = "a report for who runs the test")]

use std::{fs, path::Path};

use bp_examples::world::version_of;
use bp_sandbox::{Effect, Fault};

use super::site::{REGISTRY, Site};

/// A code block of a page and what precedes it.
#[derive(Debug, Default)]
struct Block {
    line: usize,
    language: String,
    lines: Vec<String>,
    directives: Vec<String>,
}

impl Block {
    /// The commands of a console block: lines with a prompt, with the lines that they continue on.
    fn commands(&self) -> Vec<String> {
        let mut commands: Vec<String> = Vec::new();
        let mut continues = false;
        for line in &self.lines {
            if let Some(command) = line.strip_prefix("$ ") {
                commands.push(command.to_owned());
            } else if continues {
                let last = commands.last_mut().expect("a command continues");
                last.push('\n');
                last.push_str(line);
            } else {
                continue;
            }
            continues = line.ends_with(['\\', '|']);
        }
        commands
    }

    fn directive(&self, name: &str) -> Option<&str> {
        self.directives.iter().find_map(|directive| directive.strip_prefix(name)).map(str::trim)
    }
}

/// The blocks of a page.
fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut directives = Vec::new();
    let mut open = false;
    for (number, line) in page.lines().enumerate() {
        if let Some(language) = line.strip_prefix("```") {
            if !open {
                let directives = std::mem::take(&mut directives);
                let language = language.to_owned();
                blocks.push(Block { line: number + 1, language, directives, ..Block::default() });
            }
            open = !open;
        } else if open {
            blocks.last_mut().unwrap().lines.push(line.to_owned());
        } else if let Some(comment) = line.strip_prefix("<!-- ") {
            directives.push(comment.strip_suffix(" -->").expect("a comment of one line").to_owned());
        }
    }
    blocks
}

/// Pushes a version of both services to the build account and writes the artifact.
async fn build(site: &Site, workspace: &Path, version: &str, file: &str, is_broken: bool) {
    for service in ["web", "worker"] {
        let image = version_of(service, version);
        let image = if is_broken { image.label("dev.bp-sandbox.behaviour", "exit:3") } else { image };
        let registry = site.world.sandbox.registry(REGISTRY);
        registry.push(&image.build(), &format!("shop/{service}"), version);
        let command = format!(
            "bp emit-artifact --service {service} --commit 0123456789abcdef0123456789abcdef01234567 \
             --image {REGISTRY}/shop/{service}:{version} --artifact {file}"
        );
        let ended = site.shell(workspace, &command).await;
        assert_eq!(ended.code, 0, "{command}: {}", ended.output);
    }
}

async fn prepare(site: &Site, workspace: &Path, directive: &str) {
    let sandbox = &site.world.sandbox;
    let secrets = sandbox.aws().secretsmanager("333333333333", "eu-central-1");
    match directive.split(' ').collect::<Vec<_>>()[..] {
        ["build", version] => drop(site.next(version)),
        ["built", version] => build(site, workspace, version, "artifact.json", false).await,
        ["built", version, file] => build(site, workspace, version, file, false).await,
        ["broken", version] => build(site, workspace, version, "artifact.json", true).await,
        ["run", ..] => {
            let command = directive.strip_prefix("run ").unwrap();
            let ended = site.shell(workspace, command).await;
            assert_eq!(ended.code, 0, "{command}: {}", ended.output);
        }
        ["registry", "down", host] => sandbox.faults().inject(Fault::status(503).at(host).times(u32::MAX)),
        ["registry", "up"] | ["credentials", "renewed"] => sandbox.faults().clear(),
        ["credentials", "expired"] => {
            let body = "<ErrorResponse><Error><Type>Sender</Type><Code>ExpiredToken</Code><Message>The security token \
                        included in the request is expired</Message></Error><RequestId>1</RequestId></ErrorResponse>";
            let headers = vec![("content-type".to_owned(), "text/xml".to_owned())];
            let expired = Effect::Answer { status: 403, headers, body: body.to_owned() };
            sandbox.faults().inject(Fault::new(expired).at("aws").on("sts:AssumeRole").times(u32::MAX));
        }
        ["secret", name, value] => drop(secrets.create(name, value)),
        ["rotated", name, value] => drop(secrets.rotate(name, value)),
        _ => panic!("the directive {directive:?} is not known"),
    }
}

async fn follow(name: &str, page: &str) {
    let site = Site::new().await;
    let workspace = site.workspace(true);
    let mut ran = 0;
    for block in blocks(page) {
        let at = format!("docs/{name}:{}", block.line);
        if let Some(file) = block.directive("file:") {
            fs::write(workspace.path().join(file), block.lines.join("\n")).unwrap();
        }
        for directive in block.directives.iter().filter_map(|directive| directive.strip_prefix("sandbox: ")) {
            prepare(&site, workspace.path(), directive).await;
        }
        if block.language != "console" {
            continue;
        }
        let expected: i32 = block.directive("exit:").map_or(0, |code| code.parse().unwrap());
        let commands = block.commands();
        assert!(!commands.is_empty(), "{at}: no command");
        for (number, command) in commands.iter().enumerate() {
            let expected = if number + 1 == commands.len() { expected } else { 0 };
            let ended = site.shell(workspace.path(), command).await;
            println!("{at}: exit {} of {}", ended.code, command.lines().next().unwrap_or_default());
            assert_eq!(ended.code, expected, "{at}: {command}\n{}", ended.output);
            ran += 1;
        }
    }
    assert!(ran > 0, "docs/{name} has no commands");
}

/// A test for each page, so that they run at the same time.
macro_rules! pages {
    ($($test:ident: $page:literal,)*) => {
        const PAGES: &[&str] = &[$($page),*];

        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            follow($page, include_str!(concat!("../../../../docs/", $page))).await;
        })*
    };
}

pages! {
    guide_build: "guides/build.md",
    guide_promote: "guides/promote.md",
    guide_deploy_ecs: "guides/deploy-ecs.md",
    guide_deploy_eks: "guides/deploy-eks.md",
    guide_deploy_both: "guides/deploy-both.md",
    guide_verify: "guides/verify.md",
    guide_roll_back: "guides/roll-back.md",
    guide_accounts: "guides/accounts.md",
    runbook_build_failed: "runbooks/build-failed.md",
    runbook_ecs_rollback: "runbooks/ecs-rollback.md",
    runbook_eks_rollback: "runbooks/eks-rollback.md",
    runbook_secret_rotation: "runbooks/secret-rotation.md",
    runbook_registry_unavailable: "runbooks/registry-unavailable.md",
    runbook_token_expired: "runbooks/token-expired.md",
    runbook_drift: "runbooks/drift.md",
}

#[test]
fn every_page_is_tested() {
    for directory in ["guides", "runbooks"] {
        let path = format!("{}/../../docs/{directory}", env!("CARGO_MANIFEST_DIR"));
        for entry in fs::read_dir(path).unwrap() {
            let name = format!("{directory}/{}", entry.unwrap().file_name().to_string_lossy());
            assert!(name.ends_with("README.md") || PAGES.contains(&name.as_str()), "{name} is not tested");
        }
    }
}
