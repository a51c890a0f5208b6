//! The program: statically linked, without paths of the machine that built it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::release::Commit;
use crate::{clock, command, report};

const LIMIT: Duration = Duration::from_secs(4 * 3600);

/// How the program is built.
pub(super) struct Build<'a> {
    pub(super) target: &'a str,
    pub(super) full: bool,
    pub(super) debug: bool,
    pub(super) commit: &'a Commit,
}

impl Build<'_> {
    /// The name of the released file, which contains the target.
    pub(super) fn name(&self) -> String {
        format!("{}-{}", if self.full { "bp-full" } else { "bp" }, self.target)
    }

    /// The arguments of cargo that select the package and its features.
    pub(super) fn selection(&self) -> Vec<&str> {
        let mut selection = vec!["--locked", "--package", "bp-cli", "--target", self.target];
        if self.full {
            selection.extend(["--features", "full"]);
        }
        selection
    }

    /// Builds the source in `root` into `target`, and returns the program's path.
    pub(super) fn run(&self, root: &Path, target: &Path) -> Result<PathBuf> {
        let home = cargo_home()?;
        // In panics and debug information, Rust and C alike, the source is /bp and its dependencies are /cargo.
        let paths = [(root, "/bp"), (&home, "/cargo"), (target, "/build")];
        let [rust, c] = ["--remap-path-prefix=", "-ffile-prefix-map="]
            .map(|flag| paths.map(|(from, to)| format!("{flag}{}={to}", from.display())).join(" "));
        let variable = self.target.replace('-', "_");
        let mut cargo = command::cargo();
        cargo
            .current_dir(root)
            .env("CARGO_TARGET_DIR", target)
            .env("CARGO_INCREMENTAL", "0")
            .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
            .env("CARGO_PROFILE_DEV_STRIP", "symbols")
            .env("SOURCE_DATE_EPOCH", &self.commit.epoch)
            .env(format!("CFLAGS_{variable}"), c)
            .env(
                format!("CARGO_TARGET_{}_RUSTFLAGS", variable.to_uppercase()),
                format!("-C target-feature=+crt-static {rust}"),
            )
            .env_remove("RUSTFLAGS")
            .arg("build")
            .args(self.selection());
        if !self.debug {
            cargo.arg("--release");
        }
        report::line(format_args!("     {}", command::show(&cargo)));
        let (built, took) = clock::timed(|| command::output_within(LIMIT, &mut cargo));
        built?;
        report::line(format_args!("     {:.1} min", took.as_secs_f64() / 60.0));
        let profile = if self.debug { "debug" } else { "release" };
        Ok(target.join(self.target).join(profile).join("bp"))
    }
}

/// Where cargo keeps the sources of dependencies.
fn cargo_home() -> Result<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let default = || Some(PathBuf::from(env::var_os("HOME")?).join(".cargo"));
    home.or_else(default).context("neither CARGO_HOME nor HOME is set")
}

/// Checks that the program is linked statically and, if it can run here, that it starts.
pub(super) fn check(program: &Path, target: &str) -> Result<()> {
    let bytes = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let interpreter =
        interpreter(&bytes).with_context(|| format!("{} is not an ELF file", program.display()))?;
    ensure!(
        !interpreter,
        "{} needs a dynamic linker, so it would not run in an empty image",
        program.display()
    );
    if target.starts_with(env::consts::ARCH) {
        command::output(Command::new(program).arg("--version"))?;
    }
    Ok(())
}

/// Whether a 64-bit little-endian ELF file requests a dynamic linker (a program header `PT_INTERP`); `None` if it is not
/// such a file.
fn interpreter(file: &[u8]) -> Option<bool> {
    const PT_INTERP: u32 = 3;
    let field = |at: usize, size: usize| -> Option<u64> {
        let bytes = file.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    if file.get(..6)? != [0x7f, b'E', b'L', b'F', 2, 1] {
        return None;
    }
    let (start, size, count) = (field(0x20, 8)?, field(0x36, 2)?, field(0x38, 2)?);
    let mut found = false;
    for index in 0..count {
        let header = usize::try_from(start.checked_add(index * size)?).ok()?;
        found |= field(header, 4)? == u64::from(PT_INTERP);
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::interpreter;

    /// An ELF file with a program header of each type.
    fn elf(types: &[u32]) -> Vec<u8> {
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1]);
        file[0x20] = 64;
        file[0x36] = 56;
        file[0x38] = u8::try_from(types.len()).unwrap();
        for kind in types {
            file.extend(kind.to_le_bytes());
            file.extend([0; 52]);
        }
        file
    }

    #[test]
    fn finds_the_dynamic_linker_of_a_program() {
        assert_eq!(interpreter(&elf(&[1, 3, 2])), Some(true));
        assert_eq!(interpreter(&elf(&[1, 2])), Some(false));
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(interpreter(&own), Some(true));
    }

    #[test]
    fn rejects_what_is_not_an_elf_file() {
        for file in [&b""[..], b"#!/bin/sh\n", &elf(&[1, 3])[..100]] {
            assert_eq!(interpreter(file), None);
        }
    }
}
