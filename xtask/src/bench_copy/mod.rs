//! `bench-copy`: compare image copies with crane, skopeo and regctl, on the same servers in the same run.
//!
//! Two [registries] of one version keep their data in memory. Each tool copies each [set](images) from one to the
//! other, cold into a new repository and again as a no-op, directly and through a [proxy] that adds latency. Runs are
//! interleaved, so that noise affects all tools, and their medians are compared with the [targets] as ratios to crane.

mod contestants;
mod fault_proxy;
pub(crate) mod fault_runs;
mod images;
pub(crate) mod measure;
mod page;
mod proxy;
mod registries;
mod targets;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{
    clock,
    command::{self, Builds},
    e2e::{
        server,
        tools::{Cache, Toolbox},
    },
    report,
};
use contestants::{Contestant, Job};
use images::Set;
use proxy::Proxy;
use registries::{Pair, Version};
use targets::{Case, Results};

/// The round-trip time of the latency proxy.
const ROUND_TRIP: Duration = Duration::from_millis(30);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Runs of each tool per set; results are medians
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Measure only this set (repeatable)
    #[arg(long, value_enum)]
    set: Vec<Set>,
    /// Compare only with this tool in addition to crane (repeatable; `none` for no other tool)
    #[arg(long)]
    against: Vec<String>,
    /// Measure only with this round-trip time in milliseconds: 0 or 30
    #[arg(long)]
    round_trip: Option<u64>,
    /// Version of Distribution at source and destination
    #[arg(long, value_enum, default_value = "3.1")]
    registry: Version,
    /// Copy nothing: keep the registries running until Ctrl-C and print their addresses, to profile a single copy
    #[arg(long)]
    keep: bool,
    /// Write the results into docs/benchmarks.md
    #[arg(long)]
    write: bool,
    #[command(flatten)]
    cache: Cache,
    #[command(flatten)]
    builds: Builds,
}

/// Runs the benchmark; returns whether every measured target is met.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    server::stop_all_on_signal()?;
    let tools = arguments.cache.open()?;
    let ours = contestants::build(&arguments.builds.directory())?;
    let all = contestants::all(&tools, &ours)?;
    let chosen = |contestant: &&Contestant| {
        contestant.reference()
            || contestant.ours()
            || arguments.against.is_empty()
            || arguments.against.iter().any(|name| contestant.name.starts_with(name.as_str()))
    };
    let contestants: Vec<&Contestant> = all.iter().filter(chosen).collect();

    let scratch = scratch()?;
    let measured = measure_all(arguments, &tools, &contestants, &scratch);
    let _ = fs::remove_dir_all(&scratch);
    let results = measured?;
    report::line("");
    report::line(page::tables(&results));
    let verdicts = targets::verdicts(&results);
    report::line(page::targets(&verdicts));
    if arguments.write {
        page::write(&results, &verdicts, arguments.runs, arguments.registry)?;
    }
    Ok(verdicts.iter().all(|verdict| verdict.met))
}

/// Measures all sets, with and without latency.
fn measure_all(
    arguments: &Arguments,
    tools: &Toolbox,
    contestants: &[&Contestant],
    scratch: &Path,
) -> Result<Results> {
    let sets = if arguments.set.is_empty() { &Set::ALL[..] } else { &arguments.set[..] };
    let pair = Pair::start(arguments.registry, tools, scratch)?;
    let mut results = Results::default();
    if arguments.keep {
        keep_running(&pair, sets)?;
    }
    for set in sets {
        let (pushed, took) = clock::timed(|| set.push(&pair.source.address));
        let tags = pushed.with_context(|| format!("cannot push {}", set.name()))?;
        report::line(format_args!("     pushed {} ({:.1} s)", set.name(), took.as_secs_f64()));
        for round_trip in [Duration::ZERO, ROUND_TRIP] {
            if arguments.round_trip.is_none_or(|only| u128::from(only) == round_trip.as_millis()) {
                measure_set(&pair, *set, &tags, round_trip, contestants, arguments.runs, &mut results)?;
            }
        }
    }
    verify_copies(tools, &pair, contestants)?;
    Ok(results)
}

/// Pushes the sets, prints the addresses, and waits for Ctrl-C.
fn keep_running(pair: &Pair, sets: &[Set]) -> Result<Infallible> {
    let delayed = (
        Proxy::start(&pair.source.address, ROUND_TRIP)?,
        Proxy::start(&pair.destination.address, ROUND_TRIP)?,
    );
    report::line(format_args!("direct:       {} and {}", pair.source.address, pair.destination.address));
    report::line(format_args!("with latency: {} and {}", delayed.0.address(), delayed.1.address()));
    for set in sets {
        let tags = set.push(&pair.source.address)?;
        report::line(format_args!("{}: {}", set.repository(), tags.join(" ")));
    }
    server::wait_for_ctrl_c()
}

/// Copies the set with each tool in turn.
fn measure_set(
    pair: &Pair,
    set: Set,
    tags: &[String],
    round_trip: Duration,
    contestants: &[&Contestant],
    runs: usize,
    results: &mut Results,
) -> Result<()> {
    let delayed = (!round_trip.is_zero())
        .then(|| {
            Ok::<_, anyhow::Error>((
                Proxy::start(&pair.source.address, round_trip)?,
                Proxy::start(&pair.destination.address, round_trip)?,
            ))
        })
        .transpose()?;
    let (source, destination) = match &delayed {
        Some((source, destination)) => (source.address(), destination.address()),
        None => (pair.source.address.clone(), pair.destination.address.clone()),
    };
    for run in 0..runs {
        // Rotate the order, so that no tool always runs first or after the same one.
        for turn in 0..contestants.len() {
            let contestant = contestants[(turn + run) % contestants.len()];
            let repository = pair.fresh(contestant, set);
            let job = Job {
                set,
                tags,
                source: format!("{source}/{}", set.repository()),
                destination: format!("{destination}/{repository}"),
                cache: pair.scratch.join(repository),
            };
            for warm in [false, true] {
                let before = (pair.source.requests(), pair.destination.requests());
                let mut sample = measure::measure(&contestant.command(&job)).with_context(|| {
                    format!("{} cannot copy {} ({round_trip:?})", contestant.name, set.name())
                })?;
                sample.requests = (pair.source.requests() - before.0, pair.destination.requests() - before.1);
                results.add(Case { set, round_trip, warm, contestant: contestant.name }, sample);
            }
        }
        report::line(format_args!(
            "     {} at {} ms: round {} of {runs}",
            set.name(),
            round_trip.as_millis(),
            run + 1
        ));
    }
    Ok(())
}

/// Verifies our copies with crane and skopeo, byte for byte.
fn verify_copies(tools: &Toolbox, pair: &Pair, contestants: &[&Contestant]) -> Result<()> {
    let limit = Duration::from_secs(600);
    let mut digests: BTreeMap<String, String> = BTreeMap::new();
    for (repository, set) in pair.copied(contestants.iter().filter(|contestant| contestant.ours())) {
        let tag = set.tag(0);
        let copy = format!("{}/{repository}:{tag}", pair.destination.address);
        let original = format!("{}/{}:{tag}", pair.source.address, set.repository());
        let crane = |verb: &[&str]| {
            command::output_within(limit, tools.command(crate::e2e::tools::CRANE)?.args(verb))
        };
        let expected = match digests.get(set.name()) {
            Some(known) => known.clone(),
            None => {
                let digest = crane(&["digest", &original])?.trim().to_owned();
                digests.insert(set.name().to_owned(), digest.clone());
                digest
            }
        };
        ensure!(crane(&["digest", &copy])?.trim() == expected, "crane reports another digest at {copy}");
        crane(&["validate", "--remote", &copy])?;
        let mut skopeo = tools.command(crate::e2e::tools::SKOPEO)?;
        skopeo.args(["inspect", "--raw", "--tls-verify=false", &format!("docker://{copy}")]);
        let raw = command::output_within(limit, &mut skopeo)?;
        ensure!(images::digest(raw.as_bytes()) == expected, "skopeo reads other bytes at {copy}");
    }
    report::line(format_args!(
        "     crane validates what we copied, and skopeo reads the same bytes ({} sets)",
        digests.len()
    ));
    Ok(())
}

/// A directory for this run, in memory if `/dev/shm` exists.
fn scratch() -> Result<PathBuf> {
    let memory = PathBuf::from("/dev/shm");
    let base = if memory.is_dir() { memory } else { command::root().join("target/bench") };
    let scratch = base.join(format!("bench-copy-{}", std::process::id()));
    fs::create_dir_all(&scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
    Ok(scratch)
}
