//! Job controller: runs pods to completion, within the backoff limit and the active deadline.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    pods::{self, NewPod},
    store::{Key, Object, seconds},
    world::{World, condition, condition_of, number, suffix},
};

const SOURCE: &str = "job-controller";
/// The delay before a failed pod is replaced; doubled for each failure.
const BACK_OFF: Duration = Duration::from_secs(10);

pub(super) fn sync(world: &mut World, job: &Object) {
    let metadata = &job["metadata"];
    let (namespace, name) =
        (metadata["namespace"].as_str().unwrap_or_default(), metadata["name"].as_str().unwrap_or_default());
    let key = Key::new("jobs", namespace, name);
    let ended = |kind: &str| condition_of(&job["status"], kind)["status"] == "True";
    if ended("Complete") || ended("Failed") {
        return;
    }
    let now = world.now;
    let all = world.controlled_by("pods", namespace, &metadata["uid"]);
    let phase = |wanted: &str| all.iter().filter(|pod| pod["status"]["phase"] == wanted).count() as i64;
    let (succeeded, failed) = (phase("Succeeded"), phase("Failed"));
    let active: Vec<&Object> =
        all.iter().filter(|pod| !pods::is_finished(pod) && !pods::is_terminating(pod)).collect();
    let spec = &job["spec"];
    let (completions, parallelism) =
        (number(&spec["completions"]).max(1), number(&spec["parallelism"]).max(1));
    let started =
        job["status"]["startTime"].as_str().and_then(|at| at.parse::<Timestamp>().ok()).unwrap_or(now);
    let end = spec["activeDeadlineSeconds"].as_u64().map(|allowed| started + Duration::from_secs(allowed));

    let outcome = match () {
        () if succeeded >= completions => {
            Some(("Complete", "CompletionsReached", "Reached expected number of succeeded pods"))
        }
        () if end.is_some_and(|end| end <= now) => {
            Some(("Failed", "DeadlineExceeded", "Job was active longer than specified deadline"))
        }
        () if too_many(job, failed, &active) => {
            Some(("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"))
        }
        () => None,
    };
    let mut left = active.len() as i64;
    if let Some((kind, reason, message)) = outcome {
        for pod in &active {
            world.delete(&pods::key(pod));
        }
        left = 0;
        world.update(&key, |job| {
            let target = if kind == "Complete" { "SuccessCriteriaMet" } else { "FailureTarget" };
            for kind in [target, kind] {
                condition(&mut job["status"], kind, "True", reason, message, now);
            }
        });
        let (kind, event) = if kind == "Complete" { ("Normal", "Completed") } else { ("Warning", reason) };
        world.event(job, SOURCE, kind, event, message);
    } else if spec["suspend"] != true {
        let due =
            last_failure(&all).map_or(now, |at| at + BACK_OFF * 2_u32.pow(failed.clamp(1, 6) as u32 - 1));
        if due > now {
            world.wake_at(due);
        } else {
            let lacking = (parallelism.min(completions - succeeded) - left).max(0);
            left += (0..lacking).filter(|_| create_pod(world, job, name)).count() as i64;
        }
        end.into_iter().for_each(|end| world.wake_at(end));
    }
    world.update(&key, |job| {
        let status = &mut job["status"];
        status["startTime"] = json!(seconds(started));
        for (field, count) in [("active", left), ("succeeded", succeeded), ("failed", failed)] {
            status[field] = json!(count);
        }
    });
}

/// Whether the backoff limit is exceeded, by failed pods or, with `restartPolicy: OnFailure`, by container restarts.
fn too_many(job: &Value, failed: i64, active: &[&Object]) -> bool {
    let limit = number(&job["spec"]["backoffLimit"]);
    let restarts = |pod: &Object| -> i64 {
        let statuses = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
        statuses.map(|status| number(&status["restartCount"])).sum()
    };
    let restarted: i64 = active.iter().map(|pod| restarts(pod)).sum();
    let in_place = job["spec"]["template"]["spec"]["restartPolicy"] == "OnFailure";
    failed > limit || in_place && restarted > 0 && restarted >= limit
}

fn last_failure(pods: &[Object]) -> Option<Timestamp> {
    let failed = pods.iter().filter(|pod| pod["status"]["phase"] == "Failed");
    let ended = |pod: &Object| {
        let statuses = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
        statuses.filter_map(|s| s["state"]["terminated"]["finishedAt"].as_str()?.parse().ok()).max()
    };
    failed.filter_map(ended).max()
}

fn create_pod(world: &mut World, job: &Object, name: &str) -> bool {
    let prefix = format!("{name}-");
    let new = NewPod { name: format!("{prefix}{}", suffix()), prefix: Some(prefix), labels: &[], node: None };
    pods::create(world, job, SOURCE, new, "Error creating").is_ok()
}
