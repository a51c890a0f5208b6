//! Tests of the cache: coalescing, expiry, stale reads, refresh, negative caching and limits.
#![cfg(feature = "cache")]

mod common;

use std::time::Duration;

use bp_sandbox::{Effect, Fault, Sandbox};
use bp_secrets::{Cache, Reference, Store as _, Stores, cache::CacheOptions};
use common::{ACCOUNT, REGION, references, stores, texts};
use futures_util::future::join_all;
use tokio::time::{advance, sleep};

const FRESH: Duration = Duration::from_secs(300);

fn cache(sandbox: &Sandbox) -> Cache<Stores> {
    Cache::new(stores(sandbox), CacheOptions::default())
}

fn calls(sandbox: &Sandbox) -> usize {
    sandbox.ledger().entries().len()
}

async fn read(cache: &Cache<Stores>, reference: &str) -> String {
    texts(&[cache.fetch_one(&reference.parse().unwrap()).await]).remove(0)
}

async fn stale_for(cache: &Cache<Stores>, reference: &str) -> Option<Duration> {
    cache.fetch_one(&reference.parse().unwrap()).await.unwrap().stale_for()
}

#[tokio::test(start_paused = true)]
async fn a_thousand_first_readers_make_one_call() {
    let sandbox = Sandbox::builder().build();
    sandbox.aws().secretsmanager(ACCOUNT, REGION).create("a", r#"{"x": "1", "y": "2"}"#);
    sandbox.faults().inject(Fault::new(Effect::Delay(Duration::from_millis(200))));
    let cache = cache(&sandbox);
    let readers = (0..1000).map(|n| {
        let cache = cache.clone();
        let key = if n % 2 == 0 { "x" } else { "y" };
        tokio::spawn(async move { read(&cache, &format!("secretsmanager:a:{key}::")).await })
    });
    let read: Vec<String> = join_all(readers).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(read, ["1", "2"].repeat(500));
    assert_eq!(calls(&sandbox), 1);
}

#[tokio::test(start_paused = true)]
async fn the_misses_of_one_reader_are_sent_in_one_batch() {
    let sandbox = Sandbox::builder().build();
    let secrets = sandbox.aws().secretsmanager(ACCOUNT, REGION);
    let names: Vec<String> = (0..10).map(|n| format!("s{n}")).collect();
    names.iter().for_each(|name| drop(secrets.create(name, name)));
    let cache = cache(&sandbox);
    assert_eq!(read(&cache, "secretsmanager:s0").await, "s0");
    let all: Vec<String> = names.iter().map(|name| format!("secretsmanager:{name}")).collect();
    let wanted = references(all.iter().map(String::as_str));
    assert_eq!(texts(&cache.fetch(&wanted).await), names);
    assert_eq!(texts(&cache.fetch(&wanted).await), names);
    assert_eq!(
        sandbox.ledger().operations("aws"),
        ["secretsmanager:GetSecretValue", "secretsmanager:BatchGetSecretValue"]
    );
}

#[tokio::test(start_paused = true)]
async fn name_arn_stage_and_id_share_one_value_and_an_id_never_expires() {
    let sandbox = Sandbox::builder().build();
    let secrets = sandbox.aws().secretsmanager(ACCOUNT, REGION);
    let arn = secrets.create("a", "1");
    let id = secrets.rotate("a", "2");
    let cache = cache(&sandbox);
    let by_id = format!("{arn}:::{id}");
    for reference in ["secretsmanager:a", &arn, "secretsmanager:a::AWSCURRENT:", &by_id] {
        assert_eq!(read(&cache, reference).await, "2");
    }
    let size = cache.size();
    assert_eq!((size.entries, size.versions, size.bytes), (4, 1, 1));

    sandbox.ledger().clear();
    advance(Duration::from_secs(86_400)).await;
    assert_eq!(read(&cache, &by_id).await, "2");
    assert_eq!(calls(&sandbox), 0);
    assert_eq!(read(&cache, &arn).await, "2");
    assert_eq!(calls(&sandbox), 1);

    secrets.rotate("a", "3");
    advance(FRESH).await;
    assert_eq!(read(&cache, &arn).await, "3");
    assert_eq!(cache.size().versions, 2, "the old version is still cached for its id and its other names");
    assert_eq!(read(&cache, &by_id).await, "2");
}

#[tokio::test(start_paused = true)]
async fn values_that_are_read_together_expire_at_different_times() {
    let sandbox = Sandbox::builder().build();
    let secrets = sandbox.aws().secretsmanager(ACCOUNT, REGION);
    let all: Vec<String> = (0..100).map(|n| format!("secretsmanager:s{n}")).collect();
    (0..100).for_each(|n| drop(secrets.create(&format!("s{n}"), "x")));
    let cache = cache(&sandbox);
    cache.fetch(&references(all.iter().map(String::as_str))).await;
    let mut reads = Vec::new();
    for percent in [79, 90, 100] {
        advance(FRESH.mul_f64(f64::from(percent) / 100.0) - advanced(&reads)).await;
        sandbox.ledger().clear();
        for reference in &all {
            read(&cache, reference).await;
        }
        reads.push((percent, calls(&sandbox)));
    }
    let [(_, early), (_, half), (_, late)] = reads[..] else { panic!() };
    assert_eq!(early, 0, "all are fresh for four fifths of the time to live");
    assert!((20..80).contains(&half) && late > 20 && half + late == 100, "{reads:?}");
}

/// How far the clock has been advanced after these reads.
fn advanced(reads: &[(i32, usize)]) -> Duration {
    reads.last().map_or(Duration::ZERO, |(percent, _)| FRESH.mul_f64(f64::from(*percent) / 100.0))
}

#[tokio::test(start_paused = true)]
async fn serves_the_last_value_up_to_the_maximum_age_while_the_service_is_unavailable() {
    let sandbox = Sandbox::builder().build();
    sandbox.aws().secretsmanager(ACCOUNT, REGION).create("a", "1");
    let cache = cache(&sandbox);
    assert_eq!(stale_for(&cache, "secretsmanager:a").await, None);

    sandbox.faults().inject(Fault::status(503).times(u32::MAX));
    advance(Duration::from_secs(400)).await;
    let stale = stale_for(&cache, "secretsmanager:a").await.expect("a stale value");
    assert!(stale >= Duration::from_secs(400), "{stale:?}");
    // For a while the service is not called, and the value is still reported as stale.
    sandbox.ledger().clear();
    advance(Duration::from_secs(10)).await;
    let staler = stale_for(&cache, "secretsmanager:a").await.expect("a stale value");
    assert!(staler >= stale + Duration::from_secs(10));
    assert_eq!(calls(&sandbox), 0);
    // A refresh returns the failure instead of a stale value.
    let refreshed = cache.refresh(&references(["secretsmanager:a"])).await;
    assert_eq!(refreshed[0].as_ref().unwrap_err().code(), "unavailable");

    advance(Duration::from_secs(3600)).await;
    assert_eq!(read(&cache, "secretsmanager:a").await, "unavailable");

    sandbox.faults().clear();
    assert_eq!(stale_for(&cache, "secretsmanager:a").await, None, "fresh again");
}

#[tokio::test(start_paused = true)]
async fn does_not_serve_deleted_or_denied_secrets() {
    let sandbox = Sandbox::builder().build();
    let secrets = sandbox.aws().secretsmanager(ACCOUNT, REGION);
    secrets.create("gone", "1");
    secrets.create("closed", "1");
    let cache = cache(&sandbox);
    let wanted = references(["secretsmanager:gone", "secretsmanager:closed"]);
    assert_eq!(texts(&cache.fetch(&wanted).await), ["1", "1"]);
    secrets.delete("gone");
    secrets.deny("closed", "secretsmanager:GetSecretValue");
    advance(FRESH).await;
    assert_eq!(texts(&cache.fetch(&wanted).await), ["deleted", "denied"]);
    assert_eq!(cache.size().versions, 0, "no value is cached");
}

#[tokio::test(start_paused = true)]
async fn caches_absence_for_a_short_time() {
    let sandbox = Sandbox::builder().build();
    let cache = cache(&sandbox);
    for _ in 0..100 {
        assert_eq!(read(&cache, "/none").await, "missing");
    }
    assert_eq!(calls(&sandbox), 1);
    sandbox.aws().ssm(ACCOUNT, REGION).put("/none", "now");
    assert_eq!(read(&cache, "/none").await, "missing");
    advance(Duration::from_secs(10)).await;
    assert_eq!(read(&cache, "/none").await, "now");
}

#[tokio::test(start_paused = true)]
async fn no_reader_gets_an_older_value_after_a_refresh() {
    let sandbox = Sandbox::builder().build();
    let secrets = sandbox.aws().secretsmanager(ACCOUNT, REGION);
    secrets.create("a", "old");
    let cache = cache(&sandbox);
    // A slow response with the old value is in flight...
    sandbox.faults().inject(Fault::new(Effect::Stall(0, Duration::from_secs(2))));
    let slow = tokio::spawn({
        let cache = cache.clone();
        async move { read(&cache, "secretsmanager:a").await }
    });
    sleep(Duration::from_millis(100)).await;
    // ...when the secret is rotated and refreshed.
    secrets.rotate("a", "new");
    let refreshed = cache.refresh(&references(["secretsmanager:a", "secretsmanager:a"])).await;
    assert!(refreshed.iter().all(|answer| answer.as_ref().unwrap().value().expose_bytes() == b"new"));
    assert_eq!(read(&cache, "secretsmanager:a").await, "new");
    assert_eq!(slow.await.unwrap(), "old", "a read from before the refresh may return the old value");
    assert_eq!(read(&cache, "secretsmanager:a").await, "new", "but it is not cached");
    assert_eq!(calls(&sandbox), 2);
}

#[tokio::test(start_paused = true)]
async fn expire_affects_all_names_of_a_secret() {
    let sandbox = Sandbox::builder().build();
    let secrets = sandbox.aws().secretsmanager(ACCOUNT, REGION);
    let arn = secrets.create("prod/a", "1");
    secrets.create("other", "1");
    let cache = cache(&sandbox);
    let wanted: Vec<Reference> = references(["secretsmanager:prod/a", &arn, "secretsmanager:other"]);
    for id in ["prod/a", &*arn] {
        cache.fetch(&wanted).await;
        secrets.rotate("prod/a", id);
        cache.expire(id);
        assert_eq!(texts(&cache.fetch(&wanted).await), [id, id, "1"]);
    }
    // The last value is still served while the service is unavailable.
    sandbox.faults().inject(Fault::status(503).times(u32::MAX));
    cache.expire("prod/a");
    assert!(stale_for(&cache, &arn).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn another_reader_repeats_the_call_when_its_reader_is_dropped() {
    let sandbox = Sandbox::builder().build();
    sandbox.aws().secretsmanager(ACCOUNT, REGION).create("a", "1");
    sandbox.faults().inject(Fault::new(Effect::Delay(Duration::from_secs(2))));
    let cache = cache(&sandbox);
    let spawn = || {
        let cache = cache.clone();
        tokio::spawn(async move { read(&cache, "secretsmanager:a").await })
    };
    let first = spawn();
    sleep(Duration::from_millis(10)).await;
    let others: Vec<_> = (0..10).map(|_| spawn()).collect();
    sleep(Duration::from_millis(10)).await;
    first.abort();
    let read: Vec<String> = join_all(others).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(read, ["1"; 10]);
    assert_eq!(calls(&sandbox), 2);
}

#[tokio::test(start_paused = true)]
async fn evicts_the_least_recently_used_when_a_limit_is_exceeded() {
    let sandbox = Sandbox::builder().build();
    let parameters = sandbox.aws().ssm(ACCOUNT, REGION);
    let options = CacheOptions::default().limits(10_000, 40).unwrap();
    let cache = Cache::new(stores(&sandbox), options);
    parameters.put("/used", "u");
    for n in 0..200 {
        let name = format!("/p/{n}");
        parameters.put(&name, &"x".repeat(if n < 100 { 1000 } else { 1 }));
        read(&cache, &name).await;
        read(&cache, &format!("/none/{n}")).await;
        read(&cache, "/used").await;
        let size = cache.size();
        assert!(size.bytes <= 10_000 && size.entries <= 40, "{size:?}");
    }
    assert_eq!(sandbox.ledger().count_of("ssm:GetParameters"), 401);
    // A value that exceeds the limit is returned, but not cached.
    parameters.put("/big", &"y".repeat(20_000));
    assert_eq!(read(&cache, "/big").await.len(), 20_000);
    assert!(cache.size().bytes <= 10_000);
    cache.clear();
    assert_eq!((cache.size().entries, cache.size().bytes), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn accepts_the_maximum_duration_as_time_to_live() {
    let sandbox = Sandbox::builder().build();
    sandbox.aws().secretsmanager(ACCOUNT, REGION).create("a", "1");
    let options = CacheOptions::new(Duration::MAX, Duration::MAX).unwrap().absent_for(Duration::MAX);
    let cache = Cache::new(stores(&sandbox), options);
    for _ in 0..2 {
        assert_eq!(read(&cache, "secretsmanager:a").await, "1");
        assert!(cache.fetch_one(&"secretsmanager:b".parse().unwrap()).await.is_err());
    }
    assert_eq!(calls(&sandbox), 2, "the value and the absence are cached");
}
