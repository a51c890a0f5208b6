//! Copies by bp-promote between real registries, verified with crane, skopeo and regctl.

use std::{fs, time::Duration};

use anyhow::{Result, ensure};

use super::{
    super::{library::Library, sandbox::SandboxServer, test_run::TestRun},
    probe::sha256,
    servers::{CURRENT, DEBIAN, DEBIAN_TOO, FERRO_OCI, Registry, SANDBOX},
};
use crate::command;

/// Source and target: each server once a source and once a target, including the sandbox.
const PAIRS: [(&str, &str); 5] = [
    (SANDBOX, DEBIAN),
    (DEBIAN, DEBIAN_TOO),
    (DEBIAN_TOO, CURRENT),
    (CURRENT, FERRO_OCI),
    (FERRO_OCI, SANDBOX),
];

pub(super) fn run(test_run: &mut TestRun, registries: &[Registry], sandbox: &SandboxServer) -> Result<()> {
    let library = test_run.library()?;
    let address =
        |name: &str| registries.iter().find(|registry| registry.name == name).map(|r| r.address.as_str());
    for (from, to) in PAIRS {
        let (Some(source), Some(target)) = (address(from), address(to)) else { continue };
        let pair = Pair { library: &library, sandbox, source, target };
        let server = format!("{from} -> {to}");
        let mut scenario = |name: &str, body: fn(&Pair<'_>) -> Result<String>| {
            test_run.table.scenario(&server, name, || {
                pair.prepare()?;
                body(&pair)
            });
        };
        scenario("bp-promote copies an index, copies it again, and through a layout", copies);
        scenario("bp-promote and skopeo read each other's archives", archives);
        scenario("bp-promote copies the referrers of an image", refers);
        scenario("bp-promote reports a missing image, and copies nothing", misses);
        scenario("emit-artifact and promote copy a tag by its digest, twice", promotes);
        scenario("promote rejects a digest that does not exist", is_not_promoted);
    }
    Ok(())
}

const LIMIT: Duration = Duration::from_secs(180);

/// A source and a target registry.
struct Pair<'a> {
    library: &'a Library,
    sandbox: &'a SandboxServer,
    source: &'a str,
    target: &'a str,
}

impl Pair<'_> {
    /// Pushes the image to the source with crane.
    fn prepare(&self) -> Result<()> {
        let image = self.sandbox.image();
        let original = format!("{}/{}:{}", self.sandbox.plain_registry()?, image.repository, image.tag);
        self.crane(&["copy", &original, &format!("{}/shop/web:1", self.source)]).map(drop)
    }

    fn crane(&self, arguments: &[&str]) -> Result<String> {
        command::output_within(LIMIT, &mut self.sandbox.crane(arguments))
    }

    fn regctl(&self, arguments: &[&str]) -> Result<String> {
        let mut regctl = self.sandbox.regctl(arguments);
        for address in [self.source, self.target] {
            regctl.args(["--host", &format!("reg={address},tls=disabled")]);
        }
        command::output_within(LIMIT, &mut regctl)
    }

    fn skopeo(&self, image: &str) -> Result<String> {
        let image = format!("docker://{image}");
        let inspect = ["inspect", "--raw", "--tls-verify=false", &image];
        command::output_within(LIMIT, &mut self.sandbox.skopeo(&inspect))
    }

    /// Runs a test of our packages with this source and target.
    fn run(&self, test: &str) -> Result<()> {
        let environment = vec![
            ("BP_E2E_SOURCE", self.source.into()),
            ("BP_E2E_TARGET", self.target.into()),
            ("BP_E2E_DIGEST", (&self.sandbox.image().digest).into()),
            ("BP_E2E_ARCHIVES", self.sandbox.home().into()),
        ];
        self.library.run(&format!("registries::{test}"), &environment)
    }

    /// Verifies with crane and skopeo that `repository:1` is byte-identical to the source.
    fn verify_copy(&self, repository: &str) -> Result<()> {
        let image = self.sandbox.image();
        let copy = format!("{}/{repository}:1", self.target);
        let digest = self.crane(&["digest", &copy])?;
        ensure!(digest.trim() == image.digest, "crane reports {} at {copy}", digest.trim());
        self.crane(&["validate", "--remote", &copy])?;
        let manifest = self.skopeo(&copy)?;
        ensure!(
            manifest == self.skopeo(&format!("{}/shop/web:1", self.source))?,
            "skopeo reads other bytes at {copy}"
        );
        ensure!(sha256(manifest.as_bytes()) == image.digest, "skopeo reads {manifest} at {copy}");
        Ok(())
    }
}

fn copies(pair: &Pair<'_>) -> Result<String> {
    pair.run("copies_an_index_twice_and_through_a_layout")?;
    pair.verify_copy("copied/web")?;
    pair.verify_copy("layout/web")?;
    Ok(String::new())
}

/// skopeo pushes our archive, and bp-promote pushes skopeo's.
fn archives(pair: &Pair<'_>) -> Result<String> {
    let path = |name: &str| pair.sandbox.home().join(name);
    let copy = |from: &str, to: &str| {
        let plain = ["--src-tls-verify=false", "--dest-tls-verify=false"];
        let mut skopeo =
            pair.sandbox.skopeo(&["copy", "--all", "--preserve-digests", plain[0], plain[1], from, to]);
        command::output_within(LIMIT, &mut skopeo).map(drop)
    };
    for name in ["ours.tar", "theirs.tar"] {
        // Left by another pair.
        let _ = fs::remove_file(path(name));
    }
    let theirs = format!("oci-archive:{}:1", path("theirs.tar").display());
    copy(&format!("docker://{}/shop/web:1", pair.source), &theirs)?;
    pair.run("exchanges_archives_with_another_tool")?;
    pair.verify_copy("theirs/web")?;
    let ours = format!("oci-archive:{}:1", path("ours.tar").display());
    copy(&ours, &format!("docker://{}/ours/web:1", pair.target))?;
    pair.verify_copy("ours/web")?;
    Ok(String::new())
}

/// regctl attaches a document, bp-promote copies, and regctl finds it at the target, by the referrers API or the
/// fallback tag.
fn refers(pair: &Pair<'_>) -> Result<String> {
    let (source, target) = (format!("{}/shop/web:1", pair.source), format!("{}/referred/web:1", pair.target));
    let document = pair.sandbox.home().join("sbom.json");
    fs::write(&document, format!("{{\"of\":\"{}\"}}", pair.source))?;
    let file = document.to_string_lossy();
    let kind = "application/spdx+json";
    pair.regctl(&["artifact", "put", "--artifact-type", kind, "--subject", &source, "-f", &file])?;
    pair.run("copies_referrers_of_an_image")?;
    pair.verify_copy("referred/web")?;
    let listed = |image: &str| pair.regctl(&["artifact", "list", "--format", "{{json .Descriptors}}", image]);
    ensure!(listed(&source)? == listed(&target)?, "regctl lists other referrers at {target}");
    let read =
        pair.regctl(&["artifact", "get", "--subject", &target, "--filter-artifact-type", kind, "--latest"])?;
    ensure!(read == fs::read_to_string(&document)?, "regctl reads {read} at {target}");
    Ok(String::new())
}

fn misses(pair: &Pair<'_>) -> Result<String> {
    pair.run("a_missing_source_image_changes_nothing")?;
    let mut list = pair.sandbox.crane(&["ls", &format!("{}/missing/web", pair.target)]);
    let listed = command::ended_within(LIMIT, &mut list)?;
    ensure!(listed.stdout.trim().is_empty(), "the failed copy left tags: {:?}", listed.stdout);
    Ok(String::new())
}

fn promotes(pair: &Pair<'_>) -> Result<String> {
    pair.run("emits_an_artifact_and_promotes_it_twice")?;
    pair.verify_copy("promoted/web")?;
    Ok(String::new())
}

fn is_not_promoted(pair: &Pair<'_>) -> Result<String> {
    pair.run("promote_fails_for_a_missing_digest").map(|()| String::new())
}
