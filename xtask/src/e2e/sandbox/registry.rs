//! crane, skopeo and aws-cli against the sandbox's registries.

use std::{fs, process::Command};

use anyhow::{Context, Result, ensure};

use super::{
    super::test_run::TestRun,
    client::{expect_failure, expect_success},
    server::SandboxServer,
};

const SERVER: &str = "sandbox registry";
const PLAIN: &str = "registry.example.com";
const PRIVATE: &str = "private.example.com";
const ECR: &str = "111111111111.dkr.ecr.eu-central-1.amazonaws.com";

pub(super) fn run(test_run: &mut TestRun, sandbox: &SandboxServer) {
    let mut scenario = |name: &str, body: fn(&SandboxServer) -> Result<String>| {
        test_run.table.scenario(SERVER, name, || body(sandbox));
    };
    scenario("crane reads and validates an index", crane_reads);
    scenario("crane copies an index completely and by digest", crane_copies);
    scenario("crane logs in and copies to a registry with tokens", crane_with_tokens);
    scenario("crane pushes a new image and deletes it", crane_pushes_and_deletes);
    scenario("crane reports a missing tag and a wrong password", crane_is_refused);
    scenario("skopeo copies an index to and from a directory", skopeo_copies);
    scenario("skopeo copies to a registry with tokens", skopeo_with_tokens);
    scenario("crane pushes to ECR with a password of aws-cli", crane_to_ecr);
}

/// The reference of the initial image.
fn source(sandbox: &SandboxServer) -> Result<String> {
    let image = sandbox.image();
    Ok(format!("{}/{}:{}", sandbox.address(PLAIN)?, image.repository, image.tag))
}

fn digest_is(sandbox: &SandboxServer, reference: &str) -> Result<()> {
    let digest = expect_success(&mut sandbox.crane(&["digest", reference]))?;
    let expected = &sandbox.image().digest;
    ensure!(digest.trim() == expected, "{reference} has digest {}, expected {expected}", digest.trim());
    Ok(())
}

fn crane_reads(sandbox: &SandboxServer) -> Result<String> {
    let source = source(sandbox)?;
    digest_is(sandbox, &source)?;
    expect_success(&mut sandbox.crane(&["validate", "--remote", &source]))?;
    let image = sandbox.image();
    let repository = format!("{}/{}", sandbox.address(PLAIN)?, image.repository);
    ensure!(
        expect_success(&mut sandbox.crane(&["ls", &repository]))?.lines().any(|tag| tag == image.tag),
        "crane ls does not list the tag"
    );
    ensure!(
        expect_success(&mut sandbox.crane(&["catalog", sandbox.address(PLAIN)?]))?
            .contains(&image.repository),
        "crane catalog does not list the repository"
    );
    expect_success(&mut sandbox.crane(&["pull", "--format=oci", &source, "pulled"]))?;
    ensure!(
        fs::read_to_string(sandbox.home().join("pulled/index.json"))?.contains(&image.digest),
        "crane pull wrote another digest"
    );
    Ok(String::new())
}

fn crane_copies(sandbox: &SandboxServer) -> Result<String> {
    let target = format!("{}/mirror/web:1", sandbox.address(PLAIN)?);
    let source = source(sandbox)?;
    expect_success(&mut sandbox.crane(&["copy", &source, &target]))?;
    digest_is(sandbox, &target)?;
    expect_success(&mut sandbox.crane(&["validate", "--remote", &target]))?;
    // A second copy is a no-op, and a new tag transfers no blobs.
    expect_success(&mut sandbox.crane(&["copy", &source, &target]))?;
    expect_success(&mut sandbox.crane(&["tag", &target, "2"]))?;
    digest_is(sandbox, &target.replace(":1", ":2"))?;
    Ok(String::new())
}

fn crane_with_tokens(sandbox: &SandboxServer) -> Result<String> {
    let registry = sandbox.address(PRIVATE)?;
    expect_success(&mut sandbox.crane(&["auth", "login", registry, "-u", "ci", "-p", "s3cret"]))?;
    let target = format!("{registry}/shop/web:1");
    expect_success(&mut sandbox.crane(&["copy", &source(sandbox)?, &target]))?;
    digest_is(sandbox, &target)?;
    expect_success(&mut sandbox.crane(&["validate", "--remote", &target]))?;
    Ok(String::new())
}

fn crane_pushes_and_deletes(sandbox: &SandboxServer) -> Result<String> {
    let layer = sandbox.home().join("layer.tar");
    expect_success(
        Command::new("tar")
            .arg("--create")
            .arg("--file")
            .arg(&layer)
            .arg("--directory")
            .arg(sandbox.home())
            .arg("ca.pem"),
    )?;
    let target = format!("{}/pushed/web:1", sandbox.address(PLAIN)?);
    let layer = layer.to_string_lossy();
    expect_success(&mut sandbox.crane(&["append", "--oci-empty-base", "-f", &layer, "-t", &target]))?;
    expect_success(&mut sandbox.crane(&["validate", "--remote", &target]))?;
    let digest = expect_success(&mut sandbox.crane(&["digest", &target]))?;
    let by_digest = target.replace(":1", &format!("@{}", digest.trim()));
    expect_success(&mut sandbox.crane(&["delete", &by_digest]))?;
    expect_failure(&mut sandbox.crane(&["digest", &by_digest]))?;
    Ok(String::new())
}

fn crane_is_refused(sandbox: &SandboxServer) -> Result<String> {
    let missing =
        format!("{}:missing", source(sandbox)?.rsplit_once(':').context("the reference has no tag")?.0);
    let error = expect_failure(&mut sandbox.crane(&["manifest", &missing]))?;
    ensure!(error.contains("MANIFEST_UNKNOWN"), "unexpected error of crane: {error:?}");
    let registry = sandbox.address(PRIVATE)?;
    let mut stranger = sandbox.crane(&["manifest", &format!("{registry}/shop/web:1")]);
    let error = expect_failure(stranger.env("DOCKER_CONFIG", sandbox.home().join("nobody")))?;
    ensure!(error.contains("UNAUTHORIZED") || error.contains("401"), "unexpected error of crane: {error:?}");
    Ok(String::new())
}

fn skopeo_copies(sandbox: &SandboxServer) -> Result<String> {
    let source = format!("docker://{}", source(sandbox)?);
    expect_success(&mut sandbox.skopeo(&[
        "copy",
        "--all",
        "--src-tls-verify=false",
        &source,
        "oci:layout:web",
    ]))?;
    let target = format!("docker://{}/from-layout/web:1", sandbox.address(PLAIN)?);
    expect_success(&mut sandbox.skopeo(&[
        "copy",
        "--all",
        "--dest-tls-verify=false",
        "oci:layout:web",
        &target,
    ]))?;
    let raw =
        |image: &str| expect_success(&mut sandbox.skopeo(&["inspect", "--raw", "--tls-verify=false", image]));
    ensure!(raw(&source)? == raw(&target)?, "skopeo changed the index");
    digest_is(sandbox, target.trim_start_matches("docker://"))?;
    Ok(String::new())
}

fn skopeo_with_tokens(sandbox: &SandboxServer) -> Result<String> {
    let source = format!("docker://{}", source(sandbox)?);
    let target = format!("docker://{}/skopeo/web:1", sandbox.address(PRIVATE)?);
    expect_success(&mut sandbox.skopeo(&[
        "copy",
        "--all",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        "--dest-creds=ci:s3cret",
        &source,
        &target,
    ]))?;
    digest_is(sandbox, target.trim_start_matches("docker://"))?;
    Ok(String::new())
}

fn crane_to_ecr(sandbox: &SandboxServer) -> Result<String> {
    let registry = sandbox.address(ECR)?;
    expect_success(&mut sandbox.aws(&["ecr", "create-repository", "--repository-name", "shop/web"])?)?;
    let password = expect_success(&mut sandbox.aws(&["ecr", "get-login-password"])?)?;
    expect_success(&mut sandbox.crane(&["auth", "login", registry, "-u", "AWS", "-p", password.trim()]))?;
    let target = format!("{registry}/shop/web:1");
    expect_success(&mut sandbox.crane(&["copy", &source(sandbox)?, &target]))?;
    digest_is(sandbox, &target)?;
    expect_success(&mut sandbox.crane(&["validate", "--remote", &target]))?;
    let described = expect_success(&mut sandbox.aws(&[
        "ecr",
        "describe-images",
        "--repository-name",
        "shop/web",
        "--image-ids",
        "imageTag=1",
        "--query",
        "imageDetails[0].imageDigest",
        "--output",
        "text",
    ])?)?;
    ensure!(described.trim() == sandbox.image().digest, "aws ecr describe-images returns {described:?}");
    Ok(String::new())
}
