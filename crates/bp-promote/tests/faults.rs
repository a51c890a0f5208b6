//! Tests of faults: the copy recovers, or reports the reason.

mod common;

use std::{sync::Arc, time::Duration};

use bp_artifact::{
    Digest, ImageRef,
    error::{Classified as _, ErrorClass},
};
use bp_promote::{
    CopyError, CopyOptions, RegistryClient,
    content::Descriptor,
    copy,
    copy::{CopyEvent, Side},
    registry::{Anonymous, CredentialError, CredentialSource, Login, RegistryError, transport},
    retry::RetryPolicy,
    store::StoreError,
};
use bp_sandbox::{
    Effect, Fault,
    registry::{Auth, Registry, RegistryOptions},
};
use common::*;
use futures_core::future::BoxFuture;
use futures_util::TryStreamExt as _;
use tokio::time::Instant;

fn throttled(seconds: u64) -> Effect {
    Effect::Answer {
        status: 429,
        headers: vec![("retry-after".into(), seconds.to_string())],
        body: r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#.into(),
    }
}

#[tokio::test(start_paused = true)]
async fn recovers_from_single_faults_of_every_kind() {
    let effects = [
        Effect::Answer { status: 503, headers: Vec::new(), body: String::new() },
        Effect::Answer { status: 500, headers: Vec::new(), body: "<html>".into() },
        throttled(2),
        Effect::Reset,
        Effect::LoseAnswer,
        Effect::CutBody(10),
        Effect::Corrupt(5),
        Effect::Stall(3, Duration::from_secs(300)),
        Effect::Delay(Duration::from_secs(3)),
    ];
    let image = multi();
    for effect in effects {
        for (host, operation) in [
            (SRC, "GET manifest"),
            (SRC, "GET blob"),
            (DST, "HEAD manifest"),
            (DST, "GET tags"),
            (DST, "POST upload"),
            (DST, "PUT upload"),
            (DST, "PUT manifest"),
        ] {
            let world = World::plain();
            world.push(&image);
            world.sandbox.faults().inject(Fault::new(effect.clone()).at(host).on(operation).times(2));
            let done = world.copy().await;
            assert!(done.is_ok(), "{effect:?} on {operation}: {done:?}");
            world.assert_copied(&image);
            let affected =
                world.sandbox.ledger().count(|entry| entry.fault.is_some() && entry.operation == operation);
            assert!(affected > 0, "{effect:?} on {operation}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn honours_and_reports_retry_after() {
    let world = World::plain();
    world.push(&single());
    world.sandbox.faults().inject(Fault::new(throttled(20)).at(SRC).on("GET manifest"));
    let start = Instant::now();
    let (from, to): (ImageRef, ImageRef) =
        (format!("{SRC}/shop/web:v1").parse().unwrap(), format!("{DST}/shop/web:v1").parse().unwrap());
    let mut work = copy(world.client.image(&from), world.client.image(&to), CopyOptions::default());
    let mut reported = false;
    while let Some(event) = work.next_event().await {
        if let CopyEvent::Retrying { side, reason, pause } = event {
            assert_eq!(side, Side::Source);
            assert!(reason.contains("throttled: TOOMANYREQUESTS: slow down"), "{reason}");
            assert!(pause >= Duration::from_secs(20));
            reported = true;
        }
    }
    work.await.unwrap();
    assert!(reported && start.elapsed() >= Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn resumes_an_interrupted_blob_read() {
    for options in [RegistryOptions::default(), RegistryOptions::default().without_ranges()] {
        let ranges = format!("{options:?}").contains("ranges: true");
        let world = World::new(options, RegistryOptions::default());
        let image = large(1 << 20);
        world.push(&image);
        let size = image.blobs().iter().map(|blob| blob.len() as u64).max().unwrap();
        world.sandbox.faults().inject(Fault::new(Effect::CutBody(700_000)).at(SRC).on("GET blob"));
        // The order of the blobs is not fixed: the fault may hit the small configuration, which it cannot cut.
        let report = world.copy().await.unwrap();
        world.assert_copied(&image);
        assert_eq!(world.sandbox.ledger().count_of("PUT upload"), 2, "nothing is sent twice");
        let read: u64 = world
            .sandbox
            .ledger()
            .entries()
            .iter()
            .filter(|entry| entry.operation == "GET blob")
            .map(|entry| entry.response_bytes)
            .sum();
        let total = report.bytes;
        if report.source_requests > 3 {
            assert_eq!(read == total, ranges, "{read} of {total}, largest {size}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_blob_is_resumed_as_often_as_the_retry_policy_allows() {
    for retries in [0, 2] {
        let world = World::plain();
        let image = large(1 << 20);
        world.push(&image);
        world.sandbox.faults().inject(Fault::new(Effect::CutBody(10)).at(SRC).on("GET blob").times(100));
        let client = RegistryClient::builder()
            .transport(transport(world.sandbox.transport()))
            .credentials(Anonymous)
            .retry(RetryPolicy::new(retries))
            .build()
            .unwrap();
        let repository = client.repository(&format!("{SRC}/shop/web").parse().unwrap());
        let layer = image.blobs().iter().max_by_key(|blob| blob.len()).unwrap().clone();
        let layer = Descriptor::of("", Digest::sha256(&layer), layer.len() as u64);
        let read = repository.blob(&layer).await.unwrap().try_collect::<Vec<_>>().await;
        assert!(matches!(read, Err(StoreError::Registry(RegistryError::Transport { .. }))), "{read:?}");
        assert_eq!(world.sandbox.ledger().count_of("GET blob"), 1 + retries);
    }
}

#[tokio::test(start_paused = true)]
async fn detects_a_corrupting_source_and_leaves_the_tag() {
    let world = World::plain();
    let (old, image) = (multi(), large(10_000));
    world.sandbox.registry(DST).push(&old, "shop/web", "v1");
    world.push(&image);
    world.sandbox.faults().inject(Fault::new(Effect::Corrupt(0)).at(SRC).on("GET blob").times(1000));
    let error = world.copy().await.unwrap_err();
    assert!(matches!(&error, CopyError::Source { source, .. } if source.is_corrupt()), "{error:?}");
    assert_eq!(error.class(), ErrorClass::DigestMismatch);
    world.assert_copied(&old);
}

#[tokio::test(start_paused = true)]
async fn the_error_states_an_unreachable_registry() {
    let world = World::plain();
    world.sandbox.faults().inject(Fault::new(Effect::Reset).at(SRC).times(1000));
    let error = world.copy().await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.to_string(), "GET dev.example.com/v2/shop/web/manifests/v1 failed: connection error");
    assert_eq!(error.class(), ErrorClass::Unavailable);
}

/// ECR logins from the sandbox, as the API would return them.
struct EcrLogins {
    registry: Arc<Registry>,
    lifetime: Duration,
    /// Set if the source reports the expiry, as ECR's API does; a credential helper does not.
    clock: Option<bp_sandbox::Clock>,
}

impl CredentialSource for EcrLogins {
    fn login<'a>(
        &'a self,
        registry: &'a bp_artifact::Registry,
    ) -> BoxFuture<'a, Result<Option<Login>, CredentialError>> {
        Box::pin(async move {
            if registry.as_str() != self.registry.host() {
                return Ok(None);
            }
            let login = Login::password("AWS", self.registry.log_in(self.lifetime));
            Ok(Some(match &self.clock {
                Some(clock) => login.until(clock.now() + self.lifetime),
                None => login,
            }))
        })
    }
}

#[tokio::test(start_paused = true)]
async fn ecr_passwords_are_renewed_before_and_after_they_expire() {
    const ECR: &str = "111111111111.dkr.ecr.eu-central-1.amazonaws.com";
    for reported in [true, false] {
        let sandbox = bp_sandbox::Sandbox::builder()
            .registry(SRC, RegistryOptions::default())
            .registry(ECR, RegistryOptions::ecr())
            .build();
        let clock = reported.then(|| sandbox.clock().clone());
        let logins = EcrLogins { registry: sandbox.registry(ECR), lifetime: Duration::from_secs(600), clock };
        let world = World { client: client(&sandbox, logins), sandbox };
        world.sandbox.registry(ECR).create_repository("shop/web");
        let image = multi();
        world.push(&image);
        // The password expires while responses are slow.
        let slow = Effect::Delay(Duration::from_secs(25));
        world.sandbox.faults().inject(Fault::new(slow).at(ECR).on("HEAD manifest").times(1));
        let slow = Effect::Delay(Duration::from_secs(29));
        world.sandbox.faults().inject(Fault::new(slow).at(SRC).on("GET blob").times(3));
        let slow = Effect::Delay(Duration::from_secs(280));
        world.sandbox.faults().inject(Fault::new(slow).at(ECR).on("PUT upload").times(3));
        let from = format!("{SRC}/shop/web:v1");
        world.copy_as(&from, &format!("{ECR}/shop/web:v1")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(600)).await;
        world.copy_as(&from, &format!("{ECR}/shop/web:v2")).await.unwrap();
        assert_eq!(world.sandbox.registry(ECR).tags("shop/web")["v2"], image.digest());
        let expired = world.sandbox.ledger().count(|entry| entry.status == Some(403));
        assert_eq!(expired == 0, reported, "a login with a known expiry is renewed in time: {expired}");
        assert_eq!(
            world.sandbox.ledger().count(|entry| entry.status == Some(401)),
            0,
            "no request for the challenge"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn fetches_tokens_once_per_scope_and_renews_them_on_expiry() {
    let options = RegistryOptions::default().auth(Auth::token("ci", "pw", Duration::from_secs(60)));
    let world = World::with(options, RegistryOptions::default(), login(SRC, "ci", "pw"));
    let image = multi();
    world.push(&image);
    world.copy().await.unwrap();
    world.assert_copied(&image);
    assert_eq!(world.sandbox.ledger().count_of("GET token"), 1);
    let refused = world.sandbox.ledger().count(|entry| entry.status == Some(401));
    assert_eq!(refused, 1, "only the first request is challenged");

    tokio::time::sleep(Duration::from_secs(61)).await;
    world.sandbox.ledger().clear();
    world.copy().await.unwrap();
    assert_eq!(world.operations(SRC), ["GET token", "GET manifest"], "renewed before it is rejected");
}

#[tokio::test(start_paused = true)]
async fn pulls_anonymously_with_a_token() {
    let (user, password, lifetime) = ("ci".to_owned(), "pw".to_owned(), Duration::from_secs(60));
    let auth = Auth::Token { user, password, lifetime, anonymous_pull: true };
    let world = World::new(RegistryOptions::default().auth(auth), RegistryOptions::default());
    let image = multi();
    world.push(&image);
    world.copy().await.unwrap();
    world.assert_copied(&image);
    assert_eq!(world.sandbox.ledger().count_of("GET token"), 1);
    // Pushing requires a login.
    let (from, to) = (format!("{DST}/shop/web:v1"), format!("{SRC}/other/web:v1"));
    let error = world.copy_as(&from, &to).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("was rejected as unauthorized"), "{source}");
}

#[tokio::test(start_paused = true)]
async fn reports_wrong_and_missing_credentials_without_looping() {
    let options = || RegistryOptions::default().auth(Auth::basic("ci", "pw"));
    for credentials in [login(SRC, "ci", "wrong"), bp_promote::registry::Logins::new()] {
        let world = World::with(options(), RegistryOptions::default(), credentials);
        world.push(&single());
        let error = world.copy().await.unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("was rejected as unauthorized"), "{source}");
        assert!(!source.contains("wrong"), "the error has no secret: {source}");
        assert!(world.operations(SRC).len() <= 2, "it does not loop: {:?}", world.operations(SRC));
        assert_eq!(error.class(), ErrorClass::Unavailable);
    }
}

#[tokio::test(start_paused = true)]
async fn does_not_send_credentials_to_another_host() {
    let options =
        RegistryOptions::default().auth(Auth::basic("ci", "pw")).redirect_blobs_to("s3.example.com");
    let world = World::with(options, RegistryOptions::default(), login(SRC, "ci", "pw"));
    let image = single();
    world.push(&image);
    world.copy().await.unwrap();
    world.assert_copied(&image);
    assert_eq!(
        world.operations("s3.example.com").len(),
        3,
        "the object store rejects requests with credentials"
    );
}

#[tokio::test(start_paused = true)]
async fn retries_while_pushed_blobs_are_not_visible_yet() {
    let world = World::new(
        RegistryOptions::default(),
        RegistryOptions::default().validator_lag(Duration::from_millis(400)),
    );
    let image = multi();
    world.push(&image);
    world.copy().await.unwrap();
    world.assert_copied(&image);
}

#[tokio::test(start_paused = true)]
async fn a_rerun_completes_a_copy_killed_at_any_request() {
    let image = multi();
    let mut finished = false;
    for requests in 1.. {
        let world = World::plain();
        world.push(&image);
        // All requests to the destination stall after this number; then the handle is dropped.
        let stalled = Effect::Delay(Duration::from_secs(86_400));
        world.sandbox.faults().inject(Fault::new(stalled).at(DST).after(requests).times(10_000));
        let completed = tokio::time::timeout(Duration::from_secs(20), world.copy()).await;
        world.sandbox.faults().clear();
        if completed.is_ok() {
            finished = true;
            break;
        }
        let tagged = world.sandbox.registry(DST).tags("shop/web");
        assert!(tagged.is_empty(), "after {requests} requests nothing is visible");
        let stored = world.sandbox.registry(DST).blobs("shop/web").len();
        world.sandbox.ledger().clear();
        let report = world.copy().await.unwrap();
        world.assert_copied(&image);
        let sent = world.sandbox.ledger().count_of("PUT upload");
        assert!(sent + stored <= 5 + 1, "existing blobs are not sent again: {stored} + {sent}");
        assert_eq!(report.digest.as_str(), image.digest());
    }
    assert!(finished);
}

#[tokio::test(start_paused = true)]
async fn cancelling_stops_with_an_error() {
    let world = World::plain();
    world.push(&single());
    let stalled = Effect::Delay(Duration::from_secs(86_400));
    world.sandbox.faults().inject(Fault::new(stalled).at(DST).on("POST upload"));
    let (from, to): (ImageRef, ImageRef) =
        (format!("{SRC}/shop/web:v1").parse().unwrap(), format!("{DST}/shop/web:v1").parse().unwrap());
    let work = copy(world.client.image(&from), world.client.image(&to), CopyOptions::default());
    tokio::time::sleep(Duration::from_secs(1)).await;
    work.cancel();
    let error = work.await.unwrap_err();
    assert!(matches!(error, CopyError::Cancelled));
    assert_eq!(error.class(), ErrorClass::Interrupted);
}

#[tokio::test(start_paused = true)]
async fn retries_a_stalled_upload_after_the_idle_timeout() {
    let world = World::plain();
    let image = large(1 << 20);
    world.push(&image);
    // The registry stops reading one upload.
    let stalled = Effect::Delay(Duration::from_secs(86_400));
    world.sandbox.faults().inject(Fault::new(stalled).at(DST).on("PUT upload"));
    let start = Instant::now();
    world.copy().await.unwrap();
    world.assert_copied(&image);
    let took = start.elapsed();
    assert!((Duration::from_secs(30)..Duration::from_secs(40)).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn slows_down_and_completes_under_throttling() {
    let world = World::plain();
    let image = (0..40)
        .fold(bp_sandbox::ImageBuilder::new(), |image, n| image.layer([(format!("f{n}"), n.to_string())]))
        .build();
    world.push(&image);
    for host in [SRC, DST] {
        world.sandbox.faults().inject(Fault::new(throttled(1)).at(host).after(5).times(60));
    }
    world.copy().await.unwrap();
    world.assert_copied(&image);
}

#[tokio::test(start_paused = true)]
async fn renews_a_revoked_token_during_a_run() {
    for status in [401, 403] {
        for operation in ["GET blob", "GET manifest"] {
            let options = RegistryOptions::default().auth(Auth::token("ci", "pw", Duration::from_secs(600)));
            let world = World::with(options, RegistryOptions::default(), login(SRC, "ci", "pw"));
            let image = multi();
            world.push(&image);
            // The first request is challenged; a later one uses a revoked token.
            world.sandbox.faults().inject(Fault::status(status).at(SRC).on(operation).after(2));
            world.copy().await.unwrap();
            world.assert_copied(&image);
            assert_eq!(world.sandbox.ledger().count_of("GET token"), 2, "{status} {operation}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn uploads_do_not_block_reads_within_one_registry() {
    let world = World::new(RegistryOptions::default().mounts(false), RegistryOptions::default());
    let layer = |n: u8| {
        [(format!("f{n}"), std::iter::repeat_with(|| fastrand::u8(..)).take(50_000).collect::<Vec<_>>())]
    };
    let image = (0..24).fold(bp_sandbox::ImageBuilder::new(), |image, n| image.layer(layer(n))).build();
    world.push(&image);
    // Throttling reduces the concurrency limit, and then each read is interrupted in the middle of its upload.
    for operation in ["HEAD manifest", "GET manifest", "GET tags", "POST mount"] {
        world.sandbox.faults().inject(Fault::new(throttled(2)).at(SRC).on(operation).times(3));
    }
    world.sandbox.faults().inject(Fault::new(Effect::CutBody(20_000)).at(SRC).on("GET blob").times(24));
    let (from, to) = (format!("{SRC}/shop/web:v1"), format!("{SRC}/prod/web:v1"));
    let copied = world.copy_as(&from, &to);
    let copied = tokio::time::timeout(Duration::from_secs(3600), copied).await;
    copied.expect("the copy completes").unwrap();
    assert_eq!(world.sandbox.registry(SRC).tags("prod/web")["v1"], image.digest());
}
