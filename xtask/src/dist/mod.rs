//! `dist`: build what a release consists of: `bp`, its image, checksums, SBOM and provenance.
//!
//! Everything is written into one directory, from a commit without local changes. Nothing is published.

mod image;
mod program;
mod provenance;
mod release;
mod sbom;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use self::{
    program::Build,
    release::{Commit, Released},
};
use crate::{command, report};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Target triple of the program; glibc is linked statically
    #[arg(long, value_name = "TRIPLE", default_value = "x86_64-unknown-linux-gnu")]
    target: String,
    /// Build bp with all features, as bp-full
    #[arg(long)]
    full: bool,
    /// Directory to write to; its previous content is deleted
    #[arg(long, value_name = "DIR", default_value = "target/dist")]
    output: PathBuf,
    /// CA certificates for the image: a PEM file, or a directory of .crt files in PEM
    #[arg(long, value_name = "PATH", default_value = "/usr/share/ca-certificates/mozilla")]
    roots: PathBuf,
    /// URI that identifies who builds, for the provenance
    #[arg(long, value_name = "URI", default_value = "urn:bp:builder:local")]
    builder: String,
    /// Build a second time in another directory, and compare the bytes
    #[arg(long)]
    twice: bool,
    /// Build without optimisation, to try this task: not for a release
    #[arg(long)]
    debug: bool,
}

/// Builds the release; returns whether the second build, if requested, was identical.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    let commit = Commit::current(arguments.debug)?;
    let output = command::root().join(&arguments.output);
    if output.exists() {
        let is_ours = output.join(SUMS).exists() || fs::read_dir(&output)?.next().is_none();
        ensure!(is_ours, "{} is not empty and not a previous release: delete it first", output.display());
        fs::remove_dir_all(&output).with_context(|| format!("cannot delete {}", output.display()))?;
    }
    fs::create_dir_all(&output).with_context(|| format!("cannot create {}", output.display()))?;

    let build =
        Build { target: &arguments.target, full: arguments.full, debug: arguments.debug, commit: &commit };
    let started = now()?;
    let built = build.run(&command::root(), &command::root().join("target/dist-build"))?;
    let program = output.join(build.name());
    fs::copy(&built, &program).with_context(|| format!("cannot copy {}", built.display()))?;
    program::check(&program, &arguments.target)?;
    let finished = now()?;

    let mut released = vec![Released::of(&program)?];
    let sbom = output.join(format!("{}.cdx.json", build.name()));
    write(&sbom, &sbom::bill_of_materials(&build, &released[0].sha256)?)?;
    released.push(Released::of(&sbom)?);
    let image = image::write(&build, &program, &arguments.roots, &output)?;
    let statement = provenance::Statement {
        build: &build,
        builder: &arguments.builder,
        started: &started,
        finished: &finished,
        files: &released,
        image: &image,
    };
    let provenance = output.join(format!("{}.provenance.json", build.name()));
    write(&provenance, &statement.document()?)?;
    released.push(Released::of(&provenance)?);
    let sums: String = released.iter().map(|file| format!("{}  {}\n", file.sha256, file.name)).collect();
    fs::write(output.join(SUMS), &sums).context("cannot write the checksums")?;

    report::line(format_args!("{}", output.display()));
    report::line(sums.trim_end());
    report::line(format_args!("image {image}"));
    if arguments.twice { is_reproducible(&build, &built) } else { Ok(true) }
}

/// The name that `sha256sum --check` is called with.
const SUMS: &str = "SHA256SUMS";

/// Builds in a fresh clone with an own target directory; returns whether the program has the same bytes.
fn is_reproducible(build: &Build<'_>, first: &Path) -> Result<bool> {
    let scratch = command::root().join(format!("target/dist-second-{}", std::process::id()));
    let clone = scratch.join("source");
    command::output(Command::new("git").args(["clone", "--quiet"]).arg(command::root()).arg(&clone))?;
    let second = build.run(&clone, &scratch.join("build"));
    let same = second.and_then(|second| Ok(fs::read(first)? == fs::read(second)?));
    let _ = fs::remove_dir_all(&scratch);
    let same = same?;
    report::line(if same { "second build: identical" } else { "second build: DIFFERENT" });
    Ok(same)
}

fn write(path: &Path, document: &serde_json::Value) -> Result<()> {
    let text = serde_json::to_string_pretty(document)? + "\n";
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The time as in RFC 3339, in UTC.
fn now() -> Result<String> {
    Ok(command::output(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]))?.trim().to_owned())
}
