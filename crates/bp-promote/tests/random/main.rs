//! Copies random images under random faults. Either the destination has the complete image, byte for byte, or its tag
//! is unchanged; with faults in one request of ten the copy always completes.
//!
//! `cargo xtask soak` runs more seeds. `BP_SOAK` sets the number of seeds, `BP_SEED` the first one:
//! `BP_SOAK=1 BP_SEED=<n>` repeats one.

#[path = "../common/mod.rs"]
mod common;
mod faults;
mod graph;
mod quirks;
mod world;

use std::{collections::BTreeMap, future::Future, ops::Range, time::Duration};

use bp_sandbox::{Image, ImageBuilder};
use fastrand::Rng;
use tokio::time::{Instant, advance, timeout};

use self::world::World;

/// How often each kind of event occurred. A long run must cover all [`KINDS`].
type Census = BTreeMap<&'static str, u64>;

const KINDS: [&str; 41] = [
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
    "an upload resumed",
    "gave up",
    "a mount",
    "a mount declined",
    "ECR",
    "within one registry",
    "no referrers API",
    "immutable tags",
    "missing content accepted",
    "with referrers",
    "journal",
    "slow clock",
    "several images",
    "a tag that points to another image",
    "trusting",
    "an index in an index",
    "a referrer",
    "a tag of cosign",
    "one request in ten",
    "403 to strangers",
    "404 to strangers",
    "413",
    "405 on a whole blob",
    "a minimum chunk length",
    "signed at the destination",
];

/// A copy that takes longer is considered hanging.
const LIMIT: Duration = Duration::from_secs(24 * 3600);

/// This number of seeds is expected to cover all kinds.
const FULL_COVERAGE: u64 = 200;

/// Successive processes on one paused clock. When one ends, its unfinished work is aborted.
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
    // Retry delays are random too.
    fastrand::seed(seed);
    let random = &mut Rng::with_seed(seed);
    let mut processes = Processes::default();
    let world = processes.run(async { World::random(random) });
    let ledger = world.sandbox.ledger();
    let mut count = |kind, times: usize| *census.entry(kind).or_default() += times as u64;
    world.traits.iter().for_each(|kind| count(kind, 1));
    // With faults in one request of ten the copy must complete; with more it may fail, but never with a wrong result.
    let stormy = random.u8(0..3) == 0;
    if stormy {
        let one_in = random.u32(2..8);
        faults::inject(random, &world.sandbox, one_in, 400_000);
        faults::storm(random, &world.sandbox);
    } else {
        count("one request in ten", 1);
        faults::inject(random, &world.sandbox, 10, 2_000);
    }
    // Kill the copy at random times, and rerun it.
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
        panic!("the copy hangs; last requests: {last:#?}")
    });
    let moved = world.assert_never_wrong(done.is_ok());
    if !stormy && !world.is_blocked() {
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
                // A token request succeeds whether or not the registry accepts the login.
                Some(200..300) if entry.operation != "GET token" => served = true,
                _ => {}
            }
        }
    }
    count("login expired", expired);
    entries.iter().filter_map(faults::effective_fault).for_each(|kind| count(kind, 1));
    let answered = |operation, status| {
        entries.iter().filter(|entry| entry.operation == operation && entry.status == Some(status)).count()
    };
    count("an upload resumed", answered("GET upload", 204));
    count("a mount", answered("POST mount", 201));
    count("a mount declined", answered("POST mount", 202));

    world.sandbox.faults().clear();
    world.quirks.calm();
    let unchanged = processes.run(async { world.copy(&world.client()).await }).unwrap();
    assert!(world.assert_never_wrong(true));
    if done.is_ok() && world.finds_tags() {
        assert!(unchanged);
    }
    for (kind, times) in world.quirks.counts() {
        *census.entry(kind).or_default() += times;
    }
}

/// The number in an environment variable, or `default`.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn seeds() -> Range<u64> {
    let first = number("BP_SEED", 0);
    first..first + number("BP_SOAK", 60)
}

/// Prints the seed of a failed run.
struct PrintSeedOnPanic(u64);

impl Drop for PrintSeedOnPanic {
    #[allow(clippy::print_stderr, reason = "output of a failed test")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("BP_SOAK=1 BP_SEED={} repeats this run", self.0);
        }
    }
}

#[test]
#[allow(clippy::print_stdout, reason = "cargo xtask soak prints this")]
fn random_graphs_under_random_faults() {
    let (seeds, mut census) = (seeds(), Census::new());
    for seed in seeds.clone() {
        let _print_seed = PrintSeedOnPanic(seed);
        run(seed, &mut census);
    }
    let counts: Vec<_> = census.iter().map(|(kind, times)| format!("{kind} {times}")).collect();
    println!("met: {}", counts.join(", "));
    let count = seeds.end - seeds.start;
    for (enough, kinds) in [(FULL_COVERAGE, &KINDS[..]), (quirks::FULL_COVERAGE, &quirks::KINDS[..])] {
        for kind in kinds.iter().filter(|_| count >= enough) {
            assert!(census.get(kind).is_some_and(|times| *times > 0), "never occurred: {kind}");
        }
    }
}

/// Four platforms with eight layers each, four of them shared.
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
fn twenty_copies_complete_with_faults_in_one_request_of_ten() {
    const SIZE: usize = 64 << 10;
    let image = multi(SIZE);
    for seed in 0..20 {
        let _print_seed = PrintSeedOnPanic(seed);
        Processes::default().run(async {
            let world = common::World::plain();
            world.push(&image);
            faults::one_in_ten(&mut Rng::with_seed(seed), &world.sandbox, SIZE as u64);
            world.copy().await.unwrap_or_else(|error| panic!("copy {seed}: {error:?}"));
            world.assert_copied(&image);
        });
    }
}
