//! Responses that are too large, too slow, or contain impossible numbers.

use std::time::Duration;

use bp_artifact::{Digest, error::Classified as _};
use bp_promote::{content::Descriptor, store::StoreError};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::Response;
use tokio::time::Instant;

use crate::{net::*, source::*};

#[tokio::test(start_paused = true)]
async fn does_not_retry_oversized_responses() {
    let large = Bytes::from(vec![b' '; (16 << 20) + 1]);
    let (client, log) = client(move |_| answer(200, &[("content-type", INDEX)], large.clone()));
    let repository = of(&client, SRC);
    let limit = (16 << 20).to_string();
    for error in [
        repository.manifest(&tag()).await.unwrap_err(),
        repository.tags().await.unwrap_err(),
        repository.referrers(&Digest::sha256("x")).await.unwrap_err(),
    ] {
        assert!(error.to_string().contains(&format!("{limit} bytes")), "{error}");
        assert!(!error.is_retryable());
    }
    assert_eq!(log.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn limits_the_time_of_slow_responses() {
    for status in [200, 404, 503] {
        let (client, _) = client(move |_| {
            let mut response = Response::new(trickle("{"));
            *response.status_mut() = status.try_into().unwrap();
            response
        });
        let repository = of(&client, SRC);
        let start = Instant::now();
        repository.manifest(&tag()).await.unwrap_err();
        let manifest = start.elapsed();
        repository.tags().await.unwrap_err();
        let tags = start.elapsed() - manifest;
        // A retryable error is read three times.
        let bound = Duration::from_secs(if status == 503 { 370 } else { 125 });
        assert!(manifest < bound && tags < bound, "{status}: {manifest:?} {tags:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn limits_the_time_of_slow_blobs() {
    let blob = Descriptor::of("a/b", Digest::sha256("blob"), 1 << 20);
    let (client, log) = client(move |_| Response::new(trickle("b")));
    let start = Instant::now();
    let stream = of(&client, SRC).blob(&blob).await.unwrap();
    let error = stream.try_collect::<Vec<Bytes>>().await.unwrap_err();
    assert!(error.to_string().contains("too slow: 20 bytes in 60 s"), "{error}");
    assert!(error.is_retryable() && log.count() == 1);
    assert!(start.elapsed() < Duration::from_secs(70), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn bounds_retry_after_delays() {
    for after in
        ["18446744073709551615", "99999999999999999999999", "-1", "1e9", "Fri, 31 Dec 9999 23:59:59 GMT"]
    {
        let (client, _) = client(move |_| answer(429, &[("retry-after", after)], ""));
        let start = Instant::now();
        let error = of(&client, SRC).manifest(&tag()).await.unwrap_err();
        assert!(error.to_string().contains("throttled"), "{error}");
        // The delay for other requests is bounded too.
        of(&client, SRC).tags().await.unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(700), "{after}: {:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn gives_up_on_a_blob_read_byte_by_byte() {
    const SIZE: usize = 100_000;
    let bytes = vec![7_u8; SIZE];
    let blob = Descriptor::of("a/b", Digest::sha256(&bytes), SIZE as u64);
    // Each connection breaks after one byte.
    let (client, log) = client(move |seen| {
        let range = seen.headers.get("range").and_then(|range| range.to_str().ok());
        let at: usize = range.and_then(|range| range.split(['=', '-']).nth(1)?.parse().ok()).unwrap_or(0);
        let first = Bytes::copy_from_slice(&bytes[at..=at]);
        let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let body = pieces(stream::iter([Ok(first), Err(broken)]));
        let range = format!("bytes {at}-{}/{SIZE}", SIZE - 1);
        let mut response = Response::new(body);
        *response.status_mut() = 206.try_into().unwrap();
        response.headers_mut().insert("content-range", range.parse().unwrap());
        response
    });
    let stream = of(&client, SRC).blob(&blob).await.unwrap();
    let read: Result<Vec<Bytes>, StoreError> = stream.try_collect().await;
    assert!(read.is_err());
    assert!(log.count() < 20, "{}", log.count());
}

#[tokio::test(start_paused = true)]
async fn survives_ranges_with_any_numbers() {
    for (status, range) in [
        (206, "bytes 18446744073709551615-0/1"),
        (206, "bytes 0-18446744073709551615/18446744073709551615"),
        (206, "bytes 3-2/1"),
        (206, ""),
        (200, "bytes 9-9/9"),
    ] {
        let (client, _) = client(move |_| answer(status, &[("content-range", range)], "blob"));
        let blob = Descriptor::of("a/b", Digest::sha256("blob"), 4);
        if let Ok(stream) = of(&client, SRC).blob(&blob).await {
            let _ = stream.collect::<Vec<_>>().await;
        }
    }
}
