//! Rollouts under random faults, with other clients, evicted and refused pods, an API server that restarts, and images
//! that fail in many ways. An independent [checker](checker) judges each verdict by the model's history of objects and
//! requests.
//!
//! `cargo xtask soak --eks` runs more schedules. `BP_SOAK` sets their number, `BP_SEED` the first seed:
//! `BP_SOAK=1 BP_SEED=<n> cargo test --workspace --test rollouts` repeats one. A failing schedule is printed after
//! leaving out all faults, actions of others and past rollouts that are not needed to make it fail.

mod checker;
#[path = "../common/mod.rs"]
mod common;
mod facts;
mod failures;
mod schedule;
mod world;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread::available_parallelism,
};

use self::{
    facts::{Ending, Facts},
    schedule::{Kind, Past, Schedule},
};

/// How often each kind of event occurred. A long run must cover all [`KINDS`].
type Census = BTreeMap<&'static str, u64>;

const KINDS: [&str; 44] = [
    "a Deployment",
    "a StatefulSet",
    "a DaemonSet",
    "old events",
    "a rollout in progress",
    "denied",
    "throttled",
    "expired",
    "lost answer",
    "lost answer of a change",
    "5xx",
    "reset",
    "answer cut",
    "another image",
    "the same image by another client",
    "restarted by another client",
    "replicas changed",
    "paused",
    "deleted",
    "pods deleted",
    "pods evicted",
    "pods denied by a policy",
    "pods refused for a while",
    "pods admitted again",
    "a quota",
    "pulls denied",
    "the Secret is created",
    "the program changes",
    "the previous image breaks",
    "API server restart",
    "expired watches (410)",
    "pods refused",
    "a failed pod of our image",
    "verdict: deployed",
    "verdict: unproven",
    "verdict: rolled back",
    "verdict: rollback failed",
    "verdict: failed in place",
    "verdict: stopped",
    "verdict: superseded",
    "verdict: gone",
    "verdict: deadline exceeded",
    "verdict: unobserved",
    "refused or unavailable",
];

/// This number of schedules is expected to cover all kinds, and to cover them again with each further [`REPEATED`].
const FULL_COVERAGE: u64 = 2_000;
const REPEATED: u64 = 400;

/// Runs a schedule and checks how it ended.
fn run(schedule: &Schedule) -> Result<Census, String> {
    // Delays and ids are random too.
    fastrand::seed(schedule.seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let work = || runtime.unwrap().block_on(world::run(schedule));
    let facts = catch_unwind(AssertUnwindSafe(work)).map_err(|_| "it panics".to_owned())??;
    checker::check(&facts)?;
    Ok(census(schedule, &facts))
}

fn census(schedule: &Schedule, facts: &Facts) -> Census {
    let mut census = Census::new();
    let mut count = |kind| *census.entry(kind).or_default() += 1;
    count(match facts.kind {
        Kind::Deployment => "a Deployment",
        Kind::StatefulSet => "a StatefulSet",
        Kind::DaemonSet => "a DaemonSet",
    });
    for past in &schedule.past {
        match past {
            Past::Refused | Past::Evicted => count("old events"),
            Past::InProgress | Past::Failing | Past::InProgressSame => count("a rollout in progress"),
            Past::Completed => {}
        }
    }
    for request in &facts.requests {
        let fault = facts::fault_of(request);
        fault.into_iter().for_each(&mut count);
        if fault == Some("lost answer") && facts::is_change(request) {
            count("lost answer of a change");
        }
    }
    facts.others.iter().for_each(|(_, what)| count(what));
    let moments = facts.moments(facts.times.start, facts.times.now);
    if moments.iter().any(|time| !facts.refusals(&facts.image, facts.times.start, *time).is_empty()) {
        count("pods refused");
    }
    if facts.our_pods(facts.times.now).any(|pod| failures::has_failed(pod)) {
        count("a failed pod of our image");
    }
    count(match &facts.ending {
        Ending::Verdict { verdict, .. } => world::name(*verdict),
        Ending::Error { .. } => "refused or unavailable",
    });
    census
}

/// The schedule without the parts that are not needed to make it fail.
fn shrunk(mut schedule: Schedule) -> (Schedule, String) {
    let mut why = run(&schedule).expect_err("the schedule fails");
    let mut fails = |candidate: &Schedule| run(candidate).map_err(|failure| why = failure).is_err();
    macro_rules! leave_out {
        ($($part:ident),*) => {$(
            for at in (0..schedule.$part.len()).rev() {
                let mut candidate = schedule.clone();
                candidate.$part.remove(at);
                if fails(&candidate) {
                    schedule = candidate;
                }
            }
        )*};
    }
    leave_out!(faults, others, past);
    leave_out!(faults);
    (schedule, why)
}

/// The number in an environment variable, or `default`.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[test]
#[allow(clippy::print_stdout, reason = "cargo xtask soak prints this")]
fn verdicts_agree_with_the_model_under_random_schedules() {
    let (first, runs) = (number("BP_SEED", 0), number("BP_SOAK", 40));
    let next = AtomicU64::new(first);
    let (total, failed) = (Mutex::new(Census::new()), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + runs {
                break;
            }
            match run(&Schedule::random(seed)) {
                Ok(census) => {
                    let mut total = total.lock().unwrap();
                    census.into_iter().for_each(|(kind, times)| *total.entry(kind).or_default() += times);
                }
                Err(why) => failed.lock().unwrap().push((seed, why)),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let (total, mut failed) = (total.into_inner().unwrap(), failed.into_inner().unwrap());
    let counts: Vec<_> = total.iter().map(|(kind, times)| format!("{kind} {times}")).collect();
    println!("met: {}", counts.join(", "));
    failed.sort();
    for (seed, why) in &failed {
        println!("BP_SOAK=1 BP_SEED={seed} cargo test --workspace --test rollouts: {why}");
    }
    if let Some((seed, _)) = failed.first() {
        let (schedule, why) = shrunk(Schedule::random(*seed));
        panic!("{} of {runs} schedules failed; the first one, reduced: {why}\n{schedule:#?}", failed.len());
    }
    for kind in KINDS {
        let least = if runs < FULL_COVERAGE { 0 } else { (runs / REPEATED).max(1) };
        let times = total.get(kind).copied().unwrap_or(0);
        assert!(
            times >= least,
            "{kind} occurred {times} times in {runs} schedules, expected {least} at least"
        );
    }
}
