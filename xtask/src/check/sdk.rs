//! Check: the members and enum values of the AWS SDKs that this project reads or writes are those that were reviewed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context, Result};

use super::{finding::Finding, workspace::Workspace};

/// The reviewed members and values, one per line.
const LIST: &str = "xtask/sdk-members.txt";
/// The SDK crates.
const SDKS: [&str; 3] = ["aws-sdk-ecr", "aws-sdk-ecs", "aws-sdk-eks"];

pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let reviewed = fs::read_to_string(workspace.path(LIST)).unwrap_or_default();
    let reviewed: BTreeSet<&str> = reviewed.lines().filter(|line| !line.starts_with('#')).collect();
    let found = members(workspace)?;
    let found: BTreeSet<&str> = found.iter().map(String::as_str).collect();
    let added = found.difference(&reviewed).map(|line| {
        Finding::failure(format!(
            "{line} is new: decide whether it must be read, kept or refused, then run `cargo xtask sdk-members`"
        ))
    });
    let removed = reviewed.difference(&found).map(|line| {
        Finding::failure(format!("{line} no longer exists or is not used: run `cargo xtask sdk-members`"))
    });
    Ok(added.chain(removed).collect())
}

/// Writes the list.
pub(super) fn write(workspace: &Workspace) -> Result<bool> {
    let mut text = String::from(
        "# Members and enum values of the AWS SDKs in the operations that this project calls.\n\
         # Written by `cargo xtask sdk-members`, compared by `cargo xtask check sdk`.\n",
    );
    for line in members(workspace)? {
        text.push_str(&line);
        text.push('\n');
    }
    fs::write(workspace.path(LIST), text).with_context(|| format!("cannot write {LIST}"))?;
    Ok(true)
}

/// The members and values of the locked SDKs, sorted.
fn members(workspace: &Workspace) -> Result<BTreeSet<String>> {
    let calls = calls(workspace)?;
    let mut all = BTreeSet::new();
    for sdk in SDKS {
        let package = workspace.packages().iter().find(|package| package.name == sdk);
        let source = package.and_then(|package| package.library()?.parent());
        let source = source.with_context(|| format!("{sdk} is not a dependency"))?;
        let shapes = Shapes::read(source)?;
        let service = sdk.trim_start_matches("aws-sdk-");
        all.extend(shapes.reachable(&calls).into_iter().map(|line| format!("{service} {line}")));
    }
    Ok(all)
}

/// The methods without arguments that the libraries call, among which are the operations of the SDKs.
fn calls(workspace: &Workspace) -> Result<BTreeSet<String>> {
    let mut calls = BTreeSet::new();
    for file in workspace.files("rs").filter(|file| is_library_source(file)) {
        let text = workspace.text(file)?.unwrap_or_default();
        calls.extend(methods(&text).map(str::to_owned));
    }
    Ok(calls)
}

/// Sources of the libraries, except the sandbox, which has no SDK client.
fn is_library_source(file: &Path) -> bool {
    let parts: Vec<_> = file.iter().map(|part| part.to_string_lossy()).collect();
    matches!(parts.as_slice(), [crates, name, src, ..] if crates == "crates" && src == "src" && name != "bp-sandbox")
}

/// The names in `.name()`.
fn methods(text: &str) -> impl Iterator<Item = &str> {
    text.split("()").filter_map(|before| {
        let name =
            before.rsplit(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')).next()?;
        let is_method = before[..before.len() - name.len()].ends_with('.');
        (is_method && !name.is_empty()).then_some(name)
    })
}

/// A structure, union or enumeration of generated code.
#[derive(Debug, Default, PartialEq)]
struct Shape {
    /// Its members or values.
    members: Vec<String>,
    /// The types of its members.
    types: BTreeSet<String>,
}

/// The shapes of an SDK.
#[derive(Debug, Default)]
struct Shapes {
    types: BTreeMap<String, Shape>,
    /// Inputs and outputs, by operation.
    operations: BTreeMap<String, Vec<(String, Shape)>>,
}

impl Shapes {
    fn read(source: &Path) -> Result<Self> {
        let mut shapes = Shapes::default();
        for file in files(&source.join("types"))?.iter().filter(|path| path.is_file()) {
            shapes.types.extend(parse(&fs::read_to_string(file)?));
        }
        for directory in files(&source.join("operation"))?.iter().filter(|path| path.is_dir()) {
            let operation = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
            for end in ["input", "output"] {
                let file = directory.join(format!("_{operation}_{end}.rs"));
                if let Ok(text) = fs::read_to_string(file) {
                    shapes.operations.entry(operation.clone()).or_default().extend(parse(&text));
                }
            }
        }
        Ok(shapes)
    }

    /// The members of the called operations, and of the types that they contain.
    fn reachable(&self, calls: &BTreeSet<String>) -> BTreeSet<String> {
        let mut lines = BTreeSet::new();
        let mut left: Vec<&str> = Vec::new();
        let mut seen = BTreeSet::new();
        let called = self.operations.iter().filter(|(operation, _)| calls.contains(*operation));
        for (name, shape) in called.flat_map(|(_, shapes)| shapes) {
            lines.extend(shape.members.iter().map(|member| format!("{name}{member}")));
            left.extend(shape.types.iter().map(String::as_str));
        }
        while let Some(name) = left.pop() {
            let Some(shape) = self.types.get(name).filter(|_| seen.insert(name)) else { continue };
            lines.extend(shape.members.iter().map(|member| format!("{name}{member}")));
            left.extend(shape.types.iter().map(String::as_str));
        }
        lines
    }
}

/// The entries of a directory, sorted.
fn files(directory: &Path) -> Result<Vec<std::path::PathBuf>> {
    let read = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut paths = read.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.is_dir() || path.extension().is_some_and(|extension| extension == "rs"));
    paths.sort();
    Ok(paths)
}

/// The first type of a generated file: members as `.name`, enum values as ` = VALUE`.
fn parse(text: &str) -> Option<(String, Shape)> {
    let kinds = ["\npub struct ", "\npub enum "];
    let at = kinds.iter().filter_map(|kind| Some((text.find(kind)?, kind.len()))).min()?;
    let rest = &text[at.0 + at.1..];
    let name = rest.split([' ', '<', '(', ';']).next()?.to_owned();
    if rest.lines().next().is_some_and(|line| line.ends_with("{}")) {
        return Some((name, Shape::default()));
    }
    let body = rest.split_once("{\n")?.1.split_once("\n}")?.0;
    let mut shape = Shape::default();
    for line in body.lines().map(str::trim) {
        let member = line.strip_prefix("pub ").or_else(|| line.strip_prefix("pub(crate) "));
        if let Some((member, kind)) = member.and_then(|member| member.split_once(": ")) {
            // Set by the SDK, not by the service.
            if !member.starts_with('_') {
                shape.members.push(format!(".{member}"));
            }
            shape.types.extend(types(kind));
        } else if let Some((variant, kind)) = line.split_once('(').filter(|_| !line.starts_with(['/', '#'])) {
            // A member of a union.
            if !kind.contains("UnknownVariantValue") {
                shape.members.push(format!(".{variant}"));
            }
            shape.types.extend(types(kind));
        }
    }
    let value = format!("=> {name}::");
    for line in text.lines().map(str::trim).filter(|line| line.contains(&value)) {
        if let Some((value, _)) = line.strip_prefix('"').and_then(|line| line.split_once('"')) {
            shape.members.push(format!(" = {value}"));
        }
    }
    Some((name, shape))
}

/// The names after `crate::types::`.
fn types(kind: &str) -> impl Iterator<Item = String> {
    kind.split("crate::types::").skip(1).filter_map(|rest| {
        let name = rest.split(|c: char| !c.is_ascii_alphanumeric()).next()?;
        (!name.is_empty()).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRUCTURE: &str = "// Generated\n\n/// <p>Text.</p>\n#[non_exhaustive]\npub struct Service {\n    /// <p>A name.</p>\n    pub service_name: ::std::option::Option<::std::string::String>,\n    pub deployments: ::std::option::Option<::std::vec::Vec<crate::types::Deployment>>,\n    _request_id: Option<String>,\n}\nimpl Service {\n    pub fn x(&self) {}\n}\n";
    const ENUMERATION: &str = "\npub enum Strategy {\n    #[allow(missing_docs)] // documentation missing in model\n    BlueGreen,\n    #[allow(missing_docs)] // documentation missing in model\n    Rolling,\n    Unknown(crate::primitives::sealed_enum_unknown::UnknownVariantValue),\n}\nimpl From<&str> for Strategy {\n    fn from(s: &str) -> Self {\n        match s {\n            \"BLUE_GREEN\" => Strategy::BlueGreen,\n            \"ROLLING\" => Strategy::Rolling,\n        }\n    }\n}\n";

    #[test]
    fn reads_members_and_their_types() {
        let (name, shape) = parse(STRUCTURE).unwrap();
        assert_eq!(
            (name.as_str(), shape.members),
            ("Service", vec![".service_name".into(), ".deployments".into()])
        );
        assert_eq!(shape.types, BTreeSet::from(["Deployment".to_owned()]));
    }

    #[test]
    fn an_empty_structure_has_no_members() {
        let text = "\npub struct Input {}\nimpl Input {\n    pub fn builder() -> Builder {\n        a(b)\n    }\n}\n";
        assert_eq!(parse(text), Some(("Input".to_owned(), Shape::default())));
    }

    #[test]
    fn reads_enum_values() {
        let (name, shape) = parse(ENUMERATION).unwrap();
        assert_eq!(
            (name.as_str(), shape.members),
            ("Strategy", vec![" = BLUE_GREEN".into(), " = ROLLING".into()])
        );
    }

    #[test]
    fn lists_only_shapes_of_called_operations() {
        let shape = |members: &[&str], types: &[&str]| Shape {
            members: members.iter().map(ToString::to_string).collect(),
            types: types.iter().map(ToString::to_string).collect(),
        };
        let shapes = Shapes {
            types: BTreeMap::from([
                ("Service".into(), shape(&[".name"], &["Strategy"])),
                ("Strategy".into(), shape(&[" = ROLLING"], &[])),
                ("Other".into(), shape(&[".x"], &[])),
            ]),
            operations: BTreeMap::from([
                (
                    "describe_services".into(),
                    vec![("DescribeServicesOutput".into(), shape(&[".services"], &["Service"]))],
                ),
                ("other".into(), vec![("OtherOutput".into(), shape(&[".other"], &["Other"]))]),
            ]),
        };
        let calls = methods("self.client().describe_services().cluster(name)").map(str::to_owned).collect();
        let lines: Vec<String> = shapes.reachable(&calls).into_iter().collect();
        assert_eq!(lines, ["DescribeServicesOutput.services", "Service.name", "Strategy = ROLLING"]);
    }

    #[test]
    fn finds_calls_without_arguments() {
        let found: Vec<&str> = methods("self.client().list_tasks().cluster(x); free(); a.b(1).c()").collect();
        assert_eq!(found, ["client", "list_tasks", "c"]);
    }
}
