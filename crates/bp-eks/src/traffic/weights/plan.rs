//! The remaining steps of a shift: from the beginning, or from the recorded step.

use bp_artifact::{config::TrafficSteps, deploy::RunningImage};

use super::{
    WeightedPair,
    ramp::{Ramp, RampState, weights},
    share::{self, Before, Pair, shown},
    split::Split,
};
use crate::traffic::error::TrafficError;

/// The remaining steps.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) to: usize,
    pub(super) before: Vec<Before>,
    /// The remaining percentages, the recorded step first.
    pub(super) remaining: Vec<u8>,
    /// Whether an earlier run has set the weights of the first of them.
    pub(super) adopted: bool,
}

impl Plan {
    /// The weights of a step.
    pub(super) fn weights(&self, step: u8) -> Vec<Pair> {
        self.before.iter().map(|before| weights(*before, self.to, step)).collect()
    }

    /// The record of a step.
    pub(super) fn ramp(&self, pair: &WeightedPair, step: u8, image: &RunningImage) -> Ramp {
        Ramp {
            state: RampState::Shifting,
            services: pair.services.clone(),
            to: pair.services[self.to].clone(),
            image: Some(image.clone()).filter(|image| !image.as_str().is_empty()),
            before: self.before.clone(),
            step,
            resumed: 0,
        }
    }
}

impl WeightedPair {
    /// Plans a shift to the Service with the position `to`.
    ///
    /// # Errors
    /// When the weights were changed since an interrupted shift, or cannot express the steps.
    pub(super) fn plan(&self, split: &Split, to: usize, steps: &TrafficSteps) -> Result<Plan, TrafficError> {
        let found = split.weights();
        if let Some(ramp) = split.shifting().filter(|ramp| ramp.to() == to) {
            let recorded = ramp.weights();
            if recorded == found {
                let later = steps.percentages().iter().copied().filter(|step| *step > ramp.step);
                let remaining = std::iter::once(ramp.step).chain(later).collect();
                return Ok(Plan { to, before: ramp.before.clone(), remaining, adopted: true });
            }
            if !self.options.take_over {
                let (recorded, found) = (shown(&recorded), shown(&found));
                return Err(TrafficError::WeightsChanged { object: self.object(), recorded, found });
            }
        }
        let places = split.places();
        if let Some(why) = share::refusal(&places, to, steps) {
            return Err(self.invalid(why));
        }
        let is_open = |step: &u8| !found.iter().all(|pair| share::has(*pair, to, *step));
        let remaining = steps.percentages().iter().copied().filter(is_open).collect();
        let before = places.iter().map(share::Place::before).collect();
        Ok(Plan { to, before, remaining, adopted: false })
    }
}
