//! Our copies between real registries, read back by crane.

use std::{fs, time::Duration};

use anyhow::{Result, ensure};

use super::{
    super::{library::Library, sandbox::World, stage::Stage},
    probe::sha256,
    servers::{CURRENT, DEBIAN, DEBIAN_TOO, FERRO_OCI, Registry, SANDBOX},
};
use crate::command;

/// From where to where: each server once a source and once a target, ours among them.
const WAYS: [(&str, &str); 5] = [
    (SANDBOX, DEBIAN),
    (DEBIAN, DEBIAN_TOO),
    (DEBIAN_TOO, CURRENT),
    (CURRENT, FERRO_OCI),
    (FERRO_OCI, SANDBOX),
];

pub(super) fn run(stage: &mut Stage, registries: &[Registry], world: &World) -> Result<()> {
    let library = stage.library()?;
    let address =
        |name: &str| registries.iter().find(|registry| registry.name == name).map(|r| r.address.as_str());
    for (from, to) in WAYS {
        let (Some(source), Some(target)) = (address(from), address(to)) else { continue };
        let way = Way { library: &library, world, source, target };
        let server = format!("{from} -> {to}");
        let mut scenario = |name: &str, body: fn(&Way<'_>) -> Result<String>| {
            stage.table.scenario(&server, name, || {
                way.prepare()?;
                body(&way)
            });
        };
        scenario("bp-promote copies an index, again, and through a layout", copies);
        scenario("bp-promote and skopeo read each other's archives", archives);
        scenario("bp-promote copies what refers to the image", refers);
        scenario("bp-promote names what is missing, and copies nothing", misses);
        scenario("emit-artifact and promote carry a tag by its digest, twice", promotes);
        scenario("promote does not carry a digest that is not there", is_not_promoted);
    }
    Ok(())
}

const LIMIT: Duration = Duration::from_secs(180);

/// From one registry to another.
struct Way<'a> {
    library: &'a Library,
    world: &'a World,
    source: &'a str,
    target: &'a str,
}

impl Way<'_> {
    /// Puts the image into the source, with another client than ours.
    fn prepare(&self) -> Result<()> {
        let image = self.world.image();
        let original = format!("{}/{}:{}", self.world.plain_registry()?, image.repository, image.tag);
        self.crane(&["copy", &original, &format!("{}/shop/web:1", self.source)]).map(drop)
    }

    fn crane(&self, arguments: &[&str]) -> Result<String> {
        command::output_within(LIMIT, &mut self.world.crane(arguments))
    }

    fn regctl(&self, arguments: &[&str]) -> Result<String> {
        let mut regctl = self.world.regctl(arguments);
        for address in [self.source, self.target] {
            regctl.args(["--host", &format!("reg={address},tls=disabled")]);
        }
        command::output_within(LIMIT, &mut regctl)
    }

    fn skopeo(&self, image: &str) -> Result<String> {
        let image = format!("docker://{image}");
        let inspect = ["inspect", "--raw", "--tls-verify=false", &image];
        command::output_within(LIMIT, &mut self.world.skopeo(&inspect))
    }

    /// Runs a test of our packages between the two.
    fn run(&self, test: &str) -> Result<()> {
        let environment = vec![
            ("BP_E2E_SOURCE", self.source.into()),
            ("BP_E2E_TARGET", self.target.into()),
            ("BP_E2E_DIGEST", (&self.world.image().digest).into()),
            ("BP_E2E_ARCHIVES", self.world.home().into()),
        ];
        self.library.run(&format!("registries::{test}"), &environment)
    }

    /// That crane and skopeo find at `repository:1` what is at the source, byte for byte.
    fn same(&self, repository: &str) -> Result<()> {
        let image = self.world.image();
        let copy = format!("{}/{repository}:1", self.target);
        let digest = self.crane(&["digest", &copy])?;
        ensure!(digest.trim() == image.digest, "crane finds {} at {copy}", digest.trim());
        self.crane(&["validate", "--remote", &copy])?;
        let manifest = self.skopeo(&copy)?;
        ensure!(manifest == self.skopeo(&format!("{}/shop/web:1", self.source))?, "skopeo reads other bytes");
        ensure!(sha256(manifest.as_bytes()) == image.digest, "skopeo reads {manifest} at {copy}");
        Ok(())
    }
}

fn copies(way: &Way<'_>) -> Result<String> {
    way.run("copies_an_index_twice_and_through_a_layout")?;
    way.same("copied/web")?;
    way.same("layout/web")?;
    Ok(String::new())
}

/// skopeo pushes what is in our archive, and we what is in its own.
fn archives(way: &Way<'_>) -> Result<String> {
    let place = |name: &str| way.world.home().join(name);
    let copy = |from: &str, to: &str| {
        let plain = ["--src-tls-verify=false", "--dest-tls-verify=false"];
        let mut skopeo =
            way.world.skopeo(&["copy", "--all", "--preserve-digests", plain[0], plain[1], from, to]);
        command::output_within(LIMIT, &mut skopeo).map(drop)
    };
    for name in ["ours.tar", "theirs.tar"] {
        // Left from another pair.
        let _ = fs::remove_file(place(name));
    }
    let theirs = format!("oci-archive:{}:1", place("theirs.tar").display());
    copy(&format!("docker://{}/shop/web:1", way.source), &theirs)?;
    way.run("exchanges_archives_with_another_tool")?;
    way.same("theirs/web")?;
    let ours = format!("oci-archive:{}:1", place("ours.tar").display());
    copy(&ours, &format!("docker://{}/ours/web:1", way.target))?;
    way.same("ours/web")?;
    Ok(String::new())
}

/// regctl attaches a document, we copy, and regctl finds it there: by the referrers API, or by the fallback's tag.
fn refers(way: &Way<'_>) -> Result<String> {
    let (source, target) = (format!("{}/shop/web:1", way.source), format!("{}/referred/web:1", way.target));
    let document = way.world.home().join("sbom.json");
    fs::write(&document, format!("{{\"of\":\"{}\"}}", way.source))?;
    let file = document.to_string_lossy();
    let kind = "application/spdx+json";
    way.regctl(&["artifact", "put", "--artifact-type", kind, "--subject", &source, "-f", &file])?;
    way.run("copies_referrers_of_an_image")?;
    way.same("referred/web")?;
    let listed = |image: &str| way.regctl(&["artifact", "list", "--format", "{{json .Descriptors}}", image]);
    ensure!(listed(&source)? == listed(&target)?, "regctl lists other referrers at {target}");
    let read =
        way.regctl(&["artifact", "get", "--subject", &target, "--filter-artifact-type", kind, "--latest"])?;
    ensure!(read == fs::read_to_string(&document)?, "regctl reads {read} at {target}");
    Ok(String::new())
}

fn misses(way: &Way<'_>) -> Result<String> {
    way.run("a_missing_source_image_changes_nothing")?;
    let mut list = way.world.crane(&["ls", &format!("{}/missing/web", way.target)]);
    let listed = command::ended_within(LIMIT, &mut list)?;
    ensure!(listed.stdout.trim().is_empty(), "a copy of nothing left {:?}", listed.stdout);
    Ok(String::new())
}

fn promotes(way: &Way<'_>) -> Result<String> {
    way.run("a_tag_becomes_an_artifact_and_is_promoted_twice")?;
    way.same("promoted/web")?;
    Ok(String::new())
}

fn is_not_promoted(way: &Way<'_>) -> Result<String> {
    way.run("a_digest_that_is_not_there_is_not_promoted").map(|()| String::new())
}
