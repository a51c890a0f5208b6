//! Giving the traffic back to a revision that was noted: what a receipt's rollback does.

use bp_artifact::{DeployEvent, Emitter, Outcome, Revision};

use super::{error::TrafficError, green::Inner, state::SWITCHED_BACK_FROM};

impl Inner {
    /// At once when a slot still runs the revision's image; else the image is staged and switched to.
    pub(super) async fn restore(
        &self,
        revision: &Revision,
        events: &Emitter<DeployEvent>,
    ) -> Result<Outcome, TrafficError> {
        let survey = self.survey().await?;
        let traffic = &survey.traffic;
        let image = revision.image.resolved();
        let mut slots = [&traffic.live, &traffic.idle];
        slots.sort_by_key(|state| state.slot.name != revision.id);
        let there = slots
            .into_iter()
            .find(|state| state.image.as_deref() == Some(revision.image.as_str()) && state.available > 0);
        match (there, &image) {
            (Some(to), image) => {
                self.tell_planned(&survey, image.as_ref(), to != &traffic.live, events);
                self.turn(&survey, to, SWITCHED_BACK_FROM, image.as_ref(), events).await
            }
            (None, Some(image)) => self.deploy(image, events).await,
            (None, None) => Err(TrafficError::NothingToSwitchBack { object: self.object() }),
        }
    }
}
