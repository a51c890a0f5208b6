//! Tests of the journal: another process resumes a killed run.

mod common;

use std::{path::Path, time::Duration};

use bp_promote::{
    Journal, RegistryClient,
    registry::{Anonymous, transport},
};
use bp_sandbox::{Effect, Fault, Sandbox, registry::RegistryOptions};
use common::*;

/// Another process: the same registries, and a client that shares only the journal.
fn process(sandbox: &Sandbox, journal: &Path) -> World {
    let client = RegistryClient::builder()
        .transport(transport(sandbox.transport()))
        .credentials(Anonymous)
        .journal(Journal::open(journal).unwrap().resume_from(64 << 10))
        .build()
        .unwrap();
    World { client, sandbox: sandbox.clone() }
}

fn sandbox() -> Sandbox {
    Sandbox::builder()
        .registry(SRC, RegistryOptions::default())
        .registry(DST, RegistryOptions::default())
        .build()
}

const SIZE: usize = 300 << 10;

/// Kills a copy after the source has sent about two thirds of the large layer.
async fn kill_copy(world: &World) {
    let stalled = Effect::Stall(200 << 10, Duration::from_secs(86_400));
    world.sandbox.faults().inject(Fault::new(stalled).at(SRC).on("GET blob").times(100));
    let _ = tokio::time::timeout(Duration::from_secs(5), world.copy()).await.unwrap_err();
    world.sandbox.faults().clear();
}

fn sent(world: &World) -> u64 {
    let uploads =
        world.sandbox.ledger().entries().into_iter().filter(|entry| entry.operation.ends_with(" upload"));
    uploads.map(|entry| entry.request_bytes).sum()
}

#[tokio::test(start_paused = true)]
async fn another_process_resumes_an_upload() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let sandbox = sandbox();
    let image = large(SIZE);
    let first = process(&sandbox, &path);
    first.push(&image);
    kill_copy(&first).await;
    assert!(sandbox.registry(DST).tags("shop/web").is_empty());
    assert!(sent(&first) > 190 << 10);
    drop(first);

    sandbox.ledger().clear();
    let second = process(&sandbox, &path);
    second.copy().await.unwrap();
    second.assert_copied(&image);
    assert!(sent(&second) < 120 << 10, "only the rest is sent: {}", sent(&second));
    assert_eq!(sandbox.ledger().count_of("POST upload"), 0, "the open upload is resumed");
    assert_eq!(sandbox.ledger().count_of("GET upload"), 1);
}

#[tokio::test(start_paused = true)]
async fn verifies_what_the_journal_says() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let sandbox = sandbox();
    let image = large(SIZE);
    let first = process(&sandbox, &path);
    first.push(&image);
    kill_copy(&first).await;
    drop(first);
    let digest = bp_artifact::Digest::sha256(image.blobs().iter().max_by_key(|blob| blob.len()).unwrap());

    // The digest of another blob for the open upload: the bytes at the registry are not its first bytes.
    let other = large(SIZE + 1);
    let others = bp_artifact::Digest::sha256(other.blobs().iter().max_by_key(|blob| blob.len()).unwrap());
    let text = std::fs::read_to_string(&path).unwrap();
    let lies = [
        text.replace(digest.as_str(), others.as_str()),
        text.replace("uploads/", "uploads/0"),
        text.replace("https://prod.example.com", "https://elsewhere.example.com"),
        text[..text.len() / 2].to_owned(),
        "no journal\n".to_owned(),
    ];
    for (n, lie) in lies.iter().enumerate() {
        std::fs::write(&path, lie).unwrap();
        let world = process(&sandbox, &path);
        world.push(&other);
        world.copy_as(&format!("{SRC}/shop/web:v1"), &format!("{DST}/shop/web:v1")).await.unwrap();
        world.assert_copied(&other);
        let registry = world.sandbox.registry(DST);
        assert!(registry.blob("shop/web", others.as_str()).is_some(), "{n}");
        sandbox.registry(DST).tag("shop/web", "v1", &bp_artifact::Digest::sha256("none").to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn finds_stored_blobs_in_a_repository_without_tags() {
    for has_journal in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let sandbox = sandbox();
        let image = multi();
        let world = process(&sandbox, &path);
        world.push(&image);
        let stalled = Effect::Delay(Duration::from_secs(86_400));
        sandbox.faults().inject(Fault::new(stalled).at(DST).on("PUT manifest").times(100));
        let _ = tokio::time::timeout(Duration::from_secs(5), world.copy()).await.unwrap_err();
        sandbox.faults().clear();
        assert_eq!(sandbox.registry(DST).blobs("shop/web").len(), 5);
        if !has_journal {
            std::fs::remove_file(&path).unwrap();
        }
        // Registries do not list a repository without tags.
        let body = r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#.to_owned();
        let unknown = Effect::Answer { status: 404, headers: Vec::new(), body };
        sandbox.faults().inject(Fault::new(unknown).at(DST).on("GET tags"));
        let report = process(&sandbox, &path).copy().await.unwrap();
        let expected = if has_journal { (0, 5) } else { (5, 0) };
        assert_eq!((report.blobs.sent, report.blobs.present), expected);
    }
}
