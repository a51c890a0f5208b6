//! Invalid sizes, and images that are nested too deeply or have too many manifests.

use std::sync::{Arc, Mutex};

use bp_artifact::{
    Digest,
    error::{Classified as _, ErrorClass},
};
use bp_promote::{CopyError, CopyOptions, copy::plan};
use serde_json::{Value, json};

use crate::{net::*, source::*};

#[tokio::test(start_paused = true)]
async fn rejects_and_reports_invalid_sizes() {
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
        let mut store = ContentStore::default();
        let digest = store.put(MANIFEST, text);
        store.tag("v1", &digest);
        let (client, _) = client(move |seen| store.serve(seen));
        let error = promote(&client).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::BadInput);
        let error = error_chain(&error);
        assert!(error.contains(size) || size == "1e30", "{size}: {error}");
        let [from, to] = sides(&client);
        plan(from, to, CopyOptions::default()).await.unwrap_err();
    }
}

#[tokio::test(start_paused = true)]
async fn sums_of_sizes_saturate() {
    let layers: Vec<Value> = (0..5)
        .map(|n| json!({ "mediaType": "a/b", "digest": Digest::sha256(n.to_string()), "size": i64::MAX }))
        .collect();
    let mut store = ContentStore::default();
    let digest = store.put(MANIFEST, json!({ "mediaType": MANIFEST, "layers": layers }).to_string());
    store.tag("v1", &digest);
    let (client, _) = client(move |seen| store.serve(seen));
    let [from, to] = sides(&client);
    let planned = plan(from, to, CopyOptions::default()).await.unwrap();
    assert_eq!(planned.bytes(), u64::MAX);
    assert!(planned.to_string().contains("18446744073709551615 bytes"));
    assert!(promote(&client).await.is_err(), "the blobs do not exist");
}

#[tokio::test(start_paused = true)]
async fn rejects_a_blob_whose_size_differs_from_its_descriptor() {
    for (size, has_length) in
        [(3, true), (5, true), (1_000_000_000_000_000_u64, true), (3, false), (1, false)]
    {
        let mut store = ContentStore::default();
        let blob = store.put("a/b", "blob");
        let layer = json!({ "mediaType": "a/b", "digest": blob, "size": size });
        let digest = store.put(MANIFEST, json!({ "mediaType": MANIFEST, "layers": [layer] }).to_string());
        store.tag("v1", &digest);
        let (client, log) = client(move |seen| {
            let mut answer = store.serve(seen);
            if seen.path.contains("/blobs/") && has_length {
                answer.headers_mut().insert("content-length", 4.into());
            }
            answer
        });
        let error = promote(&client).await.unwrap_err();
        assert!(matches!(error, CopyError::Source { .. }), "{size} {error:?}");
        let error = error_chain(&error);
        assert!(error.contains(&format!("{size} bytes")) && error.contains('4'), "{error}");
        let reads =
            log.all().iter().filter(|seen| seen.method == "GET" && seen.path.contains("/blobs/")).count();
        assert_eq!(reads, 1, "it is not retried");
    }
}

#[tokio::test(start_paused = true)]
async fn rejects_endlessly_nested_indexes() {
    for (depth, is_accepted) in [(4, true), (300, false), (3_000, false)] {
        let mut store = ContentStore::default();
        let mut digest = store.put(MANIFEST, json!({ "mediaType": MANIFEST, "layers": [] }).to_string());
        let mut media_type = MANIFEST;
        for _ in 0..depth {
            digest = store.put(INDEX, index(&[link(&digest, media_type)]));
            media_type = INDEX;
        }
        store.tag("v1", &digest);
        let (client, log) = client(move |seen| store.serve(seen));
        let [from, to] = sides(&client);
        let planned = plan(from, to, CopyOptions::default().referrers()).await.map(|_| ());
        let copied = promote(&client).await.map(|_| ());
        for result in [planned, copied] {
            match result {
                Ok(()) => assert!(is_accepted, "{depth}"),
                Err(error) => {
                    assert!(!is_accepted, "{depth}: {}", error_chain(&error));
                    assert!(error.to_string().contains("nested"), "{error}");
                    assert_eq!(error.class(), ErrorClass::BadInput);
                }
            }
        }
        assert!(log.count() < 200, "{depth}: {} requests", log.count());
    }
}

#[tokio::test(start_paused = true)]
async fn reads_each_manifest_of_a_diamond_index_once() {
    let mut store = ContentStore::default();
    let leaf = store.put(MANIFEST, json!({ "mediaType": MANIFEST, "layers": [] }).to_string());
    let mut level = [link(&leaf, MANIFEST), link(&leaf, MANIFEST)];
    const LEVELS: usize = 12;
    for n in 0..LEVELS {
        level = ["a", "b"].map(|side| {
            let text = json!({ "mediaType": INDEX, "manifests": level, "annotations": { side: n } });
            link(&store.put(INDEX, text.to_string()), INDEX)
        });
    }
    let top = store.put(INDEX, index(&level));
    store.tag("v1", &top);
    let (client, log) = client(move |seen| {
        if seen.path.contains("/referrers/") {
            answer(200, &[], r#"{"manifests":[]}"#)
        } else {
            store.serve(seen)
        }
    });
    let [from, to] = sides(&client);
    plan(from, to, CopyOptions::default().referrers()).await.unwrap();
    promote(&client).await.unwrap();
    let manifests = 2 * LEVELS + 2;
    let reads =
        log.to(SRC).iter().filter(|seen| seen.method == "GET" && seen.path.contains("/manifests/")).count();
    assert!(reads <= 2 * 2 * manifests, "each is read once for the copy and once for its referrers: {reads}");
}

#[tokio::test(start_paused = true)]
async fn rejects_an_image_with_too_many_manifests() {
    let children: Vec<Value> = (0..20_000).map(|n| link(&Digest::sha256(n.to_string()), MANIFEST)).collect();
    let mut store = ContentStore::default();
    let top = store.put(INDEX, index(&children));
    store.tag("v1", &top);
    let (client, log) = client(move |seen| store.serve(seen));
    let error = promote(&client).await.unwrap_err();
    assert!(error.to_string().contains("10000 manifests"), "{error}");
    assert!(log.count() < 10, "no child is read: {}", log.count());
}

#[tokio::test(start_paused = true)]
async fn rejects_endless_referrers() {
    let mut store = ContentStore::default();
    let top = store.put(MANIFEST, json!({ "mediaType": MANIFEST, "layers": [] }).to_string());
    store.tag("v1", &top);
    let store = Arc::new(Mutex::new(store));
    // Each manifest has further referrers.
    let (client, log) = client(move |seen| {
        let mut store = store.lock().unwrap();
        match seen.path.split_once("/referrers/") {
            Some((_, subject)) => {
                let many: Vec<Value> = (0..100)
                    .map(|n| {
                        let text = json!({ "mediaType": MANIFEST, "layers": [], "of": n,
                            "subject": { "mediaType": MANIFEST, "digest": subject, "size": 1 } });
                        link(&store.put(MANIFEST, text.to_string()), MANIFEST)
                    })
                    .collect();
                answer(200, &[], index(&many))
            }
            None => store.serve(seen),
        }
    });
    let error = promote(&client).await.unwrap_err();
    assert!(error.to_string().contains("10000 manifests"), "{error}");
    assert!(log.count() < 70_000, "{}", log.count());
}
