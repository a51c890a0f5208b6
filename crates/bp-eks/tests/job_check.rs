//! Checks that run a Job, on the sandbox in memory with a paused clock.

mod common;

use std::time::Duration;

use bp_artifact::{
    check::{Check as _, CheckVerdict},
    time::Wait,
};
use bp_eks::check::{JobCheck, JobTemplate, ManifestError};
use bp_sandbox::{Behaviour, Effect, Fault};
use serde_json::{Value, json};

use common::{World, crash};

fn wait() -> Wait {
    Wait::new(Duration::from_secs(120), Duration::from_secs(2)).unwrap()
}

/// A manifest of a Job `smoke`, whose only container has this behaviour.
fn smoke(world: &World, behaviour: Behaviour, spec: Value) -> Value {
    let image = world.image("smoke", behaviour).reference.to_string();
    let mut job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "smoke", "namespace": "prod" },
        "spec": { "backoffLimit": 0, "template": { "spec": {
            "restartPolicy": "Never", "containers": [{ "name": "web", "image": image }],
        } } },
    });
    for (field, value) in spec.as_object().unwrap() {
        job["spec"][field] = value.clone();
    }
    job
}

fn check(world: &World, job: Value) -> JobCheck {
    let template = JobTemplate::Manifest(Box::new(serde_json::from_value(job).unwrap()));
    world.namespace().job_check(template, wait())
}

fn passes() -> Behaviour {
    Behaviour::Exits { after: Duration::from_secs(5), code: 0, log: vec!["ok".to_owned()] }
}

fn reason(verdict: CheckVerdict) -> (bool, String) {
    match verdict {
        CheckVerdict::Failed { reason } => (true, reason),
        CheckVerdict::Unobserved { reason } => (false, reason),
        other => panic!("{other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_completes_passes_and_is_deleted() {
    let world = World::new().await;
    let check = check(&world, smoke(&world, passes(), json!({})));
    assert_eq!(check.name(), "eks/shop/prod/job/smoke");
    assert_eq!(check.attempt().await, CheckVerdict::Passed);
    assert!(world.cluster.objects("jobs", "prod").is_empty());
    assert_eq!(check.attempt().await, CheckVerdict::Passed, "each attempt creates a new Job");
    assert_eq!(world.sandbox.ledger().count_of("create jobs"), 2);
}

#[tokio::test(start_paused = true)]
async fn failed_job_reports_exit_code_and_log_and_is_kept() {
    let world = World::new().await;
    let verdict = check(&world, smoke(&world, crash(), json!({}))).attempt().await;
    let (failed, reason) = reason(verdict);
    assert!(failed, "{reason}");
    for part in
        ["job/smoke-", "BackoffLimitExceeded", "container web, exit code 3: booting | fatal: no DATABASE_URL"]
    {
        assert!(reason.contains(part), "{part}: {reason}");
    }
    let jobs = world.cluster.objects("jobs", "prod");
    assert_eq!((jobs.len(), &jobs[0]["spec"]["ttlSecondsAfterFinished"]), (1, &json!(3600)));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_does_not_end_fails_at_the_deadline_and_is_deleted() {
    let world = World::new().await;
    let start = tokio::time::Instant::now();
    let verdict = check(&world, smoke(&world, Behaviour::default(), json!({}))).attempt().await;
    let (failed, reason) = reason(verdict);
    assert!(failed && reason.contains("did not end within 120s"), "{reason}");
    assert_eq!(start.elapsed().as_secs(), 120);
    assert!(world.cluster.objects("jobs", "prod").is_empty());
}

#[tokio::test(start_paused = true)]
async fn job_that_never_starts_is_unobserved() {
    let world = World::new().await;
    let mut job = smoke(&world, passes(), json!({}));
    job["spec"]["template"]["spec"]["containers"][0]["image"] =
        json!(format!("{}:none", world.first.reference.repository()));
    let (failed, reason) = reason(check(&world, job).attempt().await);
    assert!(!failed && reason.contains("no container started"), "{reason}");
    assert!(world.cluster.objects("jobs", "prod").is_empty());
}

#[tokio::test(start_paused = true)]
async fn unreachable_api_is_unobserved() {
    let forbidden = |world: &World| world.cluster.deny("create", "jobs");
    let down = |world: &World| {
        let answer = Effect::Answer { status: 503, headers: Vec::new(), body: String::new() };
        world.sandbox.faults().inject(Fault::new(answer).on("get jobs").times(u32::MAX));
    };
    for (break_it, said) in [(&forbidden as &dyn Fn(&World), "\"create\" on jobs.batch"), (&down, "get jobs")]
    {
        let world = World::new().await;
        let check = check(&world, smoke(&world, passes(), json!({})));
        break_it(&world);
        let (failed, reason) = reason(check.attempt().await);
        assert!(!failed && reason.contains(said), "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn tolerates_a_short_outage() {
    let world = World::new().await;
    let answer = Effect::Answer { status: 500, headers: Vec::new(), body: String::new() };
    world.sandbox.faults().inject(Fault::new(answer).on("get jobs").times(3));
    let verdict = check(&world, smoke(&world, passes(), json!({}))).attempt().await;
    assert_eq!(verdict, CheckVerdict::Passed);
}

#[tokio::test(start_paused = true)]
async fn existing_job_is_the_template_and_is_not_changed() {
    let world = World::new().await;
    world.cluster.create(smoke(&world, passes(), json!({ "suspend": true, "ttlSecondsAfterFinished": 60 })));
    let spec = |world: &World| world.cluster.object("jobs", "prod", "smoke").unwrap()["spec"].clone();
    let before = spec(&world);
    let check = world.namespace().job_check(JobTemplate::Existing("smoke".to_owned()), wait());
    assert_eq!(check.attempt().await, CheckVerdict::Passed);
    assert_eq!(spec(&world), before);
    let none = world.namespace().job_check(JobTemplate::Existing("none".to_owned()), wait());
    let (failed, reason) = reason(none.attempt().await);
    assert!(!failed && reason.contains("job/none does not exist"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn job_of_a_dropped_attempt_ends_and_is_removed() {
    let world = World::new().await;
    let check = check(&world, smoke(&world, Behaviour::default(), json!({})));
    let dropped = tokio::time::timeout(Duration::from_secs(10), check.attempt()).await;
    assert!(dropped.is_err());
    let jobs = world.cluster.objects("jobs", "prod");
    assert_eq!(jobs[0]["spec"]["activeDeadlineSeconds"], 180);
    assert_eq!(jobs[0]["spec"]["ttlSecondsAfterFinished"], 3600);
    tokio::time::sleep(Duration::from_secs(200)).await;
    let pods = world.cluster.objects("pods", "prod");
    assert!(pods.iter().all(|pod| pod["metadata"]["labels"]["app"] == "web"), "no pod is left running");
}

#[test]
fn reads_a_manifest_and_rejects_other_objects() {
    let good = "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: smoke\nspec:\n  backoffLimit: 2\n  template: {}\n";
    let JobTemplate::Manifest(job) = JobTemplate::from_yaml(good).unwrap() else { panic!() };
    assert_eq!(job.spec.unwrap().backoff_limit, Some(2));
    for (from, to, message) in [
        (
            "kind: Job",
            "kind: CronJob",
            "expected apiVersion batch/v1 and kind Job, found apiVersion batch/v1 and kind CronJob",
        ),
        ("kind: Job", "", "found apiVersion batch/v1 and kind none"),
        ("  name: smoke", "  labels: {}", "has no metadata.name"),
        ("backoffLimit: 2", "backoffLimit: two", "the manifest is not a valid Job"),
        ("kind: Job", "kind: [", "the manifest is not a valid Job"),
        ("template: {}", "template: {}\n---\nkind: Pod", "the manifest is not a valid Job"),
        (good, "", "the manifest is not a"),
    ] {
        assert!(good.contains(from));
        let error: ManifestError = JobTemplate::from_yaml(&good.replacen(from, to, 1)).unwrap_err();
        assert!(error.to_string().contains(message), "{from} -> {to}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_job_is_not_run_again() {
    let world = World::new().await;
    let check = check(&world, smoke(&world, crash(), json!({})));
    let report = bp_artifact::check::check_until(&check, wait()).await;
    assert!(matches!(report.verdict, CheckVerdict::Failed { .. }), "{report}");
    assert_eq!((report.attempts, world.sandbox.ledger().count_of("create jobs")), (1, 1));
}
