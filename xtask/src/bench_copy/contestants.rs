//! Who copies, and by which command.

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

/// What is to be copied. Both are repositories: `host:port/name`.
pub(super) struct Job<'a> {
    pub(super) set: Set,
    pub(super) tags: &'a [String],
    pub(super) source: String,
    pub(super) destination: String,
    /// A directory for what a program remembers from one command to the next.
    pub(super) memory: PathBuf,
}

pub(super) const CRANE_DEFAULT: &str = "crane";
pub(super) const OURS: &str = "bp-promote";
pub(super) const TRUSTING: &str = "bp-promote, trusting";

/// A program, and how it is told to copy.
pub(super) struct Contestant {
    pub(super) name: &'static str,
    program: PathBuf,
    manner: Manner,
}

#[derive(Clone, Copy)]
enum Manner {
    Ours(&'static [&'static str]),
    Crane(&'static [&'static str]),
    Skopeo,
    Regctl,
}

impl Contestant {
    /// Whether ratios are to this one.
    pub(super) fn reference(&self) -> bool {
        self.name == CRANE_DEFAULT
    }

    pub(super) fn ours(&self) -> bool {
        matches!(self.manner, Manner::Ours(_))
    }

    /// The command that does the job.
    pub(super) fn command(&self, job: &Job<'_>) -> Command {
        let mut command = Command::new(&self.program);
        let Job { set, tags, source, destination, memory } = job;
        let one = |repository: &str| format!("{repository}:{}", tags[0]);
        match (self.manner, set.is_all_tags()) {
            (Manner::Ours(flags), false) => command.args(flags).args([one(source), one(destination)]),
            (Manner::Ours(flags), true) => command.args(flags).args(["--all-tags", source, destination]),
            (Manner::Crane(flags), false) => {
                command.arg("copy").args(flags).args([one(source), one(destination)])
            }
            (Manner::Crane(flags), true) => {
                command.args(["copy", "--all-tags"]).args(flags).args([source, destination])
            }
            (Manner::Skopeo, false) => command
                .args(["--insecure-policy", "copy", "--all", "--preserve-digests"])
                .args(["--src-tls-verify=false", "--dest-tls-verify=false"])
                .args([format!("docker://{}", one(source)), format!("docker://{}", one(destination))]),
            // It adds the source's own last name.
            (Manner::Skopeo, true) => command
                .args(["--insecure-policy", "sync", "--all", "--preserve-digests"])
                .args(["--src-tls-verify=false", "--dest-tls-verify=false"])
                .args(["--src", "docker", "--dest", "docker", source])
                .arg(destination.rsplit_once('/').map_or(destination.as_str(), |(parent, _)| parent)),
            (Manner::Regctl, false) => {
                command.args(plain(job)).args(["image", "copy", &one(source), &one(destination)])
            }
            // It copies one image at a time.
            (Manner::Regctl, true) => {
                let program = self.program.display();
                let flags = plain(job).join(" ");
                let line = format!("{program} {flags} image copy {source}:$tag {destination}:$tag || exit 1");
                command = Command::new("sh");
                command.args(["-c", &format!("for tag in {}; do {line}; done", tags.join(" "))])
            }
        };
        if let Manner::Skopeo = self.manner {
            // It remembers where it has put a blob, and mounts it from there: no copy but the first would be cold.
            command.env("_CONTAINERS_ROOTLESS_UID", "1000").env("XDG_DATA_HOME", memory);
        }
        command
    }
}

/// regctl's words for plain HTTP.
fn plain(job: &Job<'_>) -> Vec<String> {
    let host = |repository: &str| repository.split('/').next().unwrap_or_default().to_owned();
    let hosts = [host(&job.source), host(&job.destination)];
    hosts.iter().flat_map(|host| ["--host".to_owned(), format!("reg={host},tls=disabled")]).collect()
}

/// All of them; crane, to whom the others are compared, first.
pub(super) fn all(tools: &Toolbox, ours: &Path) -> Result<Vec<Contestant>> {
    let program = |tool| Ok::<_, anyhow::Error>(PathBuf::from(tools.command(tool)?.get_program()));
    let crane = program(CRANE)?;
    let contestant = |name, program: &Path, manner| Contestant { name, program: program.to_owned(), manner };
    Ok(vec![
        contestant(CRANE_DEFAULT, &crane, Manner::Crane(&[])),
        contestant("crane -j 32", &crane, Manner::Crane(&["-j", "32"])),
        contestant("skopeo", &program(SKOPEO)?, Manner::Skopeo),
        contestant("regctl", &program(REGCTL)?, Manner::Regctl),
        contestant(OURS, ours, Manner::Ours(&[])),
        contestant(TRUSTING, ours, Manner::Ours(&["--trust-destination"])),
    ])
}

/// Builds our own, as users do; returns its file.
pub(super) fn build(target: &Path) -> Result<PathBuf> {
    report::line("     building benchmarks/copy in release");
    let mut cargo = command::cargo();
    cargo.current_dir(command::root().join("benchmarks/copy"));
    cargo.args(["build", "--quiet", "--locked", "--release"]).env("CARGO_TARGET_DIR", target);
    command::output(&mut cargo)?;
    Ok(target.join("release/copy-benchmark"))
}
