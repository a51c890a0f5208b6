//! Judges a verdict by the model's final state and the history of requests. It knows neither the events of the
//! deployment nor the code of bp-ecs.
//!
//! "Seen" is the time of the last response that described the service; what other clients did after it cannot be known.
//!
//! | verdict | allowed only if |
//! |---|---|
//! | deployed | the primary revision seen has our image, its deployment is `SUCCESSFUL`, and when the tasks were last read, as many as required ran, all with our digest |
//! | unproven | the same without a proof: the desired count is 0, no task runs, tasks failed and fewer than required ran, or the tasks could not be read |
//! | digest mismatch | a task of the primary revision runs another digest |
//! | rolled back | the deployment failed and is `ROLLBACK_SUCCESSFUL`, or our UpdateService to the previous revision is `SUCCESSFUL`, or was rolled back to that revision; unless another client deploys again, tasks of that revision run or fail by themselves |
//! | rollback failed | the deployment failed; `ROLLBACK_FAILED`, or the tasks of the restored revision failed, or ECS returned from it to another one, or ECS rejected our requests to roll back |
//! | failed in place | the deployment failed and its revision is primary; we are not to roll back, or there is no other revision |
//! | stopped | another client aborted it |
//! | superseded | another client started a deployment of another definition after it |
//! | gone | another client deleted the service |
//! | awaiting approval | a pause hook of the deployment awaits an action |
//! | deadline exceeded | the deadline has passed and the deployment, or its rollback, has not ended |
//! | unobserved | the last request had a fault, and no poll was answered for 20 s or until the deadline; or it is unknown whether UpdateService was processed |
//! | an error | nothing was changed; the last request had a fault, the service was deleted, or another deployment was in progress |
//!
//! A deployment failed if tasks of it failed by themselves (as many as the limit, or all), if ECS ended it because of its
//! circuit breaker, an alarm or a hook, if another client rolled it back, or at the deadline. After its success only
//! failures after the success count.
//!
//! Always: UpdateService is processed once for our definition and at most once for the rollback; a failed deployment
//! is rolled back only after it failed; nothing is changed once a deployment of another client has been visible for
//! longer than a polling interval.

use bp_artifact::{Verdict, error::ErrorClass};
use serde_json::Value;

use crate::{
    facts::{Deployment, Ending, Facts, Party, fault_of, is_answered, is_failed, seconds},
    schedule::Other,
};

/// The longest interval between two polls, in seconds.
const POLL: f64 = 6.0;
/// How long missing credentials or permissions are tolerated, in seconds.
const GRACE: f64 = 20.0;
/// The tolerance of comparisons, in seconds.
const ROUNDING: f64 = 0.5;

const SERVICE: [&str; 2] = ["ecs:DescribeServices", "ecs:UpdateService"];
const TASKS: [&str; 2] = ["ecs:ListTasks", "ecs:DescribeTasks"];

/// Checks the ending; the error states what is wrong.
pub(crate) fn check(facts: &Facts) -> Result<(), String> {
    let checker = Checker { facts, seen: facts.last_answer(&SERVICE).unwrap_or(facts.start) };
    checker.changes()?;
    match &facts.ending {
        Ending::Error { class, message } => {
            checker.error(*class).map_err(|why| format!("the error `{message}`: {why}"))
        }
        Ending::Verdict { verdict, changed, detail } => {
            let is_changed = facts.deployments().any(|deployment| deployment.by == Party::Ours);
            ensure(*changed || !is_changed, "a change was made and is not reported")
                .and_then(|()| checker.verdict(*verdict))
                .map_err(|why| format!("the verdict {verdict:?} ({detail}): {why}"))
        }
    }
}

struct Checker<'a> {
    facts: &'a Facts,
    /// When the service was last read.
    seen: f64,
}

fn ensure(holds: bool, otherwise: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise.to_owned()) }
}

impl Checker<'_> {
    fn verdict(&self, verdict: Verdict) -> Result<(), String> {
        match verdict {
            Verdict::Deployed => self.deployed(),
            Verdict::Unproven => self.unproven(),
            Verdict::DigestMismatch => {
                let other = self
                    .primary()
                    .is_some_and(|(number, _)| !self.facts.runs_our_digest(number, self.facts.now));
                ensure(other, "every task runs our digest")
            }
            Verdict::RolledBack => self.rolled_back(),
            Verdict::RollbackFailed => self.rollback_failed(),
            Verdict::FailedInPlace => self.failed_in_place(),
            Verdict::Stopped => {
                let stopped = self.newest_wanted().is_some_and(|d| d.status == "STOPPED");
                ensure(stopped && self.others("stopped by another client"), "nobody stopped it")
            }
            Verdict::Superseded => {
                ensure(self.superseding().is_some() || self.redeployed(), "nobody superseded it")
            }
            Verdict::Gone => ensure(self.others("deleted"), "nobody deleted the service"),
            Verdict::AwaitingApproval => {
                ensure(self.newest_wanted().is_some_and(|d| d.awaits_approval), "no hook awaits an action")
            }
            Verdict::DeadlineExceeded => {
                ensure(self.is_late(self.facts.now), "the deadline has not passed")?;
                let newest = self.facts.newest(self.seen);
                ensure(newest.is_some_and(|d| !d.is_over()), "the deployment has ended")
            }
            Verdict::Unobserved => self.unobserved(),
        }
    }

    fn others(&self, action: &str) -> bool {
        self.facts.did_others(action, self.seen)
    }

    /// The number and the image of the primary revision.
    fn primary(&self) -> Option<(&str, &str)> {
        let number = self.facts.primary(self.seen)?;
        Some((number, &self.facts.definitions[number].1))
    }

    fn newest_wanted(&self) -> Option<Deployment<'_>> {
        self.facts.wanted().rev().find(|deployment| deployment.created <= self.seen)
    }

    /// A deployment of another definition by another client, since the newest one of our definition, if there is one.
    fn superseding(&self) -> Option<Deployment<'_>> {
        let since = self.newest_wanted().map_or(self.facts.start, |newest| newest.created);
        let mut deployments = self.facts.deployments();
        deployments.find(|d| {
            d.by == Party::Other
                && d.image != self.facts.image
                && d.created >= since
                && d.created <= self.seen
        })
    }

    /// Whether another client has rolled ours back and then deployed: that is not ours, even if it has our image.
    fn redeployed(&self) -> bool {
        let mut deployments = self.facts.deployments().filter(|d| d.by == Party::Other);
        deployments.any(|d| {
            d.created <= self.seen && self.facts.did_others("rolled back by another client", d.created)
        })
    }

    /// When the deployment began, or was adopted.
    fn began(&self) -> f64 {
        let ours = self.facts.deployments().find(|deployment| deployment.by == Party::Ours);
        ours.map_or(self.facts.start, |ours| ours.created)
    }

    fn is_late(&self, at: f64) -> bool {
        at - self.began() >= self.facts.policy.deadline as f64 - ROUNDING
    }

    /// Whether the deployment had failed.
    fn failed(&self, at: f64) -> Result<(), String> {
        let mut wanted = self.facts.wanted().filter(|deployment| deployment.created <= at);
        let failed = wanted.any(|deployment| self.has_failed(&deployment, at));
        ensure(failed || self.is_late(at), "the deployment had not failed")
    }

    fn has_failed(&self, deployment: &Deployment<'_>, at: f64) -> bool {
        let by_ecs = ["circuit breaker", "alarm", "lifecycle hook", "candidate"];
        let is_failed_by_ecs = deployment
            .finished
            .or(deployment.rollback.map(|(_, since)| since))
            .is_some_and(|since| since <= at)
            && by_ecs.iter().any(|by| deployment.reason.contains(by));
        let limit = u64::from(self.facts.policy.fail_after);
        let all = self.facts.initial_desired.min(self.facts.desired()).max(1);
        let success =
            deployment.finished.filter(|at_success| deployment.status == "SUCCESSFUL" && *at_success <= at);
        let failures = self.facts.tasks_of(deployment.number).filter(|task| is_failed(task));
        let stopped =
            failures.filter_map(|task| task["stoppingAt"].as_f64()).filter(|stopped| *stopped <= at);
        let none_runs = self.facts.running(deployment.number, at).next().is_none();
        let counted = stopped.filter(|stopped| none_runs || success.is_none_or(|success| *stopped > success));
        let enough = counted.count() as u64 >= limit.min(all);
        is_failed_by_ecs || enough || self.facts.did_others("rolled back by another client", at)
    }

    fn required(&self) -> u64 {
        // It may have changed after the service was last read.
        let desired = self.facts.desired().min(self.facts.initial_desired);
        (desired * self.facts.required_percent).div_ceil(100)
    }

    /// Our image is primary and ECS reports success.
    fn successful(&self) -> Result<&str, String> {
        let (number, image) = self.primary().ok_or("there is no primary revision")?;
        ensure(image == self.facts.image, "the primary revision has another image")?;
        let mut of_primary = self.facts.deployments().filter(|deployment| deployment.number == number);
        ensure(of_primary.any(|d| d.status == "SUCCESSFUL"), "its deployment is not successful")?;
        Ok(number)
    }

    fn deployed(&self) -> Result<(), String> {
        let number = self.successful()?;
        let read = self.facts.last_answer(&TASKS).ok_or("the tasks were never read")?;
        let running = self.facts.running(number, read).count() as u64;
        let required = self.required();
        ensure(running > 0, "no task ran when the tasks were read")?;
        ensure(
            running + self.interrupted(number, read) >= required,
            &format!("{running} of {required} tasks ran when they were read"),
        )?;
        ensure(self.facts.runs_our_digest(number, read), "a task runs another digest")
    }

    /// The number of tasks that others had stopped at a time: ECS replaces them.
    fn interrupted(&self, number: &str, at: f64) -> u64 {
        let stopped = self.facts.tasks_of(number).filter(|task| {
            let stopped = task["stoppingAt"].as_f64().is_some_and(|stopping| stopping <= at);
            stopped && !is_failed(task) && task["stopCode"].is_string()
        });
        stopped.count() as u64
    }

    /// Whether tasks failed before the tasks were last read, and fewer ran then than required.
    fn is_short(&self, number: &str) -> bool {
        let Some(read) = self.facts.last_answer(&TASKS) else { return false };
        let desired = self.facts.desired().max(self.facts.initial_desired);
        let required = (desired * self.facts.required_percent).div_ceil(100);
        let running = self.facts.running(number, read).count() as u64;
        self.facts.tasks_of(number).any(is_failed) && running + self.interrupted(number, read) < required
    }

    fn unproven(&self) -> Result<(), String> {
        let number = self.successful()?;
        let mut reads = self.facts.requests.iter().rev().filter(|r| TASKS.contains(&r.operation.as_str()));
        let is_unread = reads.next().is_none_or(|last| !is_answered(last));
        let none_runs = self.facts.running(number, self.facts.now).next().is_none();
        let is_allowed = self.facts.desired() == 0 || is_unread || none_runs || self.is_short(number);
        ensure(is_allowed, "tasks run and could be read")
    }

    fn rolled_back(&self) -> Result<(), String> {
        self.failed(self.facts.now)?;
        let by_ecs = self.newest_wanted().is_some_and(|d| d.status == "ROLLBACK_SUCCESSFUL");
        // Another client may deploy again at once.
        if by_ecs && self.superseding().is_some() {
            return Ok(());
        }
        let newest = self.facts.newest(self.seen).ok_or("there is no deployment")?;
        // Another client may force a new deployment of the restored revision, which is followed.
        let mut ours =
            self.facts.deployments().filter(|d| d.by == Party::Ours && d.image != self.facts.image);
        let by_us = newest.status == "SUCCESSFUL" && ours.any(|d| d.definition == newest.definition);
        let again = self.returned_from_restore() == Some(newest.definition);
        ensure(by_ecs || by_us || again, "the rollback is not complete")?;
        let primary = self.facts.primary(self.seen).ok_or("there is no primary revision")?;
        let runs = self.facts.running(primary, self.facts.now).next().is_some();
        let none_wanted = self.facts.desired() == 0 || self.facts.initial_desired == 0;
        // A revision that ECS considers stable may fail, too: during this deployment, not an hour before.
        let is_late = |task: &&Value| task["stoppingAt"].as_f64().is_some_and(|at| at >= self.facts.start);
        let fails = self.facts.tasks_of(primary).filter(is_late).any(is_failed);
        ensure(runs || none_wanted || fails, "no task of the previous revision runs")
    }

    /// The definition to which ECS has returned from our UpdateService to the previous revision.
    fn returned_from_restore(&self) -> Option<&str> {
        let newest = self.facts.newest(self.seen)?;
        let restored = newest.by == Party::Ours && newest.image != self.facts.image;
        let (number, _) = self.primary().filter(|_| restored && newest.status == "ROLLBACK_SUCCESSFUL")?;
        Some(&self.facts.definitions[number].0)
    }

    fn rollback_failed(&self) -> Result<(), String> {
        self.failed(self.facts.now)?;
        let newest = self.facts.newest(self.seen).ok_or("there is no deployment")?;
        let restored = newest.by == Party::Ours && newest.image != self.facts.image;
        ensure(restored || newest.status != "ROLLBACK_SUCCESSFUL", "ECS rolled back")?;
        let returned = self.returned_from_restore();
        ensure(
            returned != Some(newest.definition),
            "the previous revision was restored, and ECS returned to it",
        )?;
        let tasks_failed = || self.facts.tasks_of(newest.number).filter(|task| is_failed(task)).count() >= 1;
        ensure(!restored || newest.status != "SUCCESSFUL", "the previous revision was restored")?;
        let rejected = self.facts.requests.iter().any(|request| {
            seconds(request.at) >= self.began()
                && request.operation == "ecs:UpdateService"
                && (fault_of(request) == Some("denied") || request.status == Some(400))
        });
        let gave_up = newest.status == "ROLLBACK_FAILED"
            || returned.is_some()
            || (restored && tasks_failed())
            || rejected;
        ensure(gave_up, "the rollback did not fail")
    }

    fn failed_in_place(&self) -> Result<(), String> {
        self.failed(self.facts.now)?;
        let (_, image) = self.primary().ok_or("there is no primary revision")?;
        ensure(image == self.facts.image, "the failed revision is not in place")?;
        let began = self.facts.deployments().find(|d| d.image == self.facts.image).map(|d| d.definition);
        let is_same =
            self.facts.deployments().all(|d| Some(d.definition) == began || d.created < self.began());
        ensure(self.facts.policy.leaves_failures || is_same, "it should have been rolled back")?;
        let stops = self.facts.changes("ecs:StopServiceDeployment").len();
        ensure(stops == 0, "it was stopped, but is reported as left in place")
    }

    fn unobserved(&self) -> Result<(), String> {
        let facts = self.facts;
        let last = facts.requests.last().ok_or("there was no request")?;
        ensure(fault_of(last).is_some(), "the last request was answered")?;
        // Only the last one: the result of an earlier one is known when a later one is answered.
        let mut updates =
            facts.requests.iter().rev().filter(|request| request.operation == "ecs:UpdateService");
        let is_unclear = updates.next().is_some_and(|request| {
            matches!(fault_of(request), Some("lost answer" | "reset" | "5xx" | "answer cut"))
        });
        if is_unclear {
            return Ok(());
        }
        let polls = ["ecs:DescribeServiceDeployments", "ecs:ListServiceDeployments"];
        let polled = facts.last_answer(&polls).unwrap_or(facts.start).max(self.began());
        let is_blind = facts.now - polled >= GRACE - ROUNDING;
        ensure(is_blind || self.is_late(facts.now), "it was observed a moment ago")
    }

    fn error(&self, class: ErrorClass) -> Result<(), String> {
        let changed = self.facts.deployments().any(|deployment| deployment.by == Party::Ours);
        ensure(!changed, "a deployment was started")?;
        let has_fault = self.facts.requests.last().is_some_and(|last| fault_of(last).is_some());
        match class {
            ErrorClass::Unavailable => ensure(has_fault, "the last request was answered"),
            ErrorClass::Refused => {
                let mut others = self
                    .facts
                    .deployments()
                    .filter(|d| d.image != self.facts.image || self.facts.policy.in_flight == Other::Fail);
                let conflict = others.any(|d| !d.is_over() || d.by == Party::Other);
                ensure(conflict || self.facts.did_others("deleted", self.facts.now), "nothing conflicts")
            }
            other => Err(format!("of an unexpected class, {other:?}")),
        }
    }

    /// Whether every change was made once, in time and with a reason.
    fn changes(&self) -> Result<(), String> {
        let facts = self.facts;
        let ours = || facts.deployments().filter(|deployment| deployment.by == Party::Ours);
        let (new, old): (Vec<_>, Vec<_>) = ours().partition(|deployment| deployment.image == facts.image);
        ensure(new.len() <= 1, "our definition was deployed twice")?;
        ensure(old.len() <= 1, "the rollback was started twice")?;
        for restore in &old {
            self.failed(restore.created)
                .map_err(|why| format!("the previous revision was deployed: {why}"))?;
        }
        for stop in facts.changes("ecs:StopServiceDeployment") {
            self.failed(stop).map_err(|why| format!("the deployment was stopped: {why}"))?;
            self.not_taken_over(stop, false).map_err(|why| format!("the deployment was stopped: {why}"))?;
        }
        for (at, update) in ours().enumerate() {
            self.not_taken_over(update.created, at == 0 && update.image == facts.image)
                .map_err(|why| format!("{} was deployed: {why}", update.definition))?;
        }
        Ok(())
    }

    /// Whether no other client's deployment had been visible before a change. `first`: our own deployment, to which the
    /// policy for others applies.
    fn not_taken_over(&self, at: f64, first: bool) -> Result<(), String> {
        let newest = self.facts.deployments().rev().find(|deployment| deployment.created < at);
        let Some(newest) = newest.filter(|d| d.by == Party::Other && d.image != self.facts.image) else {
            return Ok(());
        };
        let is_allowed = first
            && match self.facts.policy.in_flight {
                Other::Supersede => true,
                Other::Wait => newest.finished.is_some_and(|finished| finished <= at),
                Other::Fail | Other::AdoptIfSame => false,
            };
        let age = at - newest.created;
        ensure(
            is_allowed || age < POLL,
            &format!("{age:.1} s after another client's deployment of {}", newest.definition),
        )
    }
}
