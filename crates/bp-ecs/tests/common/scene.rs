//! A service whose deployment follows a timeline, over a mocked transport.

use std::time::Duration;

use aws_smithy_runtime_api::shared::IntoShared;
use bp_artifact::{Digest, Outcome, ResolvedImage, deploy::DeployEvent};
use bp_ecs::{Cluster, EcsTarget, Options};
use serde_json::{Value, json};

use super::{
    HOST, Shop, reference,
    replay::{Elapsed, Replay},
    run,
};

pub(crate) const ARN: &str = "arn:aws:ecs:eu-central-1:111111111111";
/// When the old deployment was created, in Unix seconds.
pub(crate) const THEN: u64 = 1_786_000_000;
/// When UpdateService is called.
pub(crate) const NOW: u64 = 1_787_000_000;

pub(crate) fn image(name: &str) -> ResolvedImage {
    ResolvedImage::from(reference(Digest::sha256(name).as_str()))
}

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What ECS shows at a time since UpdateService.
#[derive(Clone)]
pub(crate) struct Scene {
    /// Deployments of the service: ours is `ecs-svc/200`.
    pub(crate) deployments: fn(Duration) -> Vec<Value>,
    /// Our service deployment; `None` until it is listed.
    pub(crate) deployment: fn(Duration) -> Option<Value>,
    /// Events, newest first, besides those of earlier deployments.
    pub(crate) events: fn(Duration) -> Vec<Value>,
    pub(crate) stopped: fn(Duration) -> Vec<Value>,
    pub(crate) running: fn(Duration) -> Vec<Value>,
    pub(crate) desired: u32,
    /// Members of the service besides those of the timeline.
    pub(crate) settings: Value,
    /// The service revision of ours.
    pub(crate) revision: Value,
}

impl Default for Scene {
    fn default() -> Self {
        Scene {
            deployments: |_| vec![ours("PRIMARY", "IN_PROGRESS", 0, 0), old("ACTIVE", "COMPLETED", 1)],
            deployment: |_| Some(service_deployment("IN_PROGRESS", json!({}))),
            events: |_| vec![],
            stopped: |_| vec![],
            running: |_| vec![],
            desired: 1,
            settings: json!({}),
            revision: json!({}),
        }
    }
}

pub(crate) fn old(status: &str, state: &str, running: u32) -> Value {
    json!({
        "id": "ecs-svc/100", "status": status, "rolloutState": state, "taskDefinition": format!("{ARN}:task-definition/web:1"),
        "desiredCount": running, "runningCount": running, "pendingCount": 0, "failedTasks": 0, "createdAt": THEN,
        "rolloutStateReason": format!("ECS deployment ecs-svc/100 {}.", if state == "COMPLETED" { "completed" } else { "in progress" }),
    })
}

pub(crate) fn ours(status: &str, state: &str, running: u32, failed: u32) -> Value {
    json!({
        "id": "ecs-svc/200", "status": status, "rolloutState": state, "taskDefinition": format!("{ARN}:task-definition/web:2"),
        "desiredCount": running, "runningCount": running, "pendingCount": 0, "failedTasks": failed, "createdAt": NOW,
        "rolloutStateReason": if state == "FAILED" { "ECS deployment circuit breaker: tasks failed to start." } else { "ECS deployment ecs-svc/200 in progress." },
    })
}

pub(crate) fn service_deployment(status: &str, more: Value) -> Value {
    let mut deployment = json!({
        "serviceDeploymentArn": format!("{ARN}:service-deployment/shop/web/ours"),
        "createdAt": NOW, "status": status,
        "targetServiceRevisionArn": format!("{ARN}:service-revision/shop/web/200"),
        "targetServiceRevision": { "arn": format!("{ARN}:service-revision/shop/web/200") },
    });
    deployment.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    deployment
}

pub(crate) fn event(at: u64, message: &str) -> Value {
    json!({ "id": format!("{at}"), "createdAt": at, "message": message })
}

/// Our task that could not pull its image.
pub(crate) fn cannot_pull(number: u32) -> Value {
    json!({
        "taskArn": format!("{ARN}:task/shop/failed{number}"), "startedBy": "ecs-svc/200", "lastStatus": "STOPPED",
        "desiredStatus": "STOPPED", "stopCode": "TaskFailedToStart",
        "stoppedReason": format!("CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to \
            resolve ref {}/shop/web:imagen-rota-test: {}/shop/web:imagen-rota-test: not found", HOST, HOST),
        "containers": [{ "name": "web", "lastStatus": "STOPPED", "image": image("new").reference.to_string() }],
    })
}

/// One of our tasks that runs.
pub(crate) fn running(number: u32) -> Value {
    json!({
        "taskArn": format!("{ARN}:task/shop/running{number}"), "startedBy": "ecs-svc/200", "lastStatus": "RUNNING",
        "desiredStatus": "RUNNING",
        "containers": [{ "name": "web", "lastStatus": "RUNNING", "imageDigest": Digest::sha256("new") }],
    })
}

impl Scene {
    /// The service as a target, and the transport.
    pub(crate) fn target(self, options: Options) -> (EcsTarget, Replay) {
        self.target_with(options, |_, _| {})
    }

    /// As [`target`](Self::target), and shows every request to `see`.
    pub(crate) fn target_with(
        self,
        options: Options,
        see: impl Fn(&str, &Value) + Send + Sync + 'static,
    ) -> (EcsTarget, Replay) {
        let replay = Replay::new(move |elapsed, operation, input| {
            see(operation, input);
            self.respond(elapsed, operation, input)
        });
        let client = Shop::new().client_over(replay.clone().into_shared());
        (Cluster::new(client, "shop").service("web", options).container("web"), replay)
    }

    pub(crate) async fn deploy(self, options: Options) -> (Vec<DeployEvent>, Outcome, Replay) {
        let (target, replay) = self.target(options);
        let (events, outcome) = run(target.deploy(&image("new"))).await;
        (events, outcome.unwrap(), replay)
    }

    fn respond(&self, elapsed: Elapsed, operation: &str, input: &Value) -> Value {
        let definition = |name: &str, revision: u32| {
            json!({
                "taskDefinitionArn": format!("{ARN}:task-definition/web:{revision}"),
                "family": "web", "revision": revision, "status": "ACTIVE",
                "containerDefinitions": [{
                    "name": "web", "image": image(name).reference.to_string(),
                    "logConfiguration": { "logDriver": "awslogs", "options": {
                        "awslogs-group": "/shop/web", "awslogs-stream-prefix": "app", "awslogs-region": "eu-central-1",
                    } },
                }],
            })
        };
        let at = elapsed.unwrap_or_default();
        match operation {
            "DescribeServices" | "UpdateService" => {
                let service = self.service(elapsed);
                json!({ "services": [service.clone()], "service": service })
            }
            "DescribeTaskDefinition" => {
                let is_new =
                    elapsed.is_some() && !input["taskDefinition"].as_str().unwrap().ends_with("web:1");
                json!({ "taskDefinition": if is_new { definition("new", 2) } else { definition("old", 1) } })
            }
            "RegisterTaskDefinition" => json!({ "taskDefinition": definition("new", 2) }),
            "ListServiceDeployments" => {
                // Until ECS records ours, the newest one is the previous.
                let previous = json!({
                    "serviceDeploymentArn": format!("{ARN}:service-deployment/shop/web/previous"),
                    "createdAt": THEN, "status": "SUCCESSFUL",
                    "targetServiceRevisionArn": format!("{ARN}:service-revision/shop/web/100"),
                });
                let listed = elapsed.and_then(self.deployment).into_iter().chain([previous]);
                let wanted = input["status"].as_array();
                let is_wanted = |d: &Value| wanted.is_none_or(|wanted| wanted.contains(&d["status"]));
                json!({ "serviceDeployments": listed.filter(is_wanted).collect::<Vec<_>>() })
            }
            "DescribeServiceDeployments" => {
                json!({ "serviceDeployments": (self.deployment)(at).into_iter().collect::<Vec<_>>() })
            }
            "StopServiceDeployment" => json!({ "serviceDeploymentArn": input["serviceDeploymentArn"] }),
            "DescribeServiceRevisions" if self.revision == json!({}) => json!({ "serviceRevisions": [] }),
            "DescribeServiceRevisions" => json!({ "serviceRevisions": [self.revision] }),
            "ListTasks" => {
                let is_stopped = input["desiredStatus"] == "STOPPED";
                let tasks = if is_stopped { (self.stopped)(at) } else { (self.running)(at) };
                json!({ "taskArns": tasks.iter().map(|task| task["taskArn"].clone()).collect::<Vec<_>>() })
            }
            "DescribeTasks" => {
                let asked = input["tasks"].as_array().unwrap();
                let all = (self.stopped)(at).into_iter().chain((self.running)(at));
                json!({ "tasks": all.filter(|task| asked.contains(&task["taskArn"])).collect::<Vec<_>>() })
            }
            other => panic!("unexpected operation {other}"),
        }
    }

    fn service(&self, elapsed: Elapsed) -> Value {
        let deployments = match elapsed {
            None => vec![old("PRIMARY", "COMPLETED", self.desired)],
            Some(elapsed) => (self.deployments)(elapsed),
        };
        let mut events = elapsed.map(self.events).unwrap_or_default();
        // Three weeks old.
        events.push(event(
            THEN,
            "(service web) was unable to place a task. Reason: ResourceInitializationError: unable to pull secrets or \
             registry auth: execution resource retrieval failed: unable to retrieve secret from asm: service call has been \
             retried 1 time(s): ResourceNotFoundException: Secrets Manager can't find the specified secret.",
        ));
        let mut service = json!({
            "serviceArn": format!("{ARN}:service/shop/web"), "serviceName": "web", "status": "ACTIVE",
            "desiredCount": self.desired, "runningCount": self.desired, "pendingCount": 0,
            "taskDefinition": deployments[0]["taskDefinition"],
            "deploymentConfiguration": {
                "maximumPercent": 200, "minimumHealthyPercent": 100,
                "deploymentCircuitBreaker": { "enable": true, "rollback": true },
            },
            "deployments": deployments, "events": events,
        });
        service.as_object_mut().unwrap().extend(self.settings.as_object().unwrap().clone());
        service
    }
}
