//! The weights of two Services in each place of an object, and the weights of a step. Pure functions.

use bp_artifact::config::TrafficSteps;
use serde::{Deserialize, Serialize};

/// The weights of the two Services, in their order.
pub(super) type Pair = [u32; 2];

/// A place in which both Services have a weight: an action of an Ingress, or a rule of an HTTPRoute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// `action web`, `rule 1`.
    pub(super) what: String,
    pub(super) weights: Pair,
    /// Whether no other backend shares the traffic of the place.
    pub(super) alone: bool,
    /// The greatest weight that the platform allows.
    pub(super) most: u32,
}

/// The share of the first change: what the two Services had before it, per place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Before {
    pub(super) weights: Pair,
    /// The sum that the weights of all steps have.
    pub(super) total: u32,
}

impl Place {
    /// The weights before a shift, and their sum during it: the present one, so that other backends keep their share.
    /// Two Services alone get a sum of which every percentage is a whole number.
    pub(super) fn before(&self) -> Before {
        let sum = self.weights[0].saturating_add(self.weights[1]);
        let fits = sum.is_multiple_of(100) && sum <= self.most;
        Before { weights: self.weights, total: if self.alone && !fits { 100 } else { sum } }
    }
}

/// The weights that give `percent` of the pair's traffic to the Service `to`. Only 100 gives it all.
pub(super) fn at(before: Before, to: usize, percent: u8) -> Pair {
    let total = u64::from(before.total);
    let part = (total * u64::from(percent) + 50) / 100;
    let part = if percent >= 100 { total } else { part.clamp(1.min(total), total.saturating_sub(1)) };
    let part = u32::try_from(part).unwrap_or(before.total);
    let mut weights = [before.total - part; 2];
    weights[to] = part;
    weights
}

/// Whether the Service `to` has at least `percent` of the pair's traffic.
pub(super) fn has(weights: Pair, to: usize, percent: u8) -> bool {
    let sum = u64::from(weights[0]) + u64::from(weights[1]);
    sum > 0 && u64::from(weights[to]) * 100 >= u64::from(percent) * sum
}

/// The share of the pair's traffic that the Service `to` has, rounded, in percent.
pub(super) fn percent(weights: Pair, to: usize) -> u32 {
    let sum = u64::from(weights[0]) + u64::from(weights[1]);
    let rounded = (u64::from(weights[to]) * 100 + sum / 2).checked_div(sum).unwrap_or_default();
    u32::try_from(rounded).unwrap_or(100)
}

/// Why the steps cannot be taken in these places, if they cannot.
pub(super) fn refusal(places: &[Place], to: usize, steps: &TrafficSteps) -> Option<String> {
    places.iter().find_map(|place| {
        let before = place.before();
        let what = &place.what;
        if before.total == 0 || place.weights == [0, 0] {
            return Some(format!("both weights of {what} are 0, so neither Service gets traffic"));
        }
        if before.total > place.most {
            let most = place.most;
            return Some(format!("the weights of {what} add up to {}, the most is {most}", before.total));
        }
        let all: Vec<u32> = steps.percentages().iter().map(|step| at(before, to, *step)[to]).collect();
        let too_coarse = all.windows(2).any(|pair| pair[0] >= pair[1]);
        too_coarse.then(|| {
            format!(
                "the two weights of {what} add up to {}, which cannot express the steps {steps}; multiply all weights of \
                 {what} by the same number",
                before.total
            )
        })
    })
}

/// The weights of all places, for messages: `95/5`.
pub(super) fn shown(all: &[Pair]) -> String {
    let mut texts: Vec<String> = all.iter().map(|[one, two]| format!("{one}/{two}")).collect();
    texts.dedup();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(weights: Pair, alone: bool) -> Place {
        Place { what: "action web".into(), weights, alone, most: 999 }
    }

    #[test]
    fn the_weights_of_every_step_add_up_to_the_same_sum() {
        for (weights, alone, total) in [
            ([100, 0], true, 100),
            ([1, 0], true, 100),
            ([1, 1], true, 100),
            ([0, 200], true, 200),
            ([999, 999], true, 100),
            ([90, 0], false, 90),
            ([63, 7], false, 70),
        ] {
            let before = place(weights, alone).before();
            assert_eq!(before.total, total, "{weights:?}");
            for to in [0, 1] {
                for percent in 1..=100 {
                    let found = at(before, to, percent);
                    assert_eq!(found[0] + found[1], total, "{weights:?} {percent}");
                    assert_eq!(found[1 - to] == 0, percent == 100, "only 100 leaves nothing: {found:?}");
                    assert!(found[to] > 0);
                }
            }
        }
        assert_eq!(at(place([100, 0], true).before(), 1, 5), [95, 5]);
        assert_eq!(at(place([0, 100], true).before(), 0, 25), [25, 75]);
        assert_eq!(at(place([80, 0], false).before(), 1, 25), [60, 20]);
    }

    #[test]
    fn compares_shares_without_rounding() {
        assert!(has([95, 5], 1, 5) && !has([96, 4], 1, 5) && has([0, 1], 1, 100));
        assert!(!has([1, 999_999], 1, 100) && !has([0, 0], 1, 1));
        assert_eq!((percent([95, 5], 1), percent([1, 2], 1), percent([0, 0], 1)), (5, 67, 0));
    }

    #[test]
    fn refuses_weights_that_cannot_express_the_steps() {
        let steps = TrafficSteps::default();
        assert_eq!(refusal(&[place([100, 0], true), place([1, 0], true)], 1, &steps), None);
        assert_eq!(refusal(&[place([80, 10], false)], 1, &steps), None);
        for (weights, alone, reason) in [
            ([0, 0], true, "both weights of action web are 0"),
            ([3, 0], false, "add up to 3, which cannot express"),
            ([900, 900], false, "the most is 999"),
        ] {
            let found = refusal(&[place(weights, alone)], 1, &steps).unwrap();
            assert!(found.contains(reason), "{found}");
        }
        // One step needs no granularity.
        assert_eq!(refusal(&[place([1, 0], false)], 1, &TrafficSteps::at_once()), None);
    }
}
