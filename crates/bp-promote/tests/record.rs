//! Tests of promotion records.

mod common;

use std::sync::{Arc, Mutex};

use bp_promote::{
    CopyError, CopyOptions, CopyReport, PromotionOutcome, PromotionRecord,
    content::Descriptor,
    copy,
    copy::{PublishObserver, TagChange},
    copy_all,
    registry::RepositoryClient,
    store::ImageAt,
};
use bp_sandbox::registry::{Auth, RegistryOptions};
use common::*;
use futures_util::TryStreamExt as _;
use serde_json::Value;

fn repository(host: &str) -> bp_artifact::Repository {
    format!("{host}/shop/web").parse().unwrap()
}

/// Promotes `v1`; returns the record and the destination.
async fn promoted(world: &World) -> (PromotionRecord, RepositoryClient) {
    let [from, to] = [SRC, DST].map(repository);
    let at = |of| ImageAt::new(world.client.repository(of), "v1".parse::<bp_artifact::Tag>().unwrap());
    let report = copy_all(vec![(at(&from), at(&to))], CopyOptions::default()).await;
    let record = PromotionRecord::of(&report.images[0], &from, &to, world.sandbox.clock().now()).unwrap();
    (record, world.client.repository(&to))
}

#[tokio::test(start_paused = true)]
async fn attaches_a_record_with_the_previous_digest() {
    let world = World::plain();
    let (old, image) = (single(), multi());
    world.sandbox.registry(DST).push(&old, "shop/web", "v1");
    world.push(&image);
    let (record, repository) = promoted(&world).await;
    assert_eq!(record.digest.as_str(), image.digest());
    assert_eq!(record.previous.as_ref().unwrap().as_str(), old.digest());
    let json = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<PromotionRecord>(&json).unwrap(), record);

    let digest = record.attach(&repository).await.unwrap();
    assert_eq!(record.attach(&repository).await.unwrap(), digest, "a second attach changes nothing");
    let listed = repository.referrers(&record.digest).await.unwrap();
    assert_eq!(listed.iter().map(|referrer| &referrer.digest).collect::<Vec<_>>(), [&digest]);
    let manifest: Value =
        serde_json::from_slice(&repository.manifest(&digest.into()).await.unwrap().bytes).unwrap();
    assert_eq!(manifest["artifactType"], PromotionRecord::MEDIA_TYPE);
    let layer: Descriptor = serde_json::from_value(manifest["layers"][0].clone()).unwrap();
    let bytes: Vec<_> = repository.blob(&layer).await.unwrap().try_collect().await.unwrap();
    assert_eq!(serde_json::from_slice::<PromotionRecord>(&bytes.concat()).unwrap(), record);
}

#[tokio::test(start_paused = true)]
async fn a_rerun_promotion_attaches_no_second_record() {
    for options in [RegistryOptions::default(), RegistryOptions::default().without_referrers()] {
        let world = World::new(RegistryOptions::default(), options);
        let (old, image) = (single(), multi());
        world.push(&image);
        let mut left = Vec::new();
        for _ in 0..3 {
            let (record, repository) = promoted(&world).await;
            left.push(record.attach(&repository).await.unwrap());
        }
        assert!(left.iter().all(|digest| *digest == left[0]), "{left:?}");
        let count = async |record: &PromotionRecord, repository: RepositoryClient| {
            repository.referrers(&record.digest).await.unwrap().len()
        };
        let (record, repository) = promoted(&world).await;
        assert_eq!(count(&record, repository).await, 1);

        // Promoting after the tag was moved away is another promotion.
        world.sandbox.registry(DST).push(&old, "shop/web", "v1");
        let (record, repository) = promoted(&world).await;
        assert_ne!(record.attach(&repository).await.unwrap(), left[0]);
        let (record, repository) = promoted(&world).await;
        assert_eq!(count(&record, repository).await, 2);
        // So is promoting the same image under another tag.
        let mut other = record.clone();
        other.reference = "stable".to_owned();
        assert!(!left.contains(&other.attach(&world.client.repository(&other.destination)).await.unwrap()));
    }
}

/// Records what is announced, and what the tag pointed to at that moment.
struct Log {
    sandbox: bp_sandbox::Sandbox,
    changes: Mutex<Vec<(TagChange, Option<String>)>>,
    fails: bool,
}

impl Log {
    fn new(world: &World, fails: bool) -> Arc<Self> {
        Arc::new(Log { sandbox: world.sandbox.clone(), changes: Mutex::default(), fails })
    }

    fn changes(&self) -> Vec<(TagChange, Option<String>)> {
        self.changes.lock().unwrap().clone()
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

impl PublishObserver for Log {
    fn before_publish(&self, change: &TagChange) -> std::io::Result<()> {
        let tag = self.sandbox.registry(DST).tags("shop/web").get("v1").cloned();
        self.changes.lock().unwrap().push((change.clone(), tag));
        if self.fails { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

async fn observed(world: &World, options: CopyOptions, log: &Arc<Log>) -> Result<CopyReport, CopyError> {
    let (from, to) = (repository(SRC), repository(DST));
    let at = |of| ImageAt::new(world.client.repository(of), "v1".parse::<bp_artifact::Tag>().unwrap());
    copy(at(&from), at(&to), options.publish_observer(log.clone())).await
}

#[tokio::test(start_paused = true)]
async fn announces_a_tag_before_it_moves() {
    let (old, image) = (single(), multi());
    for destination in [RegistryOptions::default(), RegistryOptions::ecr().auth(Auth::None)] {
        for options in [CopyOptions::default(), CopyOptions::default().referrers()] {
            let world = World::new(RegistryOptions::default(), destination.clone());
            world.sandbox.registry(DST).push(&old, "shop/web", "v1");
            world.push(&image);
            // If it cannot be recorded, the tag does not move.
            let log = Log::new(&world, true);
            let error = observed(&world, options.clone(), &log).await.unwrap_err();
            assert!(matches!(error, CopyError::NotRecorded { .. }), "{error:?}");
            assert_eq!(world.sandbox.registry(DST).tags("shop/web")["v1"], old.digest());

            let log = Log::new(&world, false);
            observed(&world, options.clone(), &log).await.unwrap();
            world.assert_copied(&image);
            let changes = log.changes();
            assert_eq!(changes.len(), 1, "{changes:?}");
            let (change, tag) = &changes[0];
            assert_eq!(tag.as_deref(), Some(old.digest()), "it has not moved yet");
            assert_eq!(change.previous.as_ref().unwrap().as_str(), old.digest());
            assert_eq!((change.digest.as_str(), change.tag.as_str()), (image.digest(), "v1"));
            assert_eq!(change.destination.as_ref(), Some(&repository(DST)));
            // Nothing changes.
            observed(&world, options.clone(), &log).await.unwrap();
            assert_eq!(log.changes().len(), 1);
        }
    }
}

#[test]
fn a_tag_that_has_moved_was_announced_wherever_the_copy_was_dropped() {
    let (old, image) = (single(), multi());
    let paused = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(true).event_interval(1).build().unwrap()
    };
    let (mut before, mut after) = (0, 0);
    let counts = std::cell::RefCell::new((&mut before, &mut after));
    bp_sandbox::cut::at_every_poll(paused, usize::MAX, async |cut| {
        let world = World::plain();
        world.sandbox.registry(DST).push(&old, "shop/web", "v1");
        world.push(&image);
        let log = Log::new(&world, false);
        cut.run(|| observed(&world, CopyOptions::default(), &log)).await;
        let has_moved = world.sandbox.registry(DST).tags("shop/web")["v1"] == image.digest();
        let mut counts = counts.borrow_mut();
        match log.changes().as_slice() {
            [(change, _)] => {
                assert_eq!(change.previous.as_ref().unwrap().as_str(), old.digest());
                *counts.1 += usize::from(has_moved);
            }
            changes => {
                assert!(changes.is_empty() && !has_moved, "dropped after poll {}", cut.polls());
                *counts.0 += 1;
            }
        }
    });
    assert!(before > 0 && after > 0, "{before} {after}");
}

#[tokio::test(start_paused = true)]
async fn the_record_of_a_killed_run_is_resumed() {
    let world = World::plain();
    let (old, image) = (single(), multi());
    world.sandbox.registry(DST).push(&old, "shop/web", "v1");
    world.push(&image);
    let log = Log::new(&world, false);
    observed(&world, CopyOptions::default(), &log).await.unwrap();
    let now = world.sandbox.clock().now();
    let pending = PromotionRecord::pending(&log.changes()[0].0, now).unwrap();
    assert_eq!(pending.outcome, PromotionOutcome::Pending);
    assert!(serde_json::to_string(&pending).unwrap().contains(r#""outcome":"pending""#));

    let (unchanged, _) = promoted(&world).await;
    assert_eq!((unchanged.outcome, &unchanged.previous), (PromotionOutcome::Unchanged, &None));
    let with = |change: &dyn Fn(&mut PromotionRecord)| {
        let mut record = pending.clone();
        change(&mut record);
        record
    };
    let older = with(&|record| (record.previous, record.outcome) = (None, PromotionOutcome::Copied));
    let expected = with(&|record| record.outcome = PromotionOutcome::Resumed);
    let resumed = unchanged.clone().or_earlier(&[older, pending.clone()]);
    assert_eq!(resumed, expected);
    // Once resumed, it is a record like every other.
    assert_eq!(unchanged.clone().or_earlier(std::slice::from_ref(&resumed)), resumed);
    // Not those of another image, source, tag or destination; and not if this run has moved the tag itself.
    for other in [
        with(&|record| record.digest = old.digest().parse().unwrap()),
        with(&|record| record.source = repository("x.example.com")),
        with(&|record| record.destination = repository("x.example.com")),
        with(&|record| record.reference = "v2".to_owned()),
    ] {
        assert_eq!(unchanged.clone().or_earlier(&[other]), unchanged);
    }
    let mut moved = unchanged;
    moved.outcome = PromotionOutcome::Tagged;
    assert_eq!(moved.clone().or_earlier(&[pending]), moved);
}
