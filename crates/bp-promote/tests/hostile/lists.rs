//! Endless lists, and JSON of unexpected types.

use bp_artifact::Digest;
use bp_promote::{CopyOptions, content::Manifest, copy, registry::RegistryError};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::{net::*, source::*};

#[tokio::test(start_paused = true)]
async fn rejects_repeated_and_endless_pages() {
    let endless = |seen: &RecordedRequest| {
        let last: u64 = seen.query.rsplit('=').next().and_then(|last| last.parse().ok()).unwrap_or(0);
        format!("{}?last={}", seen.path, last + 1)
    };
    let same = |seen: &RecordedRequest| format!("{}?{}", seen.path, seen.query);
    let pair = |seen: &RecordedRequest| {
        format!("{}?last={}", seen.path, if seen.query.ends_with("=1") { 2 } else { 1 })
    };
    type Next = fn(&RecordedRequest) -> String;
    for (next, bound) in [(same as Next, 2), (pair as Next, 3), (endless as Next, 10_000)] {
        let (client, log) = client(move |seen| {
            let link = format!("<{}>; rel=\"next\"", next(seen));
            let body = if seen.path.ends_with("/list") {
                r#"{"tags":["a"]}"#.to_owned()
            } else {
                index(&[link_of(seen)])
            };
            answer(200, &[("link", &link)], body)
        });
        let repository = of(&client, SRC);
        let tags = repository.tags().await.unwrap_err().to_string();
        let after = log.count();
        let referrers = repository.referrers(&Digest::sha256("x")).await.unwrap_err().to_string();
        for error in [&tags, &referrers] {
            assert!(error.contains("page"), "{error}");
        }
        assert!(after <= bound && log.count() - after <= bound, "{after} {}", log.count());
    }
    fn link_of(seen: &RecordedRequest) -> Value {
        link(&Digest::sha256(&seen.query), MANIFEST)
    }
}

#[tokio::test(start_paused = true)]
async fn limits_the_memory_for_lists() {
    // Pages of 50,000 tags, and of one referrer with an annotation of 10 MiB.
    let tags = format!(r#"{{"tags":[{}"v"]}}"#, r#""v","#.repeat(49_999));
    let digest = Digest::sha256("x");
    let (before, after) =
        (r#"{"manifests":[{"size":1,"annotations":{"a":""#, format!(r#""}},"digest":"{digest}"}}]}}"#));
    let referrers = format!("{before}{}{after}", "a".repeat(10 << 20));
    let (client, log) = client(move |seen| {
        let page: u64 = seen.query.rsplit('=').next().and_then(|last| last.parse().ok()).unwrap_or(0) % 1_000;
        let link = format!("<{}?last={}>; rel=\"next\"", seen.path, page + 1);
        let body = if seen.path.ends_with("/list") { &tags } else { &referrers };
        answer(200, &[("link", &link)], body.clone())
    });
    let repository = of(&client, SRC);
    let error = repository.tags().await.unwrap_err().to_string();
    assert!(error.contains("1000000 entries"), "{error}");
    assert!(log.count() <= 21, "{}", log.count());
    let before = log.count();
    let error = repository.referrers(&Digest::sha256("x")).await.unwrap_err().to_string();
    assert!(error.contains("bytes"), "{error}");
    assert!(log.count() - before <= 30, "{}", log.count() - before);
}

#[tokio::test(start_paused = true)]
async fn skips_invalid_tags() {
    let long = "a".repeat(1 << 20);
    let (client, _) = client(move |_| {
        answer(200, &[], json!({ "tags": ["v1", long, "", "-x", "a b", "\u{1b}[2J", "v2"] }).to_string())
    });
    let tags = of(&client, SRC).tags().await.unwrap();
    assert_eq!(tags.iter().map(|tag| tag.as_str()).collect::<Vec<_>>(), ["v1", "v2"]);
}

#[tokio::test(start_paused = true)]
async fn reads_null_as_an_empty_list() {
    let mut store = ContentStore::default();
    let blob = store.put("a/b", "blob");
    let layer = json!({ "mediaType": "a/b", "digest": blob, "size": 4, "urls": null, "annotations": null,
        "data": null, "artifactType": null });
    let child = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": null, "layers": [layer],
        "blobs": null, "manifests": null, "subject": null, "annotations": null });
    let child = store.put(MANIFEST, child.to_string());
    let other = json!({ "schemaVersion": 2, "mediaType": null, "layers": null, "config": { "mediaType": null,
        "digest": blob, "size": 4 } });
    let other = store.put(MANIFEST, other.to_string());
    let top = json!({ "schemaVersion": 2, "mediaType": INDEX, "layers": null, "blobs": null,
        "manifests": [link(&child, MANIFEST), link(&other, MANIFEST)], "annotations": null });
    let top = store.put(INDEX, top.to_string());
    store.tag("v1", &top);
    let (client, _) = client(move |seen| match () {
        () if seen.path.contains("/referrers/") => answer(200, &[], r#"{"manifests":null}"#),
        () if seen.path.contains("/tags/") => answer(200, &[], r#"{"tags":null}"#),
        () => store.serve(seen),
    });
    let report = promote(&client).await.unwrap();
    assert_eq!((report.manifests.sent, report.blobs.sent), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn rejects_documents_that_are_not_objects() {
    for body in ["[]", "[[]]", "[[\"a\"]]", "\"x\"", "null", "5", "true"] {
        let text = body.to_owned();
        let (client, _) = client(move |seen| {
            if seen.path.contains("/manifests/") {
                answer(200, &[("content-type", INDEX)], text.clone())
            } else {
                answer(200, &[], text.clone())
            }
        });
        let repository = of(&client, SRC);
        assert!(repository.tags().await.is_err(), "{body}");
        // The API is not available, and the fallback tag lists nothing.
        assert_eq!(repository.referrers(&Digest::sha256("x")).await.unwrap(), [], "{body}");
        for options in
            [CopyOptions::default(), CopyOptions::default().platforms(["linux/amd64".parse().unwrap()])]
        {
            let [from, to] = sides(&client);
            copy(from, to, options).await.unwrap_err();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn never_overwrites_a_fallback_tag_that_is_not_a_list() {
    for (body, is_list) in [
        ("[]", false),
        ("\"x\"", false),
        ("null", false),
        ("5", false),
        ("{}", false),
        (r#"{"manifests":{}}"#, false),
        (r#"{"manifests":"x"}"#, false),
        (r#"{"manifests":null}"#, true),
        (r#"{"manifests":[]}"#, true),
        (r#"{"manifests":[null,5,"x",[],{}]}"#, true),
    ] {
        let text = body.to_owned();
        let (client, log) = client(move |seen| match seen.method.as_str() {
            "PUT" => answer(201, &[], ""),
            _ => answer(200, &[("content-type", INDEX)], text.clone()),
        });
        let manifest = Manifest::read(Some(MANIFEST), None, Bytes::from("{}")).unwrap();
        let put = of(&client, SRC).put_referrer(&Digest::sha256("x"), &manifest).await;
        assert_eq!(put.is_ok(), is_list, "{body}: {put:?}");
        let lists =
            log.all().into_iter().filter(|seen| seen.method == "PUT" && seen.path.contains("/sha256-"));
        let lists: Vec<_> = lists.collect();
        assert_eq!(lists.len(), usize::from(is_list), "{body}");
        if let Some(list) = lists.first() {
            let list: Value = serde_json::from_slice(&list.body).unwrap();
            let last = list["manifests"].as_array().unwrap().last().unwrap();
            assert_eq!(last["digest"], manifest.digest.as_str());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn truncates_error_responses_of_any_json() {
    let long = "x".repeat(100_000);
    for body in [
        r#"{"errors":null}"#.to_owned(),
        r#"{"errors":[{"code":null,"message":null}]}"#.to_owned(),
        r#"{"errors":[null]}"#.to_owned(),
        r#"{"errors":{"code":"X"}}"#.to_owned(),
        "[]".to_owned(),
        json!({ "errors": [{ "code": "DENIED", "message": long }] }).to_string(),
        json!({ "errors": vec![json!({ "code": "DENIED", "message": "no" }); 10_000] }).to_string(),
    ] {
        let (client, _) = client(move |_| answer(400, &[], body.clone()));
        let error = of(&client, SRC).manifest(&tag()).await.unwrap_err();
        assert!(matches!(error, RegistryError::Refused { .. }), "{error:?}");
        assert!(error.to_string().len() < 10_000, "{}", error.to_string().len());
    }
}
