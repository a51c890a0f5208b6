//! Random image graphs under random faults: the end is always the same. Either the destination holds the whole image,
//! byte for byte, or its tag did not move; and with one request in ten spoilt it gets there.
//!
//! `BP_SOAK=<runs>` makes it longer; `BP_SEED=<seed>` repeats one run.

mod common;

use std::time::Duration;

use bp_promote::CopyOutcome;
use bp_sandbox::{Effect, Fault, Image, ImageBuilder, registry::RegistryOptions};
use common::*;
use fastrand::Rng;

fn image(random: &mut Rng) -> Image {
    const PLATFORMS: [&str; 4] = ["linux/amd64", "linux/arm64", "linux/arm64/v8", "windows/amd64"];
    let platforms = &PLATFORMS[..random.usize(1..=4)];
    let mut builder =
        platforms.iter().fold(ImageBuilder::new(), |builder, platform| builder.platform(platform));
    for n in 0..random.usize(0..5) {
        let size = [0, 1, 100, 5_000, 300_000][random.usize(0..5)];
        let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(size).collect();
        let file = [(format!("layer{n}"), bytes)];
        builder = match random.bool() {
            true => builder.layer(file),
            false => builder.layer_for(platforms[random.usize(..platforms.len())], file),
        };
    }
    builder.build()
}

fn effect(random: &mut Rng) -> Effect {
    let at = random.u64(0..2_000);
    match random.u8(0..8) {
        0 => Effect::Answer {
            status: 429,
            headers: vec![("retry-after".into(), random.u64(0..4).to_string())],
            body: String::new(),
        },
        1 => Effect::Answer { status: 500, headers: Vec::new(), body: "<html>".into() },
        2 => Effect::Answer { status: 503, headers: Vec::new(), body: String::new() },
        3 => Effect::Reset,
        4 => Effect::LoseAnswer,
        5 => Effect::CutBody(at),
        6 => Effect::Corrupt(at),
        _ => Effect::Stall(at, Duration::from_secs(random.u64(1..60))),
    }
}

fn options(random: &mut Rng) -> RegistryOptions {
    let mut options = RegistryOptions::default().mounts(random.bool());
    if random.u8(0..4) == 0 {
        options = options.without_ranges();
    }
    if random.u8(0..4) == 0 {
        options = options.immutable_tags();
    }
    if random.u8(0..4) == 0 {
        options = options.absolute_locations().validator_lag(Duration::from_millis(random.u64(0..500)));
    }
    options
}

async fn run(seed: u64) {
    let random = &mut Rng::with_seed(seed);
    let world = World::new(options(random), options(random));
    let image = image(random);
    world.push(&image);
    if random.bool() {
        // Something of it is there already.
        let registry = world.sandbox.registry(DST);
        for blob in image.blobs().iter().filter(|_| random.bool()) {
            registry.put_blob("shop/web", blob.clone());
        }
    }
    // On both sides, one request in ten is spoilt.
    for host in [SRC, DST] {
        let mut passed = 0;
        while passed < 2_000 {
            passed += random.u32(0..19);
            world.sandbox.faults().inject(Fault::new(effect(random)).at(host).after(passed));
        }
    }
    // Killed some times, at any moment, and run again.
    for _ in 0..random.u8(0..3) {
        let moment = Duration::from_millis(random.u64(0..20_000));
        let _ = tokio::time::timeout(moment, world.copy()).await;
        if world.sandbox.registry(DST).tags("shop/web").contains_key("v1") {
            world.assert_copied(&image);
        }
    }
    let done = world.copy().await;
    assert!(done.is_ok(), "seed {seed}: {done:?}");
    world.assert_copied(&image);
    world.sandbox.faults().clear();
    assert_eq!(world.copy().await.unwrap().outcome, CopyOutcome::Unchanged, "seed {seed}");
}

#[test]
fn random_graphs_under_random_faults() {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds = match number("BP_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("BP_SOAK").unwrap_or(100),
    };
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.unwrap().block_on(run(seed));
    }
}
