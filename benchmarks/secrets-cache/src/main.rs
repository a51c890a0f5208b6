//! Benchmark of the bp-secrets cache against `aws_secretsmanager_caching`, both over the in-memory sandbox.
//!
//! `cargo run` in this folder prints a Markdown table. Memory is the heap growth while a cache is filled, one cache
//! after the other; the sandbox keeps only a ledger entry for each read, and the ledger is cleared before the heap is
//! measured.

use std::{
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use aws_sdk_secretsmanager::{
    Client, Config,
    config::{BehaviorVersion, Credentials, Region},
};
use aws_secretsmanager_caching::SecretsManagerCachingClient;
use bp_sandbox::{Effect, Fault, Sandbox, aws::DEFAULT_ACCOUNT};
use bp_secrets::{Cache, Reference, SecretsManager, Store as _, cache::CacheOptions};
use futures_util::future::join_all;
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const REGION: &str = "eu-central-1";
const READERS: usize = 1000;
const HITS: u32 = 200_000;
const VALUE: usize = 512;
const ENTRIES: usize = 5000;

#[derive(Clone)]
enum Cached {
    Ours(Cache<SecretsManager>),
    Peer(Arc<SecretsManagerCachingClient>),
}

impl Cached {
    fn both(sandbox: &Sandbox, fresh: Duration) -> [(&'static str, Self); 2] {
        let ours =
            CacheOptions::new(fresh, fresh).and_then(|o| o.limits(64 << 20, 100_000)).expect("options");
        let max = NonZeroUsize::new(100_000).expect("not zero");
        let peer = SecretsManagerCachingClient::new(client(sandbox), max, fresh, false).expect("a client");
        [
            ("bp-secrets", Cached::Ours(Cache::new(SecretsManager::new(client(sandbox)), ours))),
            ("aws_secretsmanager_caching", Cached::Peer(Arc::new(peer))),
        ]
    }

    async fn read(&self, name: &str, reference: &Reference) -> usize {
        match self {
            Cached::Ours(cache) => {
                cache.fetch_one(reference).await.expect("a value").value().expose_bytes().len()
            }
            Cached::Peer(cache) => {
                let value = cache.get_secret_value(name, None, None, false).await.expect("a value");
                value.secret_string.expect("text").len()
            }
        }
    }
}

fn client(sandbox: &Sandbox) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .credentials_provider(Credentials::new("AKIATEST", "test", None, None, "benchmark"))
        .http_client(sandbox.http_client())
        .build();
    Client::from_conf(config)
}

fn world(secrets: usize) -> Sandbox {
    let sandbox = Sandbox::builder().build();
    for n in 0..secrets {
        sandbox.aws().secretsmanager(DEFAULT_ACCOUNT, REGION).create(&name(n), &"x".repeat(VALUE));
    }
    sandbox
}

fn name(n: usize) -> String {
    format!("prod/service/secret-{n}")
}

fn reference(n: usize) -> Reference {
    format!("secretsmanager:{}", name(n)).parse().expect("a reference")
}

/// Counts the calls for concurrent first readers while the first response is delayed.
async fn first_reads() -> Vec<String> {
    let sandbox = world(1);
    let mut cells = Vec::new();
    for (_, cached) in Cached::both(&sandbox, Duration::from_secs(300)) {
        sandbox.ledger().clear();
        sandbox.faults().inject(Fault::new(Effect::Delay(Duration::from_millis(300))).times(u32::MAX));
        let readers = (0..READERS).map(|_| {
            let cached = cached.clone();
            tokio::spawn(async move { cached.read(&name(0), &reference(0)).await })
        });
        join_all(readers).await;
        sandbox.faults().clear();
        cells.push(sandbox.ledger().entries().len().to_string());
    }
    cells
}

/// Counts the calls to read an expired, unchanged secret again.
async fn expired_reads() -> Vec<String> {
    let sandbox = world(1);
    let mut cells = Vec::new();
    for (_, cached) in Cached::both(&sandbox, Duration::from_millis(50)) {
        cached.read(&name(0), &reference(0)).await;
        sandbox.ledger().clear();
        tokio::time::sleep(Duration::from_millis(80)).await;
        cached.read(&name(0), &reference(0)).await;
        cells.push(sandbox.ledger().entries().len().to_string());
    }
    cells
}

async fn hits() -> Vec<String> {
    let sandbox = world(1);
    let mut cells = Vec::new();
    for (_, cached) in Cached::both(&sandbox, Duration::from_secs(300)) {
        let (name, reference) = (name(0), reference(0));
        cached.read(&name, &reference).await;
        let start = Instant::now();
        for _ in 0..HITS {
            cached.read(&name, &reference).await;
        }
        cells.push(format!("{} ns", (start.elapsed() / HITS).as_nanos()));
    }
    cells
}

/// Heap bytes per entry, including the value's 512.
async fn memory() -> Vec<String> {
    let sandbox = world(ENTRIES);
    let fill = async |cached: &Cached| {
        for n in 0..ENTRIES {
            cached.read(&name(n), &reference(n)).await;
        }
        sandbox.ledger().clear();
    };
    let mut cells = Vec::new();
    for at in 0..2 {
        // Warm-up: allocates what remains afterwards, such as connections and the ledger's capacity.
        fill(&Cached::both(&sandbox, Duration::from_secs(300))[at].1).await;
        let caches = Cached::both(&sandbox, Duration::from_secs(300));
        let before = HEAP.current_usage();
        fill(&caches[at].1).await;
        cells.push(format!("{} B", HEAP.current_usage().saturating_sub(before) / ENTRIES));
    }
    cells
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    println!("| | bp-secrets | aws_secretsmanager_caching 2.1 |\n|---|---|---|");
    let row = |what: String, cells: Vec<String>| println!("| {what} | {} |", cells.join(" | "));
    row(format!("calls for {READERS} concurrent first reads of one secret"), first_reads().await);
    row("calls to read one expired, unchanged secret".into(), expired_reads().await);
    row("latency of a hit".into(), hits().await);
    row(format!("heap for each of {ENTRIES} entries of {VALUE} B"), memory().await);
}
