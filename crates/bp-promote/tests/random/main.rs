//! Random images under random faults: the end is always the same. Either the destination holds all of the image, byte
//! for byte, or its tag did not move; and with one request in ten spoilt it gets there.
//!
//! `cargo xtask soak` makes it longer. `BP_SOAK` says how many seeds, `BP_SEED` where they begin: `BP_SOAK=1 BP_SEED=<n>`
//! repeats one.

#[path = "../common/mod.rs"]
mod common;
mod graph;
mod luck;
mod world;

use std::{collections::BTreeMap, future::Future, ops::Range, time::Duration};

use bp_sandbox::{Image, ImageBuilder};
use fastrand::Rng;
use tokio::time::{Instant, advance, timeout};

use self::world::World;

/// What the schedules have met, and how often. A long run meets all of [`KINDS`].
type Census = BTreeMap<&'static str, u64>;

const KINDS: [&str; 35] = [
    "429",
    "500",
    "502",
    "503",
    "504",
    "reset",
    "lost answer",
    "answer cut",
    "answer corrupted",
    "request cut",
    "request corrupted",
    "stall",
    "storm",
    "login expired",
    "killed",
    "killed with a journal",
    "an upload went on",
    "gave up",
    "a mount",
    "a mount declined",
    "ECR",
    "within one registry",
    "no referrers API",
    "immutable tags",
    "gaps are taken",
    "with referrers",
    "journal",
    "slow clock",
    "several images",
    "a tag that names another image",
    "trusting",
    "an index in an index",
    "a referrer",
    "a tag of cosign",
    "one request in ten",
];

/// A copy that takes longer does not end.
const LIMIT: Duration = Duration::from_secs(24 * 3600);

/// So many schedules meet all kinds.
const MANY: u64 = 200;

/// Processes one after the other, on one paused clock. When one ends, what it was doing is cut off wherever it is.
#[derive(Default)]
struct Processes {
    time: Duration,
}

impl Processes {
    fn run<T>(&mut self, work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.unwrap().block_on(async {
            advance(self.time).await;
            let start = Instant::now();
            let done = work.await;
            self.time += start.elapsed();
            done
        })
    }
}

fn run(seed: u64, census: &mut Census) {
    // Pauses between attempts are random too.
    fastrand::seed(seed);
    let random = &mut Rng::with_seed(seed);
    let mut processes = Processes::default();
    let world = processes.run(async { World::random(random) });
    let ledger = world.sandbox.ledger();
    let mut count = |kind, times: usize| *census.entry(kind).or_default() += times as u64;
    world.traits.iter().for_each(|kind| count(kind, 1));
    // One request in ten: it gets there. More than that: it may give up, but never ends wrong.
    let stormy = random.u8(0..3) == 0;
    if stormy {
        let one_in = random.u32(2..8);
        luck::spoil(random, &world.sandbox, one_in, 400_000);
        luck::storm(random, &world.sandbox);
    } else {
        count("one request in ten", 1);
        luck::spoil(random, &world.sandbox, 10, 2_000);
    }
    // Killed some times, at any moment, and run again.
    let mut expired = 0;
    for _ in 0..random.u8(0..3) {
        let moment = Duration::from_millis(random.u64(0..20_000));
        let ended = processes.run(async { timeout(moment, world.copy(&world.client())).await.is_ok() });
        world.assert_never_wrong(false);
        count("killed", usize::from(!ended));
        count("killed with a journal", usize::from(!ended && world.has_journal()));
    }
    let before = ledger.entries().len();
    let done = processes.run(async { timeout(LIMIT, world.copy(&world.client())).await });
    let done = done.unwrap_or_else(|_| {
        let entries = ledger.entries();
        let last: Vec<_> = entries[entries.len().saturating_sub(20)..]
            .iter()
            .map(|entry| (&entry.endpoint, &entry.operation, &entry.path, entry.status))
            .collect();
        panic!("it does not end; at last: {last:#?}")
    });
    let moved = world.assert_never_wrong(done.is_ok());
    if !stormy {
        assert!(done.is_ok() && moved, "{done:?}");
    }
    count("gave up", usize::from(done.is_err()));
    let entries = ledger.entries();
    for host in [common::SRC, common::DST] {
        let mut served = false;
        for entry in entries[before..].iter().filter(|entry| entry.endpoint == host && entry.fault.is_none())
        {
            match entry.status {
                Some(401 | 403) if served => expired += 1,
                // Who gives tokens answers whatever else is served.
                Some(200..300) if entry.operation != "GET token" => served = true,
                _ => {}
            }
        }
    }
    count("login expired", expired);
    entries.iter().filter_map(luck::met).for_each(|kind| count(kind, 1));
    let answered = |operation, status| {
        entries.iter().filter(|entry| entry.operation == operation && entry.status == Some(status)).count()
    };
    count("an upload went on", answered("GET upload", 204));
    count("a mount", answered("POST mount", 201));
    count("a mount declined", answered("POST mount", 202));

    world.sandbox.faults().clear();
    let unchanged = processes.run(async { world.copy(&world.client()).await }).unwrap();
    assert!(world.assert_never_wrong(true));
    if done.is_ok() {
        assert!(unchanged);
    }
}

/// The variable, or `default`.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn seeds() -> Range<u64> {
    let first = number("BP_SEED", 0);
    first..first + number("BP_SOAK", 60)
}

/// Tells which seed it was.
struct Told(u64);

impl Drop for Told {
    #[allow(clippy::print_stderr, reason = "what a failed test says")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("BP_SOAK=1 BP_SEED={} repeats it", self.0);
        }
    }
}

#[test]
#[allow(clippy::print_stdout, reason = "for the long run to tell")]
fn random_graphs_under_random_faults() {
    let (seeds, mut census) = (seeds(), Census::new());
    for seed in seeds.clone() {
        let _told = Told(seed);
        run(seed, &mut census);
    }
    let told: Vec<_> = census.iter().map(|(kind, times)| format!("{kind} {times}")).collect();
    println!("met: {}", told.join(", "));
    if seeds.end - seeds.start >= MANY {
        for kind in KINDS {
            assert!(census.get(kind).is_some_and(|times| *times > 0), "never met: {kind}");
        }
    }
}

/// Four platforms of eight layers, four of them shared.
fn multi(size: usize) -> Image {
    const PLATFORMS: [&str; 4] = ["linux/amd64", "linux/arm64", "linux/s390x", "linux/ppc64le"];
    let mut random = Rng::with_seed(4);
    let mut file = |n: usize| {
        let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(size).collect();
        [(format!("layer{n}"), bytes)]
    };
    let mut builder = PLATFORMS.iter().fold(ImageBuilder::new(), |builder, of| builder.platform(of));
    for n in 0..4 {
        builder = builder.layer(file(n));
    }
    for platform in PLATFORMS {
        for n in 4..8 {
            builder = builder.layer_for(platform, file(n));
        }
    }
    builder.build()
}

#[test]
fn twenty_copies_with_one_request_in_ten_spoilt_all_finish() {
    const SIZE: usize = 64 << 10;
    let image = multi(SIZE);
    for seed in 0..20 {
        let _told = Told(seed);
        Processes::default().run(async {
            let world = common::World::plain();
            world.push(&image);
            luck::tenth(&mut Rng::with_seed(seed), &world.sandbox, SIZE as u64);
            world.copy().await.unwrap_or_else(|error| panic!("copy {seed}: {error:?}"));
            world.assert_copied(&image);
        });
    }
}
