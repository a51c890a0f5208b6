//! The tools under comparison and their copy commands.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use super::images::Set;
use crate::{
    command,
    e2e::tools::{CRANE, REGCTL, SKOPEO, Toolbox},
    report,
};

/// A copy to make. Source and destination are repositories: `host:port/name`.
pub(super) struct Job<'a> {
    pub(super) set: Set,
    pub(super) tags: &'a [String],
    pub(super) source: String,
    pub(super) destination: String,
    /// A directory for a program's cache between commands.
    pub(super) cache: PathBuf,
}

pub(super) const CRANE_DEFAULT: &str = "crane";
pub(super) const OURS: &str = "bp-promote";
pub(super) const TRUSTING: &str = "bp-promote, trusting";

/// A tool and its command-line syntax.
pub(super) struct Contestant {
    pub(super) name: &'static str,
    program: PathBuf,
    syntax: Syntax,
}

#[derive(Clone, Copy)]
enum Syntax {
    Ours(&'static [&'static str]),
    Crane(&'static [&'static str]),
    Skopeo,
    Regctl,
}

impl Contestant {
    /// Whether ratios are relative to this tool.
    pub(super) fn reference(&self) -> bool {
        self.name == CRANE_DEFAULT
    }

    pub(super) fn ours(&self) -> bool {
        matches!(self.syntax, Syntax::Ours(_))
    }

    /// The command for a copy.
    pub(super) fn command(&self, job: &Job<'_>) -> Command {
        let mut command = Command::new(&self.program);
        let Job { set, tags, source, destination, cache } = job;
        let one = |repository: &str| format!("{repository}:{}", tags[0]);
        match (self.syntax, set.is_all_tags()) {
            (Syntax::Ours(flags), false) => command.args(flags).args([one(source), one(destination)]),
            (Syntax::Ours(flags), true) => command.args(flags).args(["--all-tags", source, destination]),
            (Syntax::Crane(flags), false) => {
                command.arg("copy").args(flags).args([one(source), one(destination)])
            }
            (Syntax::Crane(flags), true) => {
                command.args(["copy", "--all-tags"]).args(flags).args([source, destination])
            }
            (Syntax::Skopeo, false) => command
                .args(["--insecure-policy", "copy", "--all", "--preserve-digests"])
                .args(["--src-tls-verify=false", "--dest-tls-verify=false"])
                .args([format!("docker://{}", one(source)), format!("docker://{}", one(destination))]),
            // `skopeo sync` appends the last component of the source's name.
            (Syntax::Skopeo, true) => command
                .args(["--insecure-policy", "sync", "--all", "--preserve-digests"])
                .args(["--src-tls-verify=false", "--dest-tls-verify=false"])
                .args(["--src", "docker", "--dest", "docker", source])
                .arg(destination.rsplit_once('/').map_or(destination.as_str(), |(parent, _)| parent)),
            (Syntax::Regctl, false) => {
                command.args(plain_http(job)).args(["image", "copy", &one(source), &one(destination)])
            }
            // regctl copies one image at a time.
            (Syntax::Regctl, true) => {
                let program = self.program.display();
                let flags = plain_http(job).join(" ");
                let line = format!("{program} {flags} image copy {source}:$tag {destination}:$tag || exit 1");
                command = Command::new("sh");
                command.args(["-c", &format!("for tag in {}; do {line}; done", tags.join(" "))])
            }
        };
        if let Syntax::Skopeo = self.syntax {
            // skopeo caches the locations of blobs and mounts them: without an empty cache only the first copy is cold.
            command.env("_CONTAINERS_ROOTLESS_UID", "1000").env("XDG_DATA_HOME", cache);
        }
        command
    }
}

/// regctl's flags for plain HTTP.
fn plain_http(job: &Job<'_>) -> Vec<String> {
    let host = |repository: &str| repository.split('/').next().unwrap_or_default().to_owned();
    let hosts = [host(&job.source), host(&job.destination)];
    hosts.iter().flat_map(|host| ["--host".to_owned(), format!("reg={host},tls=disabled")]).collect()
}

/// All tools; crane first, since ratios are relative to it.
pub(super) fn all(tools: &Toolbox, ours: &Path) -> Result<Vec<Contestant>> {
    let program = |tool| Ok::<_, anyhow::Error>(PathBuf::from(tools.command(tool)?.get_program()));
    let crane = program(CRANE)?;
    let contestant = |name, program: &Path, syntax| Contestant { name, program: program.to_owned(), syntax };
    Ok(vec![
        contestant(CRANE_DEFAULT, &crane, Syntax::Crane(&[])),
        contestant("crane -j 32", &crane, Syntax::Crane(&["-j", "32"])),
        contestant("skopeo", &program(SKOPEO)?, Syntax::Skopeo),
        contestant("regctl", &program(REGCTL)?, Syntax::Regctl),
        contestant(OURS, ours, Syntax::Ours(&[])),
        contestant(TRUSTING, ours, Syntax::Ours(&["--trust-destination"])),
    ])
}

/// Builds our own benchmark program in release mode; returns its path.
pub(super) fn build(target: &Path) -> Result<PathBuf> {
    report::line("     building benchmarks/copy in release");
    let mut cargo = command::cargo();
    cargo.current_dir(command::root().join("benchmarks/copy"));
    cargo.args(["build", "--quiet", "--locked", "--release"]).env("CARGO_TARGET_DIR", target);
    command::output(&mut cargo)?;
    Ok(target.join("release/copy-benchmark"))
}
