//! Judges a verdict by the model's history and the requests. It knows neither the events of the rollout nor the code of
//! bp-eks.
//!
//! "Seen" is the time at which an object was seen last: now, unless its watch failed; what others did after it cannot be
//! known.
//!
//! | verdict | allowed only if |
//! |---|---|
//! | deployed | the workload seen has our image and is complete; when the pods were last listed, one of our image was ready |
//! | unproven | the same without a proof: no replicas, no ready pod, or the pods could not be read |
//! | digest mismatch | never: the pods run the image by digest |
//! | rolled back | the rollout had failed before our second change, after which the previous image is complete |
//! | rollback failed | the rollout had failed before our second change; the previous image fails or is not ready at the deadline, or another client interfered; or the change was refused |
//! | failed in place | the rollout failed and its image is in place; we are not to roll back, there is no other revision, or the rollback was not answered |
//! | stopped | another client paused it |
//! | superseded | another client changed the image |
//! | gone | another client deleted the workload |
//! | deadline exceeded | the deadline has passed and the rollout is not complete; no pod shows why, or the pods of the previous image are refused |
//! | unobserved | the last requests for an object had faults, for the grace period or until the deadline; or it is unknown whether a change was processed |
//! | an error | nothing was changed; the last request had a fault, the workload cannot be deployed, or the field has another owner |
//!
//! Always: our image is set once and the previous one at most once, only after a failure and while our image is in
//! place. Without faults, a final failure ends the rollout within a second of the API showing it.

use bp_artifact::{Verdict, error::ErrorClass};
use serde_json::Value;

use crate::{
    facts::{Ending, Facts, ImageChange, fault_of, image_of, is_answered, is_change, seconds},
    failures::{Followed, ROUNDING, is_complete, is_ending, is_ready},
};

/// How long a final failure may last without being reported, in seconds.
const REPORTED: f64 = 1.0;

/// Checks the ending; the error states what is wrong.
pub(crate) fn check(facts: &Facts) -> Result<(), String> {
    let mut ours = facts.changes.iter().filter(|change| change.ours);
    let deployed = ours.clone().find(|change| change.image == facts.image);
    let undone = ours.find(|change| change.image != facts.image);
    let checker = Checker { facts, deployed, undone };
    checker.changes()?;
    match &facts.ending {
        Ending::Error { class, message } => {
            checker.error(*class, message).map_err(|why| format!("the error `{message}`: {why}"))
        }
        Ending::Verdict { verdict, changed, detail } => {
            ensure(*changed || deployed.is_none(), "a change was made and is not reported")
                .and_then(|()| checker.in_time())
                .and_then(|()| checker.verdict(*verdict))
                .map_err(|why| format!("the verdict {verdict:?} ({detail}): {why}"))
        }
    }
}

struct Checker<'a> {
    facts: &'a Facts,
    /// Our change to our image, and to the previous one.
    deployed: Option<&'a ImageChange>,
    undone: Option<&'a ImageChange>,
}

fn ensure(holds: bool, otherwise: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise.to_owned()) }
}

impl<'a> Checker<'a> {
    fn now(&self) -> f64 {
        self.facts.times.now
    }

    /// The rollout of our image.
    fn ours(&self) -> Followed<'a> {
        let facts = self.facts;
        let start = facts.workload_at(facts.times.start);
        let generation = start.and_then(|workload| workload["metadata"]["generation"].as_i64());
        Followed {
            image: &facts.image,
            began: self.deployed.map_or(facts.times.start, |change| change.at),
            deadline: facts.times.start + facts.policy.deadline as f64,
            generation: self.deployed.map_or(generation.unwrap_or_default(), |change| change.generation),
            fails_refused: true,
        }
    }

    /// The rollout of the previous image, once it is restored.
    fn restored(&self) -> Option<Followed<'a>> {
        let undone = self.undone?;
        Some(Followed {
            image: &undone.image,
            began: undone.at,
            deadline: undone.at + self.facts.policy.deadline as f64,
            generation: undone.generation,
            fails_refused: false,
        })
    }

    fn verdict(&self, verdict: Verdict) -> Result<(), String> {
        let other = || self.image_seen(|image| image != self.facts.image);
        match verdict {
            Verdict::Deployed => self.deployed(),
            Verdict::Unproven => self.unproven(),
            Verdict::DigestMismatch => Err("the pods run the image by digest".to_owned()),
            Verdict::RolledBack => self.rolled_back(),
            Verdict::RollbackFailed => self.rollback_failed(),
            Verdict::FailedInPlace => self.failed_in_place(),
            Verdict::Stopped => {
                let paused = self.seen(|workload| workload["spec"]["paused"] == true);
                ensure(paused, "nobody paused it")
            }
            Verdict::Superseded => {
                let by_others = self.facts.changes.iter().any(|change| !change.ours);
                ensure(by_others && self.undone.is_none() && other(), "nobody superseded it")
            }
            Verdict::Gone => {
                ensure(self.facts.did_others("deleted", self.now()), "nobody deleted the workload")
            }
            Verdict::AwaitingApproval => Err("nothing awaits an approval".to_owned()),
            Verdict::DeadlineExceeded => self.deadline_exceeded(),
            Verdict::Unobserved => self.unobserved(),
        }
    }

    /// Whether a state of the workload that may have been seen last satisfies this.
    fn seen(&self, is: impl Fn(&Value) -> bool) -> bool {
        let plural = self.facts.kind.plural();
        let from = self.facts.seen(plural).max(self.facts.times.start);
        let moments = self.facts.moments(from, self.now());
        moments.into_iter().filter_map(|time| self.facts.workload_at(time)).any(|workload| is(workload))
    }

    fn image_seen(&self, is: impl Fn(&str) -> bool) -> bool {
        self.seen(|workload| is(image_of(workload)))
    }

    fn is_complete(&self, followed: &Followed<'_>, workload: &Value) -> bool {
        image_of(workload) == followed.image && is_complete(self.facts.kind, workload, followed.generation)
    }

    /// When the pods were last listed, if they were.
    fn listed(&self) -> Option<f64> {
        let mut lists = self.facts.requests.iter().rev().filter(|request| request.operation == "list pods");
        lists.find(|request| is_answered(request)).map(|request| seconds(request.at))
    }

    /// Whether a pod of our image is ready, at a time that may be off by an instant.
    fn is_proven(&self, time: f64) -> bool {
        let is_proof = |pod: &Value| {
            let status = &pod["status"]["containerStatuses"][0];
            let is_ours = status["imageID"].as_str().is_some_and(|id| id.ends_with(&self.facts.digest));
            is_ready(pod) && !is_ending(pod) && is_ours
        };
        let moments = self.facts.moments(time - ROUNDING, time);
        moments.into_iter().any(|time| self.facts.our_pods(time).any(|pod| is_proof(pod)))
    }

    fn deployed(&self) -> Result<(), String> {
        ensure(
            self.seen(|workload| self.is_complete(&self.ours(), workload)),
            "the rollout is not complete",
        )?;
        let none =
            self.facts.policy.allow_no_replicas && self.seen(|workload| workload["spec"]["replicas"] == 0);
        let listed = self.listed().ok_or("the pods were never listed")?;
        ensure(none || self.is_proven(listed), "no pod of our image was ready when the pods were listed")
    }

    fn unproven(&self) -> Result<(), String> {
        ensure(
            self.seen(|workload| self.is_complete(&self.ours(), workload)),
            "the rollout is not complete",
        )?;
        let none = self.seen(|workload| workload["spec"]["replicas"] == 0);
        let reads = ["list pods".to_owned(), format!("list {}", self.facts.kind.versions())];
        let last =
            |read: &String| self.facts.requests.iter().rev().find(|request| request.operation == *read);
        let is_unread = reads.iter().filter_map(last).any(|request| !is_answered(request));
        let is_unready = self.listed().is_none_or(|time| {
            let moments = self.facts.moments(time - ROUNDING, time);
            moments
                .into_iter()
                .any(|time| !self.facts.our_pods(time).any(|pod| is_ready(pod) && !is_ending(pod)))
        });
        ensure(none || is_unread || is_unready, "pods run and could be read")
    }

    /// Whether the rollout had failed before it was undone, or before now.
    fn failed(&self) -> Result<(), String> {
        let until = self.undone.map_or(self.now(), |change| change.at);
        ensure(self.ours().may_have_failed(self.facts, until), "the rollout had not failed")
    }

    fn rolled_back(&self) -> Result<(), String> {
        self.failed()?;
        let restored = self.restored().ok_or("the previous image was not restored")?;
        ensure(self.seen(|workload| self.is_complete(&restored, workload)), "the rollback is not complete")
    }

    fn rollback_failed(&self) -> Result<(), String> {
        self.failed()?;
        let Some(restored) = self.restored() else {
            // The API server refused the change.
            let mut changes = self.facts.requests.iter().rev();
            let refused = changes
                .any(|request| is_change(request) && request.status.is_some_and(|status| status >= 400));
            return ensure(refused, "the rollback was neither made nor refused");
        };
        let interfered =
            self.seen(|workload| image_of(workload) != restored.image || workload["spec"]["paused"] == true);
        let failed = restored.may_have_failed(self.facts, self.now());
        ensure(interfered || failed, "the rollback did not fail")
    }

    fn failed_in_place(&self) -> Result<(), String> {
        self.failed()?;
        ensure(self.undone.is_none(), "the previous image was restored")?;
        ensure(self.image_seen(|image| image == self.facts.image), "the failed image is not in place")?;
        let is_unanswered = self.facts.requests.last().is_some_and(|request| !is_answered(request));
        let start = self.facts.workload_at(self.facts.times.start);
        let is_first = start.is_some_and(|workload| image_of(workload) == self.facts.image);
        ensure(
            self.facts.policy.leaves_failures || is_unanswered || is_first,
            "it should have been rolled back",
        )
    }

    fn deadline_exceeded(&self) -> Result<(), String> {
        let facts = self.facts;
        let followed = self.restored().unwrap_or_else(|| self.ours());
        // That of a rollback begins with its first attempt.
        let is_late = self.now() >= followed.deadline - ROUNDING;
        ensure(is_late || facts.is_disturbed && self.restored().is_some(), "the deadline has not passed")?;
        let moments = facts.moments(self.now() - REPORTED, self.now());
        let workloads = || moments.iter().filter_map(|time| facts.workload_at(*time));
        let complete = workloads().all(|workload| self.is_complete(&followed, workload));
        ensure(!complete || facts.is_disturbed, "the rollout is complete")?;
        if self.restored().is_some() {
            let refused = !facts.refusals(followed.image, followed.began, self.now()).is_empty();
            let retried = moments.iter().any(|time| followed.is_retried(facts, *time));
            return ensure(
                refused || retried || facts.is_disturbed,
                "no pod of the previous image is refused",
            );
        }
        let has_reason = moments.iter().all(|time| followed.has_reason(facts, *time));
        ensure(!has_reason || facts.is_disturbed, "the pods show why they are not ready")
    }

    fn unobserved(&self) -> Result<(), String> {
        let facts = self.facts;
        let last_change = facts.requests.iter().rev().find(|request| is_change(request));
        let is_unclear = last_change.is_some_and(|request| {
            matches!(fault_of(request), Some("lost answer" | "reset" | "5xx" | "answer cut"))
        });
        let deadline = self.restored().unwrap_or_else(|| self.ours()).deadline;
        let is_blind = |plural: &str| {
            let failing: Vec<_> =
                facts.reads(plural).rev().take_while(|request| !is_answered(request)).collect();
            failing.last().is_some_and(|first| {
                let lasted = self.now() - seconds(first.at);
                lasted >= facts.policy.grace as f64 - ROUNDING || self.now() >= deadline - ROUNDING
            })
        };
        let plurals = [facts.kind.plural(), facts.kind.versions(), "pods"];
        ensure(is_unclear || plurals.into_iter().any(is_blind), "it was observed a moment ago")
    }

    fn error(&self, class: ErrorClass, message: &str) -> Result<(), String> {
        ensure(self.deployed.is_none(), "our image was set")?;
        let faults = || self.facts.requests.iter().any(|request| fault_of(request).is_some());
        match class {
            ErrorClass::Unavailable => ensure(faults(), "every request was answered"),
            ErrorClass::Refused | ErrorClass::BadInput => {
                let owned = !self.facts.policy.take_over && message.contains("owned by the field manager");
                let paused = self.facts.did_others("paused", self.now()) && message.contains("paused");
                let deleted = self.facts.did_others("deleted", self.now());
                ensure(owned || paused || deleted || faults(), "nothing was refused")
            }
            other => Err(format!("of an unexpected class, {other:?}")),
        }
    }

    /// Whether every change was made once and with a reason.
    fn changes(&self) -> Result<(), String> {
        let ours = || self.facts.changes.iter().filter(|change| change.ours);
        let (new, old): (Vec<_>, Vec<_>) = ours().partition(|change| change.image == self.facts.image);
        ensure(new.len() <= 1, "our image was set twice")?;
        ensure(old.len() <= 1, "the previous image was restored twice")?;
        let Some(undone) = old.first() else { return Ok(()) };
        ensure(undone.before == self.facts.image, "the rollback replaced the image of another client")?;
        ensure(!self.facts.policy.leaves_failures, "the image was to be left in place")?;
        ensure(
            self.ours().may_have_failed(self.facts, undone.at),
            "the previous image was restored, but the rollout had not failed",
        )
    }

    /// Whether a final failure was reported within a second.
    fn in_time(&self) -> Result<(), String> {
        if self.facts.is_disturbed {
            return Ok(());
        }
        let until = self.undone.map_or(self.now(), |change| change.at);
        match self.ours().must_have_failed(self.facts, until, REPORTED) {
            Some(since) => {
                let late = until - since;
                Err(format!("the rollout had failed for {late:.1} s, and was not reported"))
            }
            None => Ok(()),
        }
    }
}
