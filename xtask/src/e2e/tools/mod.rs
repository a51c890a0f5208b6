//! The programs that the scenarios need: pinned, found or installed once, kept in a cache.

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
    /// The tests of a package of the Go module proxy, as a program.
    GoTest { package: &'static str, version: &'static str },
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

pub(crate) const CRANE: Tool = go("crane", "github.com/google/go-containerregistry/cmd/crane", "v0.22.1");
pub(crate) const REGCTL: Tool = go("regctl", "github.com/regclient/regclient/cmd/regctl", "v0.11.7");
pub(crate) const DISTRIBUTION: Tool =
    go("registry", "github.com/distribution/distribution/v3/cmd/registry", "v3.1.2");
/// The official suite of the distribution specification, at the latest state that the proxy and its checksum database know.
pub(crate) const CONFORMANCE: Tool = Tool {
    program: "conformance",
    source: Source::GoTest {
        package: "github.com/opencontainers/distribution-spec/conformance",
        version: "v0.0.0-20230516164017-7fcdf80f3c8b",
    },
};
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
/// The interpreter of an environment that has the library.
pub(crate) const IN_TOTO: Tool =
    Tool { program: "python", source: Source::Python { requirement: "in-toto-attestation==0.9.3" } };
pub(crate) const MOTO: Tool =
    Tool { program: "moto_server", source: Source::Python { requirement: "moto[server]==5.2.5" } };
pub(crate) const FERRO: Tool =
    Tool { program: "ferro-oci-server", source: Source::Crate { version: "1.0.0" } };

/// Programs that are not there and cannot be had here, and what to do about it.
#[derive(Debug)]
pub(crate) struct Lacking(Vec<Want>);

/// What a program cannot be had without.
#[derive(Clone, Copy, Debug)]
struct Want {
    program: &'static str,
    needed: &'static str,
    remedy: &'static str,
}

impl From<Want> for Lacking {
    fn from(want: Want) -> Self {
        Lacking(vec![want])
    }
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Want { program, needed, remedy } in &self.0 {
            write!(f, "\n     {program} needs {needed}: {remedy}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Lacking {}

/// Where programs are kept.
#[derive(clap::Args)]
pub(crate) struct Cache {
    /// Where installed programs are kept between runs
    #[arg(long, value_name = "DIR", env = "BP_E2E_CACHE")]
    cache: Option<PathBuf>,
}

impl Cache {
    /// What finds programs there, and installs them.
    pub(crate) fn open(&self) -> Result<Toolbox> {
        let cache = self.cache.clone().unwrap_or_else(|| command::root().join("target/e2e/tools"));
        fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
        Ok(Toolbox { cache: cache.canonicalize()? })
    }
}

/// Finds programs, or installs them.
pub(crate) struct Toolbox {
    cache: PathBuf,
}

impl Toolbox {
    /// A command that runs the tool.
    pub(crate) fn command(&self, tool: Tool) -> Result<Command> {
        Ok(Command::new(self.find(tool)?))
    }

    /// Makes sure that all are there, before anything is started; tells everything that is lacking, not the first alone.
    pub(crate) fn require(&self, tools: &[Tool]) -> Result<()> {
        let lacking: Vec<Want> = tools.iter().filter_map(|tool| self.lacking(*tool)).collect();
        if !lacking.is_empty() {
            return Err(Lacking(lacking).into());
        }
        tools.iter().try_for_each(|tool| self.find(*tool).map(drop))
    }

    /// What the tool cannot be had without, if it is not here yet.
    fn lacking(&self, tool: Tool) -> Option<Want> {
        if self.found(tool).is_some() {
            return None;
        }
        match tool.source {
            Source::Go { .. } | Source::GoTest { .. } | Source::Kubernetes => Self::lacks_go(tool.program),
            Source::Unpacked { .. } | Source::Debian { .. } => debian::lacks_apt(tool.program),
            Source::Python { .. } => python::lacks_python(tool.program),
            Source::Crate { .. } => None,
        }
    }

    /// Where the tool is; installed when it was not there.
    fn find(&self, tool: Tool) -> Result<PathBuf> {
        if let Some(found) = self.found(tool) {
            return Ok(found);
        }
        // Two runs may share the cache.
        let lock = File::create(self.cache.join("lock"))?;
        lock.lock()?;
        if let Some(found) = self.found(tool) {
            return Ok(found);
        }
        let (installed, took) = clock::timed(|| self.install(tool));
        installed?;
        let found = self.found(tool);
        let found = found.with_context(|| format!("the installation of {} left no program", tool.program))?;
        report::line(format_args!("     installed {} ({:.0} s)", tool.program, took.as_secs_f64()));
        Ok(found)
    }

    /// Where the tool is, if it is.
    fn found(&self, tool: Tool) -> Option<PathBuf> {
        let place = self.place(tool);
        match tool.source {
            Source::Debian { .. } | Source::Unpacked { .. } if !place.exists() => in_path(tool.program),
            Source::Python { requirement } if !self.is_whole(requirement) => None,
            _ => place.exists().then_some(place),
        }
    }

    /// Where the tool is kept, its version in the name.
    fn place(&self, tool: Tool) -> PathBuf {
        let program = tool.program;
        match tool.source {
            Source::Go { version, .. } | Source::GoTest { version, .. } => {
                self.cache.join(format!("{program}-{version}/{program}"))
            }
            Source::Kubernetes => self.kubernetes().join("bin").join(program),
            Source::Unpacked { package } => self.cache.join(package).join("usr/bin").join(program),
            Source::Debian { .. } => Path::new("/usr/bin").join(program),
            Source::Python { requirement } => self.environment(requirement).join("bin").join(program),
            Source::Crate { version } => self.cache.join(format!("{program}-{version}/bin/{program}")),
        }
    }

    fn install(&self, tool: Tool) -> Result<()> {
        match tool.source {
            Source::Go { package, version } => {
                let to = self.cache.join(format!("{}-{version}", tool.program));
                self.go_install(tool.program, &format!("{package}@{version}"), &to)
            }
            Source::GoTest { package, version } => self.go_test(
                tool.program,
                package,
                version,
                &self.cache.join(format!("{}-{version}", tool.program)),
            ),
            Source::Kubernetes => self.build_kubernetes(tool.program),
            Source::Unpacked { package } => self.unpack(package),
            Source::Debian { package } => self.apt_install(package),
            Source::Python { requirement } => self.python(tool.program, requirement).map(drop),
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
                // Not optimised, which is half the work. Its own target directory: the workspace's would be locked, and
                // rebuilt for other flags.
                cargo.arg(root).env("CARGO_TARGET_DIR", self.cache.join("target"));
                retried(&mut cargo)
            }
        }
    }
}

/// Runs an installation up to three times: most failures are the network's.
fn retried(command: &mut Command) -> Result<()> {
    let limit = Duration::from_secs(30 * 60);
    for pause in [5, 30] {
        match command::output_within(limit, command) {
            Ok(_) => return Ok(()),
            Err(error) => report::line(format_args!("     again in {pause} s: {error:#}")),
        }
        clock::pause(Duration::from_secs(pause));
    }
    command::output_within(limit, command).map(drop)
}

/// The program in PATH.
fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
}
