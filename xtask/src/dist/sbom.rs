//! The SBOM: the crates that are compiled into the program, as CycloneDX 1.6.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::program::Build;
use crate::command;

/// The SBOM of the program with this hash.
pub(super) fn bill_of_materials(build: &Build<'_>, sha256: &str) -> Result<Value> {
    let mut tree = command::cargo();
    // Build scripts and procedural macros run during the build, and none of their code is in the program.
    tree.args(["tree", "--prefix", "none", "--format", "{p}", "--edges", "normal,no-proc-macro"])
        .args(build.selection());
    let tree = command::output(&mut tree)?;
    let mut metadata = command::cargo();
    metadata.args(["metadata", "--format-version", "1", "--locked", "--filter-platform", build.target]);
    let metadata: Value = serde_json::from_str(&command::output(&mut metadata)?)
        .context("cannot parse the metadata of cargo")?;
    let lock = fs::read_to_string(command::root().join("Cargo.lock")).context("cannot read Cargo.lock")?;
    let mut document = document(&tree, &metadata, &lock)?;
    let component = &mut document["metadata"]["component"];
    component["hashes"] = json!([{ "alg": "SHA-256", "content": sha256 }]);
    component["name"] = json!("bp");
    document["metadata"]["timestamp"] = json!(build.commit.time);
    document["serialNumber"] = json!(serial_number(sha256).context("the hash of the program is too short")?);
    Ok(document)
}

/// A crate as `cargo tree` prints it.
type Crate<'a> = (&'a str, &'a str);

fn document(tree: &str, metadata: &Value, lock: &str) -> Result<Value> {
    let compiled: BTreeSet<Crate<'_>> = tree.lines().filter_map(listed).collect();
    let checksums = checksums(lock)?;
    let root = tree.lines().find_map(listed).context("`cargo tree` printed nothing")?;
    let mut components = Vec::new();
    let mut ids = BTreeMap::new();
    for package in metadata["packages"].as_array().context("the metadata of cargo lists no packages")? {
        let text = |member: &str| package[member].as_str().unwrap_or_default();
        let name = (text("name"), text("version"));
        if compiled.contains(&name) {
            ids.insert(text("id"), purl(name));
            components.push((
                name,
                component(name, package, checksums.get(&(name.0.to_owned(), name.1.to_owned()))),
            ));
        }
    }
    let mut dependencies = Vec::new();
    for node in metadata["resolve"]["nodes"].as_array().into_iter().flatten() {
        let Some(purl) = node["id"].as_str().and_then(|id| ids.get(id)) else { continue };
        let needed: BTreeSet<&String> = node["dependencies"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|id| ids.get(id.as_str()?))
            .collect();
        dependencies.push(json!({ "ref": purl, "dependsOn": needed }));
    }
    components.sort_by_key(|(name, _)| *name);
    dependencies.sort_by(|a, b| a["ref"].as_str().cmp(&b["ref"].as_str()));
    let (own, libraries): (Vec<_>, Vec<_>) = components.into_iter().partition(|(name, _)| *name == root);
    let mut own = own.into_iter().next().context("the program is not in the metadata of cargo")?.1;
    own["type"] = json!("application");
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": { "component": own },
        "components": libraries.into_iter().map(|(_, component)| component).collect::<Vec<_>>(),
        "dependencies": dependencies,
    }))
}

/// Name and version in a line of `cargo tree`: `serde v1.0.0 (*)`.
fn listed(line: &str) -> Option<Crate<'_>> {
    let (name, rest) = line.split_once(" v")?;
    Some((name, rest.split(' ').next()?))
}

fn purl((name, version): Crate<'_>) -> String {
    // The only character of a version that a package URL escapes.
    format!("pkg:cargo/{name}@{}", version.replace('+', "%2B"))
}

fn component(name: Crate<'_>, package: &Value, checksum: Option<&String>) -> Value {
    let mut component = json!({
        "type": "library",
        "bom-ref": purl(name),
        "name": name.0,
        "version": name.1,
        "purl": purl(name),
    });
    if let Some(licence) = package["license"].as_str() {
        // Older crates write `MIT/Apache-2.0`, which is not an SPDX expression.
        component["licenses"] = json!([{ "expression": licence.replace('/', " OR ") }]);
    }
    if let Some(checksum) = checksum {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    if let Some(repository) = package["repository"].as_str() {
        component["externalReferences"] = json!([{ "type": "vcs", "url": repository }]);
    }
    component
}

/// The SHA-256 of each crate's archive.
fn checksums(lock: &str) -> Result<BTreeMap<(String, String), String>> {
    #[derive(serde::Deserialize)]
    struct Lock {
        package: Vec<Package>,
    }
    #[derive(serde::Deserialize)]
    struct Package {
        name: String,
        version: String,
        checksum: Option<String>,
    }
    let lock: Lock = toml::from_str(lock).context("cannot parse Cargo.lock")?;
    let checksum = |package: Package| Some(((package.name, package.version), package.checksum?));
    Ok(lock.package.into_iter().filter_map(checksum).collect())
}

/// A UUID (version 8) of the program's hash: the SBOM of equal programs is equal.
fn serial_number(sha256: &str) -> Option<String> {
    let part = |from: usize, to: usize| sha256.get(from..to);
    Some(format!(
        "urn:uuid:{}-{}-8{}-a{}-{}",
        part(0, 8)?,
        part(8, 12)?,
        part(12, 15)?,
        part(15, 18)?,
        part(18, 30)?
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_only_compiled_crates_with_licence_hash_and_dependencies() {
        let tree = "bp-cli v0.1.0 (/src/crates/bp-cli)\nserde v1.0.2+x\nserde v1.0.2+x (*)\n";
        let metadata = json!({
            "packages": [
                { "id": "a", "name": "bp-cli", "version": "0.1.0", "license": "MIT" },
                { "id": "b", "name": "serde", "version": "1.0.2+x", "license": "MIT/Apache-2.0",
                  "repository": "https://example.com/serde" },
                { "id": "c", "name": "cc", "version": "1.0.0" },
            ],
            "resolve": { "nodes": [
                { "id": "a", "dependencies": ["b", "c"] },
                { "id": "b", "dependencies": [] },
                { "id": "c", "dependencies": [] },
            ] },
        });
        let lock = "[[package]]\nname = \"serde\"\nversion = \"1.0.2+x\"\nchecksum = \"00ff\"\n";
        let document = document(tree, &metadata, lock).unwrap();
        assert_eq!(
            document["components"],
            json!([{
                "type": "library",
                "bom-ref": "pkg:cargo/serde@1.0.2%2Bx",
                "name": "serde",
                "version": "1.0.2+x",
                "purl": "pkg:cargo/serde@1.0.2%2Bx",
                "licenses": [{ "expression": "MIT OR Apache-2.0" }],
                "hashes": [{ "alg": "SHA-256", "content": "00ff" }],
                "externalReferences": [{ "type": "vcs", "url": "https://example.com/serde" }],
            }])
        );
        assert_eq!(document["metadata"]["component"]["type"], "application");
        assert_eq!(
            document["dependencies"],
            json!([
                { "ref": "pkg:cargo/bp-cli@0.1.0", "dependsOn": ["pkg:cargo/serde@1.0.2%2Bx"] },
                { "ref": "pkg:cargo/serde@1.0.2%2Bx", "dependsOn": [] },
            ])
        );
    }

    #[test]
    fn the_serial_number_is_a_uuid() {
        let number = serial_number(&"0123456789abcdef".repeat(4)).unwrap();
        assert_eq!(number, "urn:uuid:01234567-89ab-8cde-af01-23456789abcd");
    }
}
