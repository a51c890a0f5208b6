//! Medians of the samples, ratios to crane, and the performance targets.

use std::{collections::BTreeMap, time::Duration};

use super::{
    contestants::{CRANE_DEFAULT, OURS, TRUSTING},
    images::Set,
    measure::Sample,
};

/// One measured combination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Case {
    pub(super) set: Set,
    pub(super) round_trip: Duration,
    /// Whether the destination already has the images.
    pub(super) warm: bool,
    pub(super) contestant: &'static str,
}

/// All samples of all cases.
#[derive(Default)]
pub(super) struct Results(BTreeMap<Case, Vec<Sample>>);

impl Results {
    pub(super) fn add(&mut self, case: Case, sample: Sample) {
        self.0.entry(case).or_default().push(sample);
    }

    /// The measured combinations, without the tools.
    pub(super) fn rounds(&self) -> Vec<(Set, Duration, bool)> {
        let mut rounds: Vec<_> = self.0.keys().map(|case| (case.set, case.round_trip, case.warm)).collect();
        rounds.dedup();
        rounds
    }

    pub(super) fn contestants(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.0.keys().map(|case| case.contestant).collect();
        names.sort_by_key(|name| (!name.starts_with(OURS), *name));
        names.dedup();
        names
    }

    /// The median of each quantity.
    pub(super) fn median(
        &self,
        set: Set,
        round_trip: Duration,
        warm: bool,
        contestant: &'static str,
    ) -> Option<Sample> {
        let samples = self.0.get(&Case { set, round_trip, warm, contestant })?;
        let of = |quantity: fn(&Sample) -> f64| median(samples.iter().map(quantity));
        Some(Sample {
            wall: of(|sample| sample.wall),
            cpu: of(|sample| sample.cpu),
            memory: of(|sample| sample.memory),
            requests: (
                of(|sample| sample.requests.0 as f64) as usize,
                of(|sample| sample.requests.1 as f64) as usize,
            ),
        })
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[derive(Clone, Copy, Debug)]
enum Quantity {
    /// Wall time relative to crane's.
    Wall,
    /// CPU time relative to crane's.
    Cpu,
    /// Peak memory in MiB.
    Memory,
}

/// A performance target.
struct Target {
    set: Set,
    round_trip: u64,
    warm: bool,
    contestant: &'static str,
    quantity: Quantity,
    most: f64,
}

#[rustfmt::skip]
const TARGETS: [Target; 13] = [
    Target { set: Set::Multi, round_trip: 30, warm: false, contestant: OURS, quantity: Quantity::Wall, most: 0.4 },
    Target { set: Set::Many, round_trip: 30, warm: false, contestant: OURS, quantity: Quantity::Wall, most: 0.3 },
    Target { set: Set::Small, round_trip: 30, warm: true, contestant: OURS, quantity: Quantity::Wall, most: 0.4 },
    Target { set: Set::Big, round_trip: 30, warm: true, contestant: OURS, quantity: Quantity::Wall, most: 0.4 },
    Target { set: Set::Multi, round_trip: 30, warm: true, contestant: OURS, quantity: Quantity::Wall, most: 0.4 },
    Target { set: Set::Many, round_trip: 30, warm: true, contestant: OURS, quantity: Quantity::Wall, most: 0.4 },
    Target { set: Set::Big, round_trip: 0, warm: false, contestant: OURS, quantity: Quantity::Wall, most: 1.0 },
    Target { set: Set::Big, round_trip: 0, warm: false, contestant: OURS, quantity: Quantity::Cpu, most: 1.1 },
    Target { set: Set::Big, round_trip: 0, warm: false, contestant: TRUSTING, quantity: Quantity::Wall, most: 0.9 },
    Target { set: Set::Big, round_trip: 0, warm: false, contestant: TRUSTING, quantity: Quantity::Cpu, most: 0.4 },
    Target { set: Set::Small, round_trip: 0, warm: false, contestant: OURS, quantity: Quantity::Memory, most: 32.0 },
    Target { set: Set::Big, round_trip: 0, warm: false, contestant: OURS, quantity: Quantity::Memory, most: 32.0 },
    Target { set: Set::Multi, round_trip: 0, warm: false, contestant: OURS, quantity: Quantity::Memory, most: 32.0 },
];

/// A target and its measured value.
pub(super) struct Verdict {
    pub(super) what: String,
    pub(super) most: String,
    pub(super) reached: String,
    pub(super) met: bool,
}

/// The results for the targets whose cases were measured.
pub(super) fn verdicts(results: &Results) -> Vec<Verdict> {
    TARGETS.iter().filter_map(|target| verdict(target, results)).collect()
}

fn verdict(target: &Target, results: &Results) -> Option<Verdict> {
    let Target { set, round_trip, warm, contestant, quantity, most } = *target;
    let sample = |of| results.median(set, Duration::from_millis(round_trip), warm, of);
    let (ours, crane) = (sample(contestant)?, sample(CRANE_DEFAULT)?);
    let (name, reached, unit) = match quantity {
        Quantity::Wall => ("wall", ours.wall / crane.wall, ""),
        Quantity::Cpu => ("CPU", ours.cpu / crane.cpu, ""),
        Quantity::Memory => ("peak memory", ours.memory, " MiB"),
    };
    let state = if warm { "no-op" } else { "cold" };
    Some(Verdict {
        what: format!("`{}` {state} at {round_trip} ms, {contestant}: {name}", set.name()),
        most: format!("{most}{unit}"),
        reached: format!("{reached:.2}{unit}"),
        met: reached <= most,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_sample_or_the_mean_of_two() {
        assert_eq!(median([3.0, 1.0, 100.0].into_iter()), 3.0);
        assert_eq!(median([1.0, 3.0].into_iter()), 2.0);
    }

    #[test]
    fn targets_are_relative_to_crane() {
        let mut results = Results::default();
        let zero = Duration::ZERO;
        for (contestant, wall, cpu) in [(CRANE_DEFAULT, 2.0, 1.0), (OURS, 1.0, 1.2)] {
            let sample = Sample { wall, cpu, memory: 10.0, requests: (1, 2) };
            results.add(Case { set: Set::Big, round_trip: zero, warm: false, contestant }, sample);
        }
        let verdicts = verdicts(&results);
        let met: Vec<(&str, bool)> =
            verdicts.iter().map(|verdict| (verdict.reached.as_str(), verdict.met)).collect();
        assert_eq!(met, [("0.50", true), ("1.20", false), ("10.00 MiB", true)]);
    }
}
