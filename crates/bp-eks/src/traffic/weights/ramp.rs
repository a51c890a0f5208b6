//! The record of a shift, in an annotation of the object with the weights: written in the same request as they are.

use bp_artifact::deploy::RunningImage;
use serde::{Deserialize, Serialize};

use super::share::{self, Before, Pair};

/// The prefix of the annotation; the first Service of the pair follows.
const ANNOTATION: &str = "weights.bp-eks/";
/// The longest record that is read.
const LONGEST: usize = 64 * 1024;

/// The annotation of this pair of Services.
pub(super) fn annotation(services: &[String; 2]) -> String {
    format!("{ANNOTATION}{}", services[0])
}

/// How far a shift has come, and the weights before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ramp {
    pub(super) state: RampState,
    /// The two Services, in the order of their weights.
    pub(super) services: [String; 2],
    /// The Service that receives the traffic.
    pub(super) to: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) image: Option<RunningImage>,
    /// What each place had before the first step.
    pub(super) before: Vec<Before>,
    /// The step in percent.
    pub(super) step: u8,
    /// The number of runs that have resumed the step: a controller reports each change of an annotation.
    #[serde(default)]
    pub(super) resumed: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RampState {
    /// A step is in effect, and not the last one.
    Shifting,
    /// The last step is complete.
    Shifted,
    /// The weights before the shift are in effect again.
    Returned,
}

impl Ramp {
    /// Parses a record of these two Services.
    pub(super) fn parse(text: &str, services: &[String; 2]) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err("it is too long".to_owned());
        }
        let ramp: Ramp = serde_json::from_str(text).map_err(|e| e.to_string())?;
        if ramp.services != *services || !ramp.services.contains(&ramp.to) {
            return Err(format!("it is about {}", ramp.services.join(" and ")));
        }
        if ramp.step > 100 {
            return Err(format!("it has the step {}", ramp.step));
        }
        Ok(ramp)
    }

    pub(super) fn to_text(&self) -> String {
        serde_json::to_string(self).expect("a record is valid JSON")
    }

    /// The position of the Service that receives the traffic.
    pub(super) fn to(&self) -> usize {
        usize::from(self.services[1] == self.to)
    }

    /// The weights of the recorded step.
    pub(super) fn weights(&self) -> Vec<Pair> {
        self.before.iter().map(|before| weights(*before, self.to(), self.step)).collect()
    }

    /// The weights before the shift.
    pub(super) fn weights_before(&self) -> Vec<Pair> {
        self.before.iter().map(|before| before.weights).collect()
    }
}

/// The weights of one place at a step; a place that had more already keeps its weights.
pub(super) fn weights(before: Before, to: usize, step: u8) -> Pair {
    if share::has(before.weights, to, step) { before.weights } else { share::at(before, to, step) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> [String; 2] {
        ["web-blue".to_owned(), "web-green".to_owned()]
    }

    fn ramp() -> Ramp {
        Ramp {
            state: RampState::Shifting,
            services: pair(),
            to: "web-green".into(),
            image: None,
            before: vec![Before { weights: [1, 0], total: 100 }, Before { weights: [60, 40], total: 100 }],
            step: 25,
            resumed: 0,
        }
    }

    #[test]
    fn no_place_loses_traffic_at_a_step() {
        assert_eq!(ramp().weights(), [[75, 25], [60, 40]]);
        assert_eq!(Ramp { step: 50, ..ramp() }.weights(), [[50, 50], [50, 50]]);
        assert_eq!(Ramp { step: 25, to: "web-blue".into(), ..ramp() }.weights(), [[1, 0], [60, 40]]);
        assert_eq!(ramp().weights_before(), [[1, 0], [60, 40]]);
    }

    #[test]
    fn reads_what_it_wrote_and_rejects_other_records() {
        assert_eq!(Ramp::parse(&ramp().to_text(), &pair()).unwrap(), ramp());
        assert_eq!(annotation(&pair()), "weights.bp-eks/web-blue");
        let other = ["web-blue".to_owned(), "web-red".to_owned()];
        for text in [
            "{".to_owned(),
            "[]".to_owned(),
            Ramp { services: other.clone(), ..ramp() }.to_text(),
            Ramp { to: "web-red".into(), ..ramp() }.to_text(),
            Ramp { step: 101, ..ramp() }.to_text(),
            " ".repeat(LONGEST + 1),
        ] {
            assert!(Ramp::parse(&text, &pair()).is_err(), "{text}");
        }
        assert!(Ramp::parse(&ramp().to_text(), &other).is_err());
    }
}
