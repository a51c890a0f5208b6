//! Tests of planning a copy and applying the plan.

mod common;

use bp_artifact::{
    ImageRef,
    error::{Classified as _, ErrorClass},
};
use bp_promote::{
    CopyError, CopyOptions,
    copy::{CopyOutcome, CopyPlan, Transfer, apply, plan},
    registry::RepositoryClient,
    store::ImageAt,
};
use common::*;

fn sides(world: &World) -> (ImageAt<RepositoryClient>, ImageAt<RepositoryClient>) {
    let (from, to): (ImageRef, ImageRef) =
        (format!("{SRC}/shop/web:v1").parse().unwrap(), format!("{DST}/shop/web:v1").parse().unwrap());
    (world.client.image(&from), world.client.image(&to))
}

async fn planned(world: &World) -> CopyPlan {
    let (from, to) = sides(world);
    plan(from, to, CopyOptions::default()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn planning_changes_nothing_and_applying_does_what_was_planned() {
    let world = World::plain();
    let image = multi();
    world.push(&image);
    world.sandbox.registry(DST).put_blob("shop/web", image.blobs()[0].clone());
    let plan = planned(&world).await;
    assert_eq!((plan.outcome, plan.found.as_ref()), (CopyOutcome::Copied, None));
    assert_eq!((plan.manifests.len(), plan.blobs.len()), (3, 5));
    assert_eq!(plan.blobs.iter().filter(|blob| blob.how == Transfer::Present).count(), 1);
    let reads = |operation: &String| operation.starts_with("GET") || operation.starts_with("HEAD");
    assert!(world.operations(DST).iter().all(reads), "{:?}", world.operations(DST));
    assert!(plan.to_string().contains("blobs: 4 of 5 to send"), "{plan}");

    // The plan is stored, and the source's tag moves before it is applied.
    let stored: CopyPlan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
    assert_eq!(stored, plan);
    world.push(&single());
    let (from, to) = sides(&world);
    let report = apply(&stored, from, to, CopyOptions::default()).await.unwrap();
    assert_eq!((report.digest.as_str(), report.bytes), (image.digest(), plan.bytes()));
    world.assert_copied(&image);

    // Applying it again changes nothing.
    let (from, to) = sides(&world);
    let again = apply(&stored, from, to, CopyOptions::default()).await.unwrap();
    assert_eq!(again.outcome, CopyOutcome::Unchanged);
}

#[tokio::test(start_paused = true)]
async fn refuses_to_apply_after_the_tag_has_moved() {
    let world = World::plain();
    world.push(&multi());
    let plan = planned(&world).await;
    world.sandbox.registry(DST).push(&single(), "shop/web", "v1");
    let (from, to) = sides(&world);
    let error = apply(&plan, from, to, CopyOptions::default()).await.unwrap_err();
    assert!(matches!(&error, CopyError::Moved { planned: None, found: Some(_), .. }), "{error:?}");
    assert_eq!(error.class(), ErrorClass::Superseded);
    world.assert_copied(&single());
}

#[tokio::test(start_paused = true)]
async fn plans_nothing_for_an_equal_tag() {
    let world = World::plain();
    world.push(&multi());
    world.copy().await.unwrap();
    let plan = planned(&world).await;
    assert_eq!((plan.outcome, plan.bytes()), (CopyOutcome::Unchanged, 0));
    assert!(plan.to_string().ends_with("nothing to send"), "{plan}");
}

#[tokio::test(start_paused = true)]
async fn plans_the_exact_number_of_requests() {
    // A new repository, a used repository, a new tag, and an equal tag.
    for used in [false, true] {
        let world = World::plain();
        world.push(&multi());
        if used {
            world.sandbox.registry(DST).push(&single(), "shop/web", "v0");
        }
        for tag in ["v1", "v2", "v2"] {
            let (from, to) = sides(&world);
            let to = ImageAt::new(to.store, tag.parse::<bp_artifact::Tag>().unwrap());
            let plan = plan(from.clone(), to.clone(), CopyOptions::default()).await.unwrap();
            let report = apply(&plan, from, to, CopyOptions::default()).await.unwrap();
            assert_eq!(
                (plan.requests.source, plan.requests.destination),
                (report.source_requests, report.destination_requests),
                "{tag}, {used}: {plan}"
            );
            assert_eq!((plan.outcome, plan.bytes()), (report.outcome, report.bytes));
        }
    }
}
