//! crane, skopeo and aws-cli against the sandbox's registries.

use std::{fs, process::Command};

use anyhow::{Context, Result, ensure};

use super::{
    super::stage::Stage,
    client::{done, refused},
    world::World,
};

const SERVER: &str = "sandbox registry";
const PLAIN: &str = "registry.example.com";
const PRIVATE: &str = "private.example.com";
const ECR: &str = "111111111111.dkr.ecr.eu-central-1.amazonaws.com";

pub(super) fn run(stage: &mut Stage, world: &World) {
    let mut scenario = |name: &str, body: fn(&World) -> Result<String>| {
        stage.table.scenario(SERVER, name, || body(world));
    };
    scenario("crane reads and validates an index", crane_reads);
    scenario("crane copies an index, whole and by digest", crane_copies);
    scenario("crane logs in and copies to a registry with tokens", crane_with_tokens);
    scenario("crane pushes an image of its own and deletes it", crane_pushes_and_deletes);
    scenario("crane tells a missing tag and a wrong password", crane_is_refused);
    scenario("skopeo copies an index to and from a directory", skopeo_copies);
    scenario("skopeo copies to a registry with tokens", skopeo_with_tokens);
    scenario("crane pushes to ECR with a password of aws-cli", crane_to_ecr);
}

/// The reference of the first image.
fn source(world: &World) -> Result<String> {
    let image = world.image();
    Ok(format!("{}/{}:{}", world.address(PLAIN)?, image.repository, image.tag))
}

fn digest_is(world: &World, reference: &str) -> Result<()> {
    let digest = done(&mut world.crane(&["digest", reference]))?;
    let expected = &world.image().digest;
    ensure!(digest.trim() == expected, "{reference} has {}, not {expected}", digest.trim());
    Ok(())
}

fn crane_reads(world: &World) -> Result<String> {
    let source = source(world)?;
    digest_is(world, &source)?;
    done(&mut world.crane(&["validate", "--remote", &source]))?;
    let image = world.image();
    let repository = format!("{}/{}", world.address(PLAIN)?, image.repository);
    ensure!(done(&mut world.crane(&["ls", &repository]))?.lines().any(|tag| tag == image.tag), "crane ls");
    ensure!(
        done(&mut world.crane(&["catalog", world.address(PLAIN)?]))?.contains(&image.repository),
        "crane catalog"
    );
    done(&mut world.crane(&["pull", "--format=oci", &source, "pulled"]))?;
    ensure!(
        fs::read_to_string(world.home().join("pulled/index.json"))?.contains(&image.digest),
        "crane pull"
    );
    Ok(String::new())
}

fn crane_copies(world: &World) -> Result<String> {
    let target = format!("{}/mirror/web:1", world.address(PLAIN)?);
    let source = source(world)?;
    done(&mut world.crane(&["copy", &source, &target]))?;
    digest_is(world, &target)?;
    done(&mut world.crane(&["validate", "--remote", &target]))?;
    // The second time there is nothing to do, and a copy under another tag moves no blob.
    done(&mut world.crane(&["copy", &source, &target]))?;
    done(&mut world.crane(&["tag", &target, "2"]))?;
    digest_is(world, &target.replace(":1", ":2"))?;
    Ok(String::new())
}

fn crane_with_tokens(world: &World) -> Result<String> {
    let registry = world.address(PRIVATE)?;
    done(&mut world.crane(&["auth", "login", registry, "-u", "ci", "-p", "s3cret"]))?;
    let target = format!("{registry}/shop/web:1");
    done(&mut world.crane(&["copy", &source(world)?, &target]))?;
    digest_is(world, &target)?;
    done(&mut world.crane(&["validate", "--remote", &target]))?;
    Ok(String::new())
}

fn crane_pushes_and_deletes(world: &World) -> Result<String> {
    let layer = world.home().join("layer.tar");
    done(
        Command::new("tar")
            .arg("--create")
            .arg("--file")
            .arg(&layer)
            .arg("--directory")
            .arg(world.home())
            .arg("ca.pem"),
    )?;
    let target = format!("{}/pushed/web:1", world.address(PLAIN)?);
    let layer = layer.to_string_lossy();
    done(&mut world.crane(&["append", "--oci-empty-base", "-f", &layer, "-t", &target]))?;
    done(&mut world.crane(&["validate", "--remote", &target]))?;
    let digest = done(&mut world.crane(&["digest", &target]))?;
    let by_digest = target.replace(":1", &format!("@{}", digest.trim()));
    done(&mut world.crane(&["delete", &by_digest]))?;
    refused(&mut world.crane(&["digest", &by_digest]))?;
    Ok(String::new())
}

fn crane_is_refused(world: &World) -> Result<String> {
    let missing = format!("{}:missing", source(world)?.rsplit_once(':').context("a tag")?.0);
    let said = refused(&mut world.crane(&["manifest", &missing]))?;
    ensure!(said.contains("MANIFEST_UNKNOWN"), "crane says {said:?}");
    let registry = world.address(PRIVATE)?;
    let mut stranger = world.crane(&["manifest", &format!("{registry}/shop/web:1")]);
    let said = refused(stranger.env("DOCKER_CONFIG", world.home().join("nobody")))?;
    ensure!(said.contains("UNAUTHORIZED") || said.contains("401"), "crane says {said:?}");
    Ok(String::new())
}

fn skopeo_copies(world: &World) -> Result<String> {
    let source = format!("docker://{}", source(world)?);
    done(&mut world.skopeo(&["copy", "--all", "--src-tls-verify=false", &source, "oci:layout:web"]))?;
    let target = format!("docker://{}/from-layout/web:1", world.address(PLAIN)?);
    done(&mut world.skopeo(&["copy", "--all", "--dest-tls-verify=false", "oci:layout:web", &target]))?;
    let raw = |image: &str| done(&mut world.skopeo(&["inspect", "--raw", "--tls-verify=false", image]));
    ensure!(raw(&source)? == raw(&target)?, "skopeo changed the index");
    digest_is(world, target.trim_start_matches("docker://"))?;
    Ok(String::new())
}

fn skopeo_with_tokens(world: &World) -> Result<String> {
    let source = format!("docker://{}", source(world)?);
    let target = format!("docker://{}/skopeo/web:1", world.address(PRIVATE)?);
    done(&mut world.skopeo(&[
        "copy",
        "--all",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        "--dest-creds=ci:s3cret",
        &source,
        &target,
    ]))?;
    digest_is(world, target.trim_start_matches("docker://"))?;
    Ok(String::new())
}

fn crane_to_ecr(world: &World) -> Result<String> {
    let registry = world.address(ECR)?;
    done(&mut world.aws(&["ecr", "create-repository", "--repository-name", "shop/web"])?)?;
    let password = done(&mut world.aws(&["ecr", "get-login-password"])?)?;
    done(&mut world.crane(&["auth", "login", registry, "-u", "AWS", "-p", password.trim()]))?;
    let target = format!("{registry}/shop/web:1");
    done(&mut world.crane(&["copy", &source(world)?, &target]))?;
    digest_is(world, &target)?;
    done(&mut world.crane(&["validate", "--remote", &target]))?;
    let described = done(&mut world.aws(&[
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
    ensure!(described.trim() == world.image().digest, "aws ecr describe-images says {described:?}");
    Ok(String::new())
}
