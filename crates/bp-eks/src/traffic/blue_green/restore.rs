//! Restore the traffic of a recorded revision: the rollback from a receipt.

use std::time::Duration;

use bp_artifact::{
    Outcome,
    deploy::{Reporter, Revision, run::Intent},
};

use super::{SlotSwitch, state::SWITCHED_BACK_FROM};
use crate::traffic::error::TrafficError;

impl SlotSwitch {
    /// Switches immediately when a slot still runs the revision's image; otherwise stages the image and switches.
    pub(super) async fn restore(
        &self,
        revision: &Revision,
        reporter: &Reporter,
    ) -> Result<Outcome, TrafficError> {
        // The revision had the traffic before: its pods are not watched for the bake time again.
        let switch = SlotSwitch { bake: Duration::ZERO, ..self.clone() };
        let survey = switch.survey().await?;
        let traffic = &survey.traffic;
        let mut slots = [&traffic.live, &traffic.idle];
        slots.sort_by_key(|state| state.slot.name != revision.id);
        let there = slots
            .into_iter()
            .find(|state| state.image.as_deref() == Some(revision.image.as_str()) && state.available > 0);
        match (there, revision.image.resolved()) {
            (Some(to), _) => {
                let run = survey.begin(reporter, Intent::restore(revision), to != &traffic.live);
                switch.move_traffic(run, &survey, to, SWITCHED_BACK_FROM).await
            }
            (None, Some(image)) => switch.deploy(&image, reporter).await,
            (None, None) => Err(TrafficError::NothingToSwitchBack { object: self.object() }),
        }
    }
}
