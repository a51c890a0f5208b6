//! Sizes that no content has, and images that are deeper or wider than any that somebody built.

use std::sync::{Arc, Mutex};

use bp_artifact::{
    Digest,
    error::{Classified as _, ErrorClass},
};
use bp_promote::{CopyError, CopyOptions, copy::plan};
use serde_json::{Value, json};

use crate::{net::*, source::*};

#[tokio::test(start_paused = true)]
async fn rejects_sizes_that_no_blob_has_and_names_them() {
    for size in ["18446744073709551615", "9223372036854775808", "-1", "1e30"] {
        let blob = |name: &str, size: &str| {
            format!(r#"{{"mediaType":"a/b","digest":"{}","size":{size}}}"#, Digest::sha256(name))
        };
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{},"layers":[{},{}]}}"#,
            blob("c", "2"),
            blob("a", size),
            blob("b", size)
        );
        let mut shelf = Shelf::default();
        let digest = shelf.put(MANIFEST, text);
        shelf.tag("v1", &digest);
        let (client, _) = client(move |seen| shelf.serve(seen));
        let error = promote(&client).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::BadInput);
        let error = told(&error);
        assert!(error.contains(size) || size == "1e30", "{size}: {error}");
        let [from, to] = sides(&client);
        plan(from, to, CopyOptions::default()).await.unwrap_err();
    }
}

#[tokio::test(start_paused = true)]
async fn sums_of_sizes_stop_at_the_most_that_they_can_be() {
    let layers: Vec<Value> = (0..5)
        .map(|n| json!({ "mediaType": "a/b", "digest": Digest::sha256(n.to_string()), "size": i64::MAX }))
        .collect();
    let mut shelf = Shelf::default();
    let digest = shelf.put(MANIFEST, json!({ "mediaType": MANIFEST, "layers": layers }).to_string());
    shelf.tag("v1", &digest);
    let (client, _) = client(move |seen| shelf.serve(seen));
    let [from, to] = sides(&client);
    let planned = plan(from, to, CopyOptions::default()).await.unwrap();
    assert_eq!(planned.bytes(), u64::MAX);
    assert!(planned.to_string().contains("18446744073709551615 bytes"));
    assert!(promote(&client).await.is_err(), "there is nothing to be had");
}

#[tokio::test(start_paused = true)]
async fn a_blob_of_another_size_than_its_descriptor_blames_the_source_at_once() {
    for size in [3, 5, 1_000_000_000_000_000_u64] {
        let mut shelf = Shelf::default();
        let blob = shelf.put("a/b", "blob");
        let layer = json!({ "mediaType": "a/b", "digest": blob, "size": size });
        let digest = shelf.put(MANIFEST, json!({ "mediaType": MANIFEST, "layers": [layer] }).to_string());
        shelf.tag("v1", &digest);
        let (client, log) = client(move |seen| {
            let mut answer = shelf.serve(seen);
            if seen.path.contains("/blobs/") {
                answer.headers_mut().insert("content-length", 4.into());
            }
            answer
        });
        let error = promote(&client).await.unwrap_err();
        assert!(matches!(error, CopyError::Source { .. }), "{error:?}");
        let error = told(&error);
        assert!(error.contains(&format!("{size} bytes")) && error.contains('4'), "{error}");
        let reads =
            log.all().iter().filter(|seen| seen.method == "GET" && seen.path.contains("/blobs/")).count();
        assert_eq!(reads, 1, "it is not tried again");
    }
}

#[tokio::test(start_paused = true)]
async fn indexes_nested_without_end_are_an_error() {
    for (depth, is_taken) in [(4, true), (300, false), (3_000, false)] {
        let mut shelf = Shelf::default();
        let mut digest = shelf.put(MANIFEST, json!({ "mediaType": MANIFEST, "layers": [] }).to_string());
        let mut media_type = MANIFEST;
        for _ in 0..depth {
            digest = shelf.put(INDEX, index(&[link(&digest, media_type)]));
            media_type = INDEX;
        }
        shelf.tag("v1", &digest);
        let (client, log) = client(move |seen| shelf.serve(seen));
        let [from, to] = sides(&client);
        let planned = plan(from, to, CopyOptions::default().referrers()).await.map(|_| ());
        let copied = promote(&client).await.map(|_| ());
        for result in [planned, copied] {
            match result {
                Ok(()) => assert!(is_taken, "{depth}"),
                Err(error) => {
                    assert!(!is_taken, "{depth}: {}", told(&error));
                    assert!(error.to_string().contains("nested"), "{error}");
                    assert_eq!(error.class(), ErrorClass::BadInput);
                }
            }
        }
        assert!(log.count() < 200, "{depth}: {} requests", log.count());
    }
}

#[tokio::test(start_paused = true)]
async fn an_index_of_diamonds_is_read_once() {
    let mut shelf = Shelf::default();
    let leaf = shelf.put(MANIFEST, json!({ "mediaType": MANIFEST, "layers": [] }).to_string());
    let mut level = [link(&leaf, MANIFEST), link(&leaf, MANIFEST)];
    const LEVELS: usize = 12;
    for n in 0..LEVELS {
        level = ["a", "b"].map(|side| {
            let text = json!({ "mediaType": INDEX, "manifests": level, "annotations": { side: n } });
            link(&shelf.put(INDEX, text.to_string()), INDEX)
        });
    }
    let top = shelf.put(INDEX, index(&level));
    shelf.tag("v1", &top);
    let (client, log) = client(move |seen| match seen.path.contains("/referrers/") {
        true => answer(200, &[], r#"{"manifests":[]}"#),
        false => shelf.serve(seen),
    });
    let [from, to] = sides(&client);
    plan(from, to, CopyOptions::default().referrers()).await.unwrap();
    promote(&client).await.unwrap();
    let manifests = 2 * LEVELS + 2;
    let reads =
        log.to(SRC).iter().filter(|seen| seen.method == "GET" && seen.path.contains("/manifests/")).count();
    assert!(reads <= 2 * 2 * manifests, "each is read for the copy and for what is attached to it: {reads}");
}

#[tokio::test(start_paused = true)]
async fn an_image_of_too_many_manifests_is_an_error() {
    let children: Vec<Value> = (0..20_000).map(|n| link(&Digest::sha256(n.to_string()), MANIFEST)).collect();
    let mut shelf = Shelf::default();
    let top = shelf.put(INDEX, index(&children));
    shelf.tag("v1", &top);
    let (client, log) = client(move |seen| shelf.serve(seen));
    let error = promote(&client).await.unwrap_err();
    assert!(error.to_string().contains("10000 manifests"), "{error}");
    assert!(log.count() < 10, "nothing of it is read: {}", log.count());
}

#[tokio::test(start_paused = true)]
async fn referrers_of_referrers_without_end_are_an_error() {
    let mut shelf = Shelf::default();
    let top = shelf.put(MANIFEST, json!({ "mediaType": MANIFEST, "layers": [] }).to_string());
    shelf.tag("v1", &top);
    let shelf = Arc::new(Mutex::new(shelf));
    // Each manifest is said to be signed by another one.
    let (client, log) = client(move |seen| {
        let mut shelf = shelf.lock().unwrap();
        match seen.path.split_once("/referrers/") {
            Some((_, subject)) => {
                let many: Vec<Value> = (0..100)
                    .map(|n| {
                        let text = json!({ "mediaType": MANIFEST, "layers": [], "of": [subject, n] });
                        link(&shelf.put(MANIFEST, text.to_string()), MANIFEST)
                    })
                    .collect();
                answer(200, &[], index(&many))
            }
            None => shelf.serve(seen),
        }
    });
    let error = promote(&client).await.unwrap_err();
    assert!(error.to_string().contains("10000 manifests"), "{error}");
    assert!(log.count() < 70_000, "{}", log.count());
}
