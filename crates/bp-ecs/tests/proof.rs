//! Proof of the running digests: with a mocked transport whose responses follow a recorded timeline, and in the
//! sandbox.

mod common;

use std::time::Duration;

use aws_smithy_runtime_api::shared::IntoShared;
use bp_artifact::{Digest, Outcome, ResolvedImage, Verdict, deploy::DeployEvent, resolve::PlatformImage};
use bp_ecs::Cluster;
use common::{
    Shop, options, reference,
    replay::{Elapsed, Replay},
    run,
};
use serde_json::{Value, json};
use tokio::time::Instant;

/// From UpdateService until the service deployment is SUCCESSFUL.
const ROLLOUT: Duration = Duration::from_secs(60);
const ARN: &str = "arn:aws:ecs:eu-central-1:111111111111";

/// The images: the old one and the new one.
fn image(name: &str) -> ResolvedImage {
    let mut image = ResolvedImage::from(reference(Digest::sha256(name).as_str()));
    image.platforms =
        vec![PlatformImage::new("linux/amd64".parse().unwrap(), Digest::sha256(format!("{name} amd64")))];
    image
}

/// How long ECS lists the tasks of the old revision as RUNNING after the deployment is SUCCESSFUL.
fn recorded_drain_time() -> Duration {
    let text = include_str!("recorded/successful-before-drained.json");
    let recording: Value = serde_json::from_str(text).unwrap();
    let seconds = |event: &str| {
        let time: jiff::civil::Time = recording["data"][event].as_str().unwrap().parse().unwrap();
        time.duration_since(jiff::civil::Time::midnight()).as_secs()
    };
    Duration::from_secs((seconds("rolloutState COMPLETED") - seconds("SUCCESSFUL")).try_into().unwrap())
}

/// The tasks listed as RUNNING at a time after the service deployment was SUCCESSFUL.
type Tasks = fn(Duration) -> Vec<Value>;

/// A task of the deployment `by` that runs the image `name`.
fn task(id: &str, by: &str, name: &str) -> Value {
    json!({
        "taskArn": format!("{ARN}:task/shop/{id}"),
        "taskDefinitionArn": format!("{ARN}:task-definition/web:{}", if name == "old" { 1 } else { 2 }),
        "startedBy": by,
        "lastStatus": "RUNNING",
        "desiredStatus": "RUNNING",
        "containers": [{
            "name": "web", "lastStatus": "RUNNING", "imageDigest": Digest::sha256(format!("{name} amd64")),
        }],
    })
}

/// The timeline of the recording: tasks of both revisions until the old ones have stopped.
fn both(since: Duration) -> Vec<Value> {
    let mut tasks = vec![task("n1", "ecs-svc/200", "new"), task("n2", "ecs-svc/200", "new")];
    if since < recorded_drain_time() {
        tasks.extend([task("o1", "ecs-svc/100", "old"), task("o2", "ecs-svc/100", "old")]);
    }
    tasks
}

/// A service of two tasks.
#[derive(Debug, Clone)]
struct Scene {
    tasks: Tasks,
    /// The final status of the service deployment.
    end: &'static str,
}

impl Scene {
    fn new(tasks: Tasks) -> Self {
        Scene { tasks, end: "SUCCESSFUL" }
    }

    async fn deploy(self, image: &ResolvedImage) -> (Vec<DeployEvent>, Outcome) {
        let shop = Shop::new();
        let replay = Replay::new(move |elapsed, operation, input| self.respond(elapsed, operation, input));
        let client = shop.client_over(replay.into_shared());
        let (events, outcome) =
            run(Cluster::new(client, "shop").service("web", options()).container("web").deploy(image)).await;
        (events, outcome.unwrap())
    }

    fn respond(&self, elapsed: Elapsed, operation: &str, input: &Value) -> Value {
        let since = elapsed.and_then(|elapsed| elapsed.checked_sub(ROLLOUT));
        let ended = since.is_some();
        let definition = |name: &str, revision: u32| {
            json!({
                "taskDefinitionArn": format!("{ARN}:task-definition/web:{revision}"),
                "family": "web", "revision": revision, "status": "ACTIVE",
                "containerDefinitions": [{ "name": "web", "image": image(name).reference.to_string() }],
            })
        };
        match operation {
            "DescribeServices" | "UpdateService" => {
                let service = self.service(elapsed);
                json!({ "services": [service.clone()], "service": service })
            }
            "DescribeTaskDefinition" => {
                let old = elapsed.is_none() || input["taskDefinition"].as_str().unwrap().ends_with("web:1");
                json!({ "taskDefinition": if old { definition("old", 1) } else { definition("new", 2) } })
            }
            "RegisterTaskDefinition" => json!({ "taskDefinition": definition("new", 2) }),
            "ListServiceDeployments" => {
                let listed = elapsed.is_some() && (input["status"].is_null() || !ended);
                json!({ "serviceDeployments": if listed { vec![self.deployment(ended)] } else { vec![] } })
            }
            "DescribeServiceDeployments" => json!({ "serviceDeployments": [self.deployment(ended)] }),
            "DescribeServiceRevisions" => {
                let old = input["serviceRevisionArns"][0].as_str().unwrap().ends_with("/100");
                let name = if old { "old" } else { "new" };
                json!({ "serviceRevisions": [{
                    "serviceRevisionArn": input["serviceRevisionArns"][0],
                    "taskDefinition": format!("{ARN}:task-definition/web:{}", if old { 1 } else { 2 }),
                    "containerImages": [{ "containerName": "web", "imageDigest": Digest::sha256(name) }],
                }] })
            }
            "ListTasks" if input["desiredStatus"] == "STOPPED" => json!({ "taskArns": [] }),
            "ListTasks" => {
                let tasks = (self.tasks)(since.unwrap_or_default());
                json!({ "taskArns": tasks.iter().map(|task| task["taskArn"].clone()).collect::<Vec<_>>() })
            }
            "DescribeTasks" => json!({ "tasks": (self.tasks)(since.unwrap_or_default()) }),
            other => panic!("unexpected operation {other}"),
        }
    }

    fn service(&self, elapsed: Option<Duration>) -> Value {
        let deployment = |number: u32, status: &str, state: &str, desired: u32| {
            json!({
                "id": format!("ecs-svc/{number}"), "status": status, "rolloutState": state,
                "taskDefinition": format!("{ARN}:task-definition/web:{}", number / 100),
                "desiredCount": desired, "runningCount": 2, "pendingCount": 0, "failedTasks": 0,
                "createdAt": 1_700_000_000 + number,
            })
        };
        let drained = elapsed.is_some_and(|elapsed| elapsed >= ROLLOUT + recorded_drain_time());
        let deployments = match (elapsed, drained) {
            (None, _) => vec![deployment(100, "PRIMARY", "COMPLETED", 2)],
            (Some(elapsed), _) if self.end != "SUCCESSFUL" && elapsed >= ROLLOUT => {
                vec![deployment(100, "PRIMARY", "IN_PROGRESS", 2), deployment(200, "ACTIVE", "FAILED", 0)]
            }
            (Some(_), true) => vec![deployment(200, "PRIMARY", "COMPLETED", 2)],
            (Some(_), false) => {
                vec![deployment(200, "PRIMARY", "IN_PROGRESS", 2), deployment(100, "ACTIVE", "COMPLETED", 2)]
            }
        };
        let revision = |number: u32| json!({ "arn": format!("{ARN}:service-revision/shop/web/{number}") });
        json!({
            "serviceArn": format!("{ARN}:service/shop/web"), "serviceName": "web", "status": "ACTIVE",
            "desiredCount": 2, "runningCount": 2, "pendingCount": 0,
            "taskDefinition": deployments[0]["taskDefinition"],
            "deploymentConfiguration": { "maximumPercent": 200, "minimumHealthyPercent": 100 },
            "deployments": deployments, "events": [],
            "currentServiceRevisions": [revision(200), revision(100)],
        })
    }

    fn deployment(&self, ended: bool) -> Value {
        json!({
            "serviceDeploymentArn": format!("{ARN}:service-deployment/shop/web/x"),
            "createdAt": 1_700_000_200,
            "status": if ended { self.end } else { "IN_PROGRESS" },
            "statusReason": "because",
            "targetServiceRevisionArn": format!("{ARN}:service-revision/shop/web/200"),
            "targetServiceRevision": { "arn": format!("{ARN}:service-revision/shop/web/200") },
        })
    }
}

fn units(outcome: &Outcome) -> Vec<&str> {
    outcome.proof.observations.iter().map(|seen| seen.unit.as_str()).collect()
}

fn notices(events: &[DeployEvent]) -> Vec<&str> {
    let mut notices = Vec::new();
    for event in events {
        if let DeployEvent::Notice { message, .. } = event {
            notices.push(message.as_str());
        }
    }
    notices
}

#[tokio::test(start_paused = true)]
async fn a_successful_deployment_is_deployed_while_old_tasks_drain() {
    let start = Instant::now();
    let (events, outcome) = Scene::new(both).deploy(&image("new")).await;
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:#?}");
    assert_eq!(units(&outcome), ["service-revision/200", "task/n1", "task/n2"]);
    assert!(start.elapsed() < ROLLOUT + Duration::from_secs(20), "does not wait for the old tasks");
    // Reported, not judged.
    assert!(outcome.detail.contains("2 tasks of earlier deployments"), "{}", outcome.detail);
    assert!(notices(&events).iter().any(|n| n.contains("2 tasks of earlier deployments")), "{events:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_foreign_digest_in_a_task_is_a_mismatch() {
    let tasks = |since| {
        let mut tasks = both(since);
        tasks[1] = task("n2", "ecs-svc/200", "other");
        tasks
    };
    let (_, outcome) = Scene::new(tasks).deploy(&image("new")).await;
    assert_eq!(outcome.verdict(), Verdict::DigestMismatch);
}

#[tokio::test(start_paused = true)]
async fn waits_for_tasks_that_are_not_listed_yet() {
    let nothing: Tasks = |since| if since < Duration::from_secs(10) { vec![] } else { both(since) };
    let only_old: Tasks = |since| {
        let listed = both(since);
        if since < Duration::from_secs(10) { listed[2..].to_vec() } else { listed }
    };
    let one_of_two: Tasks = |since| {
        let mut listed = both(since);
        if since < Duration::from_secs(10) {
            listed[1]["lastStatus"] = json!("PENDING");
        }
        listed
    };
    let no_digest: Tasks = |since| {
        let mut listed = both(since);
        if since < Duration::from_secs(10) {
            listed[1]["containers"][0].as_object_mut().unwrap().remove("imageDigest");
        }
        listed
    };
    for tasks in [nothing, only_old, one_of_two, no_digest] {
        let (_, outcome) = Scene::new(tasks).deploy(&image("new")).await;
        assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:#?}");
        assert_eq!(units(&outcome), ["service-revision/200", "task/n1", "task/n2"]);
    }
}

#[tokio::test(start_paused = true)]
async fn tasks_that_are_never_listed_are_unproven() {
    let start = Instant::now();
    let only_old: Tasks = |since| both(since).split_off(2);
    let (_, outcome) = Scene::new(only_old).deploy(&image("new")).await;
    assert_eq!(outcome.verdict(), Verdict::Unproven);
    assert!(outcome.proof.is_empty(), "{outcome:#?}");
    assert!(outcome.detail.contains("0 of 2 tasks of ecs-svc/200"), "{}", outcome.detail);
    let waited = start.elapsed() - ROLLOUT;
    assert!((20..60).contains(&waited.as_secs()), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn assigns_tasks_without_started_by_by_their_definition() {
    let tasks: Tasks = |since| {
        let mut tasks = both(since);
        for task in &mut tasks {
            task.as_object_mut().unwrap().remove("startedBy");
        }
        tasks
    };
    let (_, outcome) = Scene::new(tasks).deploy(&image("new")).await;
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:#?}");
    assert_eq!(outcome.proof.observations.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn reports_the_tasks_of_the_restored_deployment_after_a_rollback() {
    let scene = Scene { end: "ROLLBACK_SUCCESSFUL", ..Scene::new(both) };
    let (_, outcome) = scene.deploy(&image("new")).await;
    assert_eq!(outcome.verdict(), Verdict::RolledBack);
    assert_eq!(units(&outcome), ["service-revision/100", "task/o1", "task/o2"]);
}

#[tokio::test(start_paused = true)]
async fn no_deployment_is_in_progress_while_old_tasks_drain() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    let (two, three) = (shop.image("2"), shop.image("3"));
    assert_eq!(shop.target().deploy(&two).await.unwrap().verdict(), Verdict::Deployed);
    let state = |shop: &Shop| shop.service().view()["deployments"][0]["rolloutState"].clone();
    assert_eq!(state(&shop), "IN_PROGRESS", "SUCCESSFUL comes first");

    let current = shop.target().current().await.unwrap();
    assert!(current.rolling_out.is_none() && current.stable.id.ends_with("web:2"), "{current:?}");
    let again = shop.target().deploy(&two).await.unwrap();
    assert_eq!((again.verdict(), again.changed), (Verdict::Deployed, false));
    assert!(again.detail.contains("2 tasks of earlier deployments"), "{}", again.detail);
    let proof = shop.target().prove().await.unwrap();
    assert_eq!((proof.judge(&two), proof.observations.len()), (Verdict::Deployed, 3));
    let drift = shop.target().drift(&two).await.unwrap();
    assert_eq!(drift.verdict, Verdict::Deployed);
    let changes: Vec<_> = drift.changes().map(ToString::to_string).collect();
    assert!(
        changes.iter().all(|change| change.contains("unningCount") || change.contains("earlier")),
        "{changes:?}"
    );

    // The next image is deployed in spite of the old tasks.
    let outcome = shop.target().deploy(&three).await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed);
    assert!(outcome.previous.unwrap().id.ends_with("web:2"));
    assert_eq!(shop.calls("ecs:UpdateService"), 2);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(state(&shop), "COMPLETED");
    assert!(shop.target().drift(&three).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn prove_judges_every_task_during_a_rollout() {
    let shop = Shop::new();
    let one = shop.image("1");
    shop.web(&one).create();
    let two = shop.image_that("2", bp_sandbox::Behaviour::Healthy(Duration::from_secs(60)));
    let deployment = shop.target().deploy(&two);
    tokio::time::sleep(Duration::from_secs(30)).await;
    let proof = shop.target().prove().await.unwrap();
    assert_eq!(proof.judge(&two), Verdict::DigestMismatch, "old tasks still serve");
    assert_eq!(deployment.await.unwrap().verdict(), Verdict::Deployed);
}
