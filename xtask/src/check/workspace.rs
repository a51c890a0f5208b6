//! Packages and files of the workspace, from cargo and git.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::command;

/// Packages and files that the checks read.
pub(super) struct Workspace {
    root: PathBuf,
    metadata: Metadata,
    /// Tracked and untracked, not ignored files, relative to the root.
    files: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    target_directory: PathBuf,
}

/// A package of the dependency graph.
#[derive(Deserialize)]
pub(super) struct Package {
    id: String,
    pub(super) name: String,
    pub(super) version: String,
    pub(super) license: Option<String>,
    pub(super) source: Option<String>,
    pub(super) dependencies: Vec<Dependency>,
    pub(super) features: std::collections::BTreeMap<String, Vec<String>>,
    targets: Vec<Target>,
    /// The registries that accept the package; empty if it is not published, `None` if all do.
    publish: Option<Vec<String>>,
}

/// A dependency declared in a manifest.
#[derive(Deserialize)]
pub(super) struct Dependency {
    pub(super) name: String,
    /// `None` for a normal dependency, otherwise `dev` or `build`.
    pub(super) kind: Option<String>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
    src_path: PathBuf,
}

impl Workspace {
    pub(super) fn load() -> Result<Self> {
        let metadata =
            command::output(command::cargo().args(["metadata", "--format-version=1", "--locked"]))?;
        let metadata =
            serde_json::from_str(&metadata).context("cannot parse the output of cargo metadata")?;
        let root = command::root();
        let listed = command::output(Command::new("git").current_dir(&root).args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
        ]))?;
        // A file that was deleted but not committed yet is still listed.
        let files = listed.lines().map(PathBuf::from).filter(|file| root.join(file).is_file()).collect();
        Ok(Workspace { root, metadata, files })
    }

    /// Packages of the workspace.
    pub(super) fn members(&self) -> impl Iterator<Item = &Package> {
        let is_member = |package: &&Package| self.metadata.workspace_members.contains(&package.id);
        self.metadata.packages.iter().filter(is_member)
    }

    /// The libraries that are published.
    pub(super) fn libraries(&self) -> impl Iterator<Item = &Package> {
        self.members().filter(|member| member.library().is_some() && member.publish.is_none())
    }

    /// The target directory of this build.
    pub(super) fn target(&self) -> &Path {
        &self.metadata.target_directory
    }

    /// Every package of the locked graph, for all targets.
    pub(super) fn packages(&self) -> &[Package] {
        &self.metadata.packages
    }

    /// The files that end in `extension`, relative to the root.
    pub(super) fn files(&self, extension: &str) -> impl Iterator<Item = &Path> {
        let wanted = move |file: &&Path| file.extension().is_some_and(|found| found == extension);
        self.all_files().filter(wanted)
    }

    /// Every file, relative to the root.
    pub(super) fn all_files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(PathBuf::as_path)
    }

    /// The absolute path of a file of the repository.
    pub(super) fn path(&self, file: impl AsRef<Path>) -> PathBuf {
        self.root.join(file)
    }

    /// The text of a file; `None` if it is not valid UTF-8.
    pub(super) fn text(&self, file: &Path) -> Result<Option<String>> {
        let bytes = fs::read(self.path(file)).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(String::from_utf8(bytes).ok())
    }
}

impl Package {
    /// The source file of the package's library, if any.
    pub(super) fn library(&self) -> Option<&Path> {
        let is_library = |target: &&Target| target.kind.iter().any(|kind| kind == "lib");
        self.targets.iter().find(is_library).map(|target| target.src_path.as_path())
    }

    /// Whether the package has an example target.
    pub(super) fn has_example(&self) -> bool {
        self.targets.iter().any(|target| target.kind.iter().any(|kind| kind == "example"))
    }
}
