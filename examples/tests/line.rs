//! The complete pipeline: emit, promote, deploy, verify and roll back, also after its processes are killed.
#![cfg(feature = "sandbox")]

mod common;

use std::time::Duration;

use bp_examples::world::shop;
use bp_promote::PromotionRecord;
use common::Stage;

const STAGING: (&str, &str) = ("222222222222", "staging");

#[tokio::test]
async fn the_quickstart_completes() {
    let stage = Stage::new().await;
    let end = stage.run("quickstart", &[]).await;
    assert_eq!(end.code, 0, "{}", end.stderr);
    assert!(end.stderr.contains("exit code 78"), "{}", end.stderr);
    let next = end.stderr.split_once("Try next:").unwrap().1;
    assert_eq!(next.lines().filter(|line| line.trim().starts_with("cargo run --bin ")).count(), 3, "{next}");
    // Its story fits on a screen of 120 columns, and is the same on every machine.
    let lines = end.stderr.lines().chain(end.stdout.lines()).map(|line| line.chars().count().div_ceil(120));
    assert!(lines.sum::<usize>() <= 60, "{}{}", end.stderr, end.stdout);
    assert!(end.stdout.contains(WEB), "{}", end.stdout);
}

/// The image of the service web in version 1.0.0.
const WEB: &str = "shop/web@sha256:d4c8e081bf95657a356591caa9165656b26127795671d436412abc16eeaa3075";

#[tokio::test]
async fn emits_promotes_deploys_verifies_and_rolls_back() {
    let stage = Stage::new().await;
    let image = shop("2.0.0").build();
    let dev = stage.world.config.environments()[0].clone();
    stage.world.sandbox.registry(dev.registry().as_str()).push(&image, "shop/web", "2.0.0");

    let pushed = format!("{}:2.0.0", dev.services()[0].repository);
    let mut emit = stage.command("emit-artifact", &["--image", &pushed]);
    emit.env("CODEBUILD_BUILD_ID", "shop:1")
        .env("CODEBUILD_RESOLVED_SOURCE_VERSION", "0123456789abcdef0123456789abcdef01234567");
    let end = common::ended(emit).await;
    assert_eq!(
        (end.code, end.stdout.trim()),
        (0, format!("{}@{}", dev.services()[0].repository, image.digest()).as_str()),
        "{}",
        end.stderr
    );
    assert!(stage.read("artifact.json").contains("0123456"));

    for promoted in 0..2 {
        let end = stage.run("promote", &["--to", "staging"]).await;
        assert_eq!(end.code, 0, "run {promoted}: {}", end.stderr);
    }
    let end = stage.run("dual-deploy", &["--env", "staging"]).await;
    assert_eq!(end.code, 0, "{}", end.stderr);
    let end = stage.run("verify", &["--env", "staging", "--output", "json"]).await;
    assert_eq!(end.code, 0, "{}", end.stderr);
    assert!(
        end.stdout.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()),
        "{}",
        end.stdout
    );

    let end = stage.run("rollback", &["--env", "staging"]).await;
    assert_eq!(end.code, 0, "{}", end.stderr);
    let end = stage.run("verify", &["--env", "staging"]).await;
    assert_eq!(end.code, 6, "another image runs now: {}", end.stderr);
}

#[tokio::test]
async fn a_broken_build_is_rolled_back_on_ecs_and_eks() {
    let stage = Stage::new().await;
    let before = stage.running(STAGING.0, STAGING.1);
    stage.built(&shop("1.1.0").label("dev.bp-sandbox.behaviour", "exit:78").build(), "1.1.0");
    let end = stage.run("dual-deploy", &["--env", "staging"]).await;
    assert_eq!(end.code, 3, "{}", end.stderr);
    assert!(end.stderr.contains("FAILING") && end.stderr.contains("exit code 78"), "{}", end.stderr);
    let images = |running: (Vec<String>, Vec<String>)| -> std::collections::BTreeSet<String> {
        running.0.into_iter().chain(running.1).collect()
    };
    assert_eq!(images(stage.running(STAGING.0, STAGING.1)), images(before));
}

#[tokio::test]
async fn a_rerun_completes_a_deployment_killed_at_any_moment() {
    for millis in [30, 120, 250, 400, 700, 1100] {
        let stage = Stage::new().await;
        let before = stage.running(STAGING.0, STAGING.1);
        stage.kill("dual-deploy", &["--env", "staging"], Duration::from_millis(millis)).await;
        let end = stage.run("dual-deploy", &["--env", "staging"]).await;
        assert_eq!(end.code, 0, "killed after {millis} ms: {}", end.stderr);
        let ecs = stage.world.sandbox.aws().ecs(STAGING.0, "eu-central-1");
        assert_eq!(ecs.revisions("shop-web"), 2, "killed after {millis} ms: registered twice");

        // The receipt still contains the previous revisions.
        let end = stage.run("rollback", &["--env", "staging"]).await;
        assert_eq!(end.code, 0, "killed after {millis} ms: {}", end.stderr);
        assert_eq!(stage.running(STAGING.0, STAGING.1), before, "killed after {millis} ms");
    }
}

#[tokio::test]
async fn plans_and_promotes_the_tags_that_match_a_rule() {
    let stage = Stage::new().await;
    let dev = stage.world.config.environments()[0].clone();
    for version in ["1.4.0", "1.5.0", "2.0.0"] {
        let image = shop(version).build();
        stage.world.sandbox.registry(dev.registry().as_str()).push(&image, "shop/web", version);
    }
    let rule = ["--to", "staging", "--all-tags", "semver:>=1.4, <2"];
    let end = stage.run("promote", &[&rule[..], &["--plan"]].concat()).await;
    assert_eq!(end.code, 0, "{}", end.stderr);
    assert!(end.stdout.contains("2 of 2 images to change"), "{}", end.stdout);
    let staging = stage.world.config.environments()[1].clone();
    let tags = || stage.world.sandbox.registry(staging.registry().as_str()).tags("shop/web");
    let before = tags();
    assert!(!before.contains_key("1.5.0"), "--plan changed something: {before:?}");

    let end = stage.run("promote", &rule).await;
    assert_eq!((end.code, end.stdout.lines().count()), (0, 2), "{}", end.stderr);
    assert!(tags().contains_key("1.4.0") && tags().contains_key("1.5.0") && !tags().contains_key("2.0.0"));

    let end = stage
        .run("promote", &["--to", "staging", "--tag", "1.4.0", "--tag", "9.9.9", "--image-timeout", "1s"])
        .await;
    assert_eq!(end.code, 7, "{}", end.stderr);
    assert!(end.stderr.contains("shop/web:9.9.9 not found after 1 s"), "{}", end.stderr);
}

#[tokio::test]
async fn promotes_under_other_tags_and_applies_plans_exactly() {
    let stage = Stage::new().await;
    let environments = stage.world.config.environments();
    let (dev, staging) = (environments[0].clone(), environments[1].clone());
    let image = shop("4.0.0").build();
    let source = stage.world.sandbox.registry(dev.registry().as_str());
    source.push(&image, "shop/web", "4.0.0");
    let destination = stage.world.sandbox.registry(staging.registry().as_str());

    let end =
        stage.run("promote", &["--to", "staging", "--tag", "4.0.0", "--as", "4.0", "--as", "stable"]).await;
    assert_eq!(end.code, 0, "{}", end.stderr);
    let tags = destination.tags("shop/web");
    assert_eq!((tags["4.0"].as_str(), tags["stable"].as_str()), (image.digest(), image.digest()));
    assert!(!tags.contains_key("4.0.0"), "{tags:?}");

    let plan = ["--to", "staging", "--tag", "4.0.0", "--as", "planned", "--plan", "--output", "json"];
    let apply = ["--to", "staging", "--apply", "plan.json", "--record", "record.jsonl"];
    let planned = stage.run("promote", &plan).await;
    assert_eq!(planned.code, 0, "{}", planned.stderr);
    stage.write("plan.json", &planned.stdout);
    let end = stage.run("promote", &apply).await;
    assert_eq!(end.code, 0, "{}", end.stderr);
    assert_eq!(destination.tags("shop/web")["planned"], image.digest());
    let record: PromotionRecord = serde_json::from_str(stage.read("record.jsonl").trim()).unwrap();
    assert_eq!((record.digest.as_str(), record.reference.as_str()), (image.digest(), "planned"));

    // The source's tag has moved since, and then the destination's.
    source.push(&shop("4.0.1").build(), "shop/web", "4.0.0");
    let end = stage.run("promote", &apply).await;
    assert_eq!(end.code, 8, "{}", end.stderr);
    assert!(end.stderr.contains("create a new plan"), "{}", end.stderr);
    let planned = stage.run("promote", &plan).await;
    stage.write("plan.json", &planned.stdout);
    destination.push(&shop("4.0.2").build(), "shop/web", "planned");
    assert_eq!(stage.run("promote", &apply).await.code, 8);
    assert_eq!(destination.tags("shop/web")["planned"], shop("4.0.2").build().digest());

    // A plan of other repositories.
    stage.write("plan.json", &planned.stdout.replace("shop/web", "shop/api"));
    let end = stage.run("promote", &apply).await;
    assert_eq!(end.code, 5, "{}", end.stderr);
    assert!(end.stderr.contains("no selected service of staging has these repositories"), "{}", end.stderr);
    for (arguments, part) in [
        (&["--to", "staging", "--apply", "plan.json", "--tag", "4.0.0"][..], "--apply"),
        (&["--to", "staging", "--tag", "4.0.0", "--tag", "1.0.0", "--as", "x"], "--as"),
        (&["--to", "staging", "--all-tags", "--as", "x"], "--as"),
    ] {
        let end = stage.run("promote", arguments).await;
        assert!(end.code == 2 && end.stderr.contains(part), "{arguments:?}: {}", end.stderr);
    }
}

#[tokio::test]
async fn an_archived_image_is_not_waited_for() {
    let stage = Stage::new().await;
    let environments = stage.world.config.environments();
    let source = stage.world.sandbox.registry(environments[0].registry().as_str());
    let image = shop("5.0.0").build();
    source.push(&image, "shop/web", "5.0.0");
    source.archive("shop/web", image.digest());
    for arguments in [&["--plan"][..], &["--image-timeout", "5m"]] {
        let arguments = [&["--to", "staging", "--tag", "5.0.0"], arguments].concat();
        let end = stage.run("promote", &arguments).await;
        assert_eq!(end.code, 2, "{}", end.stderr);
        assert!(end.stderr.contains("is archived and cannot be pulled: restore it"), "{}", end.stderr);
    }
}

#[tokio::test]
async fn writes_promotion_records_to_a_file_and_attaches_each_once() {
    let stage = Stage::new().await;
    let sandbox = &stage.world.sandbox;
    let environments = stage.world.config.environments();
    let (dev, staging) = (environments[0].clone(), environments[1].clone());
    let image = shop("3.0.0").build();
    sandbox.registry(dev.registry().as_str()).push(&image, "shop/web", "3.0.0");
    let destination = sandbox.registry(staging.registry().as_str());
    let promote = ["--to", "staging", "--tag", "3.0.0", "--trust-destination"];
    let with_records = [&promote[..], &["--record", "record.jsonl", "--attach-record"]].concat();
    let record = || serde_json::from_str::<PromotionRecord>(stage.read("record.jsonl").trim()).unwrap();

    // The registry rejects the record: the promotion is completed and reported, and the command fails.
    let end = stage.run("promote", &promote).await;
    assert_eq!(end.code, 0, "{}", end.stderr);
    let fault = bp_sandbox::Fault::status(405).on("PUT manifest").at(staging.registry().as_str());
    sandbox.faults().inject(fault);
    let end = stage.run("promote", &with_records).await;
    assert_eq!(end.code, 5, "{}", end.stderr);
    assert!(end.stderr.contains("was promoted, but its record could not be attached"), "{}", end.stderr);
    assert!(end.stdout.contains(image.digest()), "{}", end.stdout);
    assert_eq!(destination.tags("shop/web")["3.0.0"], image.digest());
    assert_eq!((record().digest.as_str(), record().reference.as_str()), (image.digest(), "3.0.0"));

    let attached = || {
        destination
            .manifests("shop/web")
            .iter()
            .filter(|manifest| manifest.bytes.windows(9).any(|w| w == b"promotion"))
            .count()
    };
    assert_eq!(attached(), 0);
    let first = stage.read("record.jsonl");
    for _ in 0..2 {
        let end = stage.run("promote", &with_records).await;
        assert_eq!((end.code, attached()), (0, 1), "{}", end.stderr);
        assert_eq!(stage.read("record.jsonl"), first, "the first record is kept");
    }

    // The tag moves: the record contains the previous digest.
    let next = shop("3.0.1").build();
    sandbox.registry(dev.registry().as_str()).push(&next, "shop/web", "3.0.0");
    let end = stage.run("promote", &with_records).await;
    assert_eq!((end.code, attached()), (0, 2), "{}", end.stderr);
    let record = record();
    assert_eq!(record.digest.as_str(), next.digest());
    assert_eq!(record.previous.unwrap().as_str(), image.digest());

    // A rerun changes nothing, and keeps what the tag pointed to before.
    let end = stage.run("promote", &with_records).await;
    assert_eq!(end.code, 0, "{}", end.stderr);
    let kept = serde_json::from_str::<PromotionRecord>(stage.read("record.jsonl").trim()).unwrap();
    assert_eq!(kept.previous.unwrap().as_str(), image.digest());

    // A device, a link and standard output are written through, and the previous digest is not lost if that fails.
    let restore = || sandbox.registry(staging.registry().as_str()).push(&image, "shop/web", "3.0.0");
    let to = async |path: &str| {
        restore();
        stage.run("promote", &[&promote[..], &["--record", path]].concat()).await
    };
    let end = to("/dev/full").await;
    assert_eq!(end.code, 7, "{end:?}");
    let last = end.stderr.lines().last().unwrap();
    assert!(
        last.contains("could not be written") && last.contains(&format!("3.0.0 was {}", image.digest())),
        "{last}"
    );
    let end = to("/dev/stdout").await;
    assert_eq!(end.code, 0, "{end:?}");
    let printed = end.stdout.lines().find_map(|line| serde_json::from_str::<PromotionRecord>(line).ok());
    assert_eq!(printed.unwrap().previous.unwrap().as_str(), image.digest());
    assert!(!std::fs::symlink_metadata("/dev/stdout").unwrap().is_file());
    std::os::unix::fs::symlink("records/real.jsonl", stage.path("link.jsonl")).unwrap();
    std::fs::create_dir(stage.path("records")).unwrap();
    assert_eq!(to("link.jsonl").await.code, 0);
    let written = serde_json::from_str::<PromotionRecord>(stage.read("records/real.jsonl").trim()).unwrap();
    assert_eq!(written.previous.unwrap().as_str(), image.digest());
    assert!(std::fs::symlink_metadata(stage.path("link.jsonl")).unwrap().is_symlink());

    // A file that cannot be written is detected before anything is copied.
    sandbox.registry(dev.registry().as_str()).push(&shop("3.0.2").build(), "shop/web", "3.0.0");
    let unwritable = [&promote[..], &["--record", "no/such/directory/record.jsonl"]].concat();
    let end = stage.run("promote", &unwritable).await;
    assert!(end.code != 0 && end.stderr.contains("record.jsonl"), "{} {}", end.code, end.stderr);
    assert_eq!(destination.tags("shop/web")["3.0.0"], next.digest());
}
