//! Return to the weights before a shift: after a failure, or on request.

use bp_artifact::{
    DigestRef, Outcome,
    deploy::{
        FailureReport, OnFailure, Reporter, Revision,
        run::{Ended, Intent, Run},
    },
};

use super::{
    WeightedPair,
    follow::{End, Follower, Until},
    judge::Expected,
    patch::Patched,
    ramp::{Ramp, RampState},
    reconciled::Baseline,
    share::shown,
    shift::Shift,
    split::Split,
};
use crate::{
    api::retry::{AsApiError, RetryLimit, with_retries},
    error::Error,
    rollout::proof,
    traffic::{
        api::may_be_applied,
        error::TrafficError,
        labels::Labels,
        ready::{self, ReadyPods},
    },
};

/// The advice after a return that was not observed to complete.
const RETURN: &str = "return the traffic again to complete (--return)";

impl Shift<'_> {
    /// Ends a failed shift: restores the weights before it, unless the failure policy is to leave it.
    pub(super) async fn give_back(
        self,
        mut run: Run,
        report: FailureReport,
    ) -> Result<Outcome, TrafficError> {
        let pair = self.pair;
        run.failing(report);
        run.in_place(Some(self.to.clone()));
        if pair.options.on_failure == OnFailure::Leave {
            let detail = format!("service/{} fails and keeps its traffic", self.to.id);
            return Ok(run.ended(Ended::FailedInPlace, detail));
        }
        pair.checkpoint(&run)?;
        run.rolling_back(Some(self.from.clone()));
        let Some(ramp) = self.split.ramp.clone() else {
            return Ok(run.ended(Ended::RollbackFailed, "the record of the shift was removed"));
        };
        let selector = match pair.namespace.service(&self.from.id).await {
            Ok(service) => ready::selector(&service),
            // The weights are restored even if the pods behind them cannot be observed.
            Err(_) => Labels::new(),
        };
        // One attempt: the return does not wait for it.
        let since = pair.events().await;
        let options = &pair.options;
        let limit = RetryLimit::after_change(bp_artifact::time::deadline(options.deadline), options.grace);
        let restored = format!("the weights of {} before the shift are restored", pair.object);
        let (ended, detail) = match pair.set_back(&run, &self.split, &ramp, limit).await {
            Ok(Patched::Done(_)) => match since {
                Ok(since) => pair.watch_back(&run, &ramp, &selector, since).await?.rolled_back(pair, &ramp),
                Err(error) => {
                    (Ended::Unobserved, format!("{restored}, but its events cannot be read: {error}"))
                }
            },
            Ok(Patched::Superseded(found)) => (
                Ended::RollbackFailed,
                format!("another client changed the weights to {found} during the return"),
            ),
            Err(error) => {
                pair.checkpoint(&run)?;
                let why = error.as_api_error().map_or_else(|| error.to_string(), Error::without_advice);
                let ended = match error.as_api_error() {
                    Some(Error::Unreachable { .. }) => Ended::Unobserved,
                    Some(error) if error.is_refusal() => Ended::FailedInPlace,
                    Some(_) | None => Ended::RollbackFailed,
                };
                (ended, format!("failed to restore the weights of {}: {why}; {RETURN}", pair.object))
            }
        };
        if ended == Ended::RolledBack {
            run.in_place(Some(self.from.clone()));
        }
        Ok(run.ended(ended, detail))
    }
}

impl End {
    /// The end of a return after a failure.
    fn rolled_back(self, pair: &WeightedPair, ramp: &Ramp) -> (Ended, String) {
        let object = &pair.object;
        let restored = format!("the weights of {object} before the shift are restored");
        match self {
            End::Good => {
                let from = &pair.services[1 - ramp.to()];
                (Ended::RolledBack, format!("service/{from} has the traffic of {object} again"))
            }
            End::Unobserved(error) => {
                let why = error.without_advice();
                (Ended::Unobserved, format!("{restored}, but can no longer be observed: {why}; {RETURN}"))
            }
            End::OutOfTime(awaited) => (Ended::Unobserved, format!("{restored}, but {awaited}; {RETURN}")),
            End::Failed(symptom) => (Ended::RollbackFailed, format!("{restored}, but {symptom}")),
            End::Superseded(found) => {
                (Ended::RollbackFailed, format!("{restored}, but another client changed them to {found}"))
            }
            End::Gone => (Ended::RollbackFailed, format!("{object} was deleted")),
        }
    }

    /// The end of a return on request; `None` if it is complete.
    fn returned(self, pair: &WeightedPair) -> Option<(Ended, String)> {
        let restored = "the weights before the shift are restored";
        match self {
            End::Good => None,
            End::Unobserved(error) => Some((Ended::Unobserved, error.unobserved(restored))),
            End::OutOfTime(awaited) => Some((Ended::DeadlineExceeded, format!("{restored}, but {awaited}"))),
            End::Failed(symptom) => Some((Ended::FailedInPlace, format!("{restored}, but {symptom}"))),
            End::Superseded(found) => {
                Some((Ended::Superseded, format!("another client changed the weights to {found}")))
            }
            End::Gone => Some((Ended::Gone, format!("{} was deleted", pair.object))),
        }
    }
}

impl WeightedPair {
    /// Restores the weights before a shift.
    async fn set_back(
        &self,
        run: &Run,
        split: &Split,
        ramp: &Ramp,
        limit: RetryLimit,
    ) -> Result<Patched, TrafficError> {
        let returned = Ramp { state: RampState::Returned, ..ramp.clone() };
        let weights = ramp.weights_before();
        with_retries(limit, run, || self.set(split, &weights, &returned)).await
    }

    /// Watches until the weights before a shift are in effect. `selector` is that of the Service with the traffic.
    async fn watch_back(
        &self,
        reporter: &Reporter,
        ramp: &Ramp,
        selector: &Labels,
        since: Option<Baseline>,
    ) -> Result<End, TrafficError> {
        let expected = Expected { weights: ramp.weights_before(), since, is_return: true };
        Follower::start(self, 1 - ramp.to(), selector, expected, reporter).hold(Until::Settled).await
    }

    /// Restores the weights before the last shift.
    pub(super) async fn return_traffic(&self, reporter: &Reporter) -> Result<Outcome, TrafficError> {
        let split = self.split(self.read().await?)?;
        let nothing = || TrafficError::NothingToSwitchBack { object: self.object() };
        let ramp = split.ramp.clone().ok_or_else(nothing)?;
        let (weights, to) = (ramp.weights_before(), ramp.to());
        let is_returned = split.weights() == weights;
        if ramp.state == RampState::Returned && !is_returned {
            return Err(nothing());
        }
        if weights.len() != split.places().len() {
            let why = "its rules or actions were changed since the shift; set the weights by hand";
            return Err(self.invalid(why));
        }
        let service = self.namespace.service(&self.services[1 - to]).await?;
        let ready = ReadyPods::of(&self.namespace, &service, self.container.as_deref()).await?;
        let from = Revision::new(self.services[1 - to].as_str(), ready.asked.as_str());
        let current = Revision::new(self.services[to].as_str(), ramp.image.clone().unwrap_or_default());
        let changes = !is_returned || ramp.state != RampState::Returned;
        let intent = Intent::restore(&from).current(Some(current.clone())).previous(Some(current));
        let mut run = Run::planned(reporter, intent.changes(changes));
        run.unchanged();
        if changes {
            let since = self.baseline(&run).await?;
            self.checkpoint(&run)?;
            let limit =
                RetryLimit::until(bp_artifact::time::deadline(self.options.grace.min(self.options.deadline)));
            match self.set_back(&run, &split, &ramp, limit).await {
                Ok(Patched::Done(_)) => run.changed(),
                Ok(Patched::Superseded(found)) => {
                    let detail = format!("another client changed the weights to {found}");
                    return Ok(run.ended(Ended::Superseded, detail));
                }
                Err(error) => {
                    self.checkpoint(&run)?;
                    let detail = may_be_applied(&self.object(), error)?;
                    run.changed();
                    return Ok(run.ended(Ended::Unobserved, detail));
                }
            }
            run.applied(from.clone(), format!("weights {}", shown(&weights)), false);
            let end = self.watch_back(&run, &ramp, &ready::selector(&service), since).await?;
            if let Some((ended, detail)) = end.returned(self) {
                return Ok(run.ended(ended, detail));
            }
        }
        run.in_place(Some(from.clone()));
        run.detail(format!("service/{} has the traffic of {} again", from.id, self.object));
        let proof = match ready.asked.parse::<DigestRef>() {
            Ok(image) => proof::against(ready.pods.iter(), &ready.container, &image.into()),
            Err(_) => proof::of(ready.pods.iter(), &ready.container),
        };
        Ok(run.proven(proof))
    }
}
