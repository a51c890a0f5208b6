//! Tests of failure causes against recorded stop reasons, events and incidents.
//!
//! To add an incident: `docs/ecs-scenarios.md`.

use aws_sdk_ecs::types::{Container, Task, TaskStopCode};
use bp_artifact::{deploy::Cause, recording::Recording};
use serde::Deserialize;
use serde_json::Value;

use super::{diagnose::Stopped, reasons};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoppedTask {
    id: String,
    stop_code: Option<String>,
    stopped_reason: String,
    #[serde(default)]
    containers: Vec<StoppedContainer>,
    want: Cause,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoppedContainer {
    name: String,
    reason: Option<String>,
    exit_code: Option<i32>,
}

#[derive(Deserialize)]
struct Event {
    message: String,
    want: Option<Cause>,
}

/// The text with other accounts, addresses and digests, some of whose digits look like HTTP statuses.
fn variants(text: &str) -> Vec<String> {
    let replaced = |account: &str, digest: &str| {
        let text = text.replace("123456789012", account).replace("88e87b4d1cc2ffaf5cf4b6688cccc0d8", digest);
        text.replace("52.219.41.3", "10.4.0.3").replace("subnet-0123", "subnet-0404429aa")
    };
    vec![
        text.to_owned(),
        replaced("140340142950", "403e40142950ffaf404b6688cccc0d80"),
        replaced("999999999999", "0123456789abcdef0123456789abcdef"),
    ]
}

#[test]
fn classifies_recorded_stopped_tasks() {
    let all: Vec<StoppedTask> =
        serde_json::from_str(include_str!("../../tests/recorded/stopped-tasks.json")).unwrap();
    let mut wrong = Vec::new();
    for recorded in &all {
        for reason in variants(&recorded.stopped_reason) {
            let containers = recorded.containers.iter().map(|c| {
                let reason = c.reason.as_deref().map(|reason| variants(reason).pop().unwrap());
                Container::builder().name(&c.name).set_exit_code(c.exit_code).set_reason(reason).build()
            });
            let task = Task::builder()
                .set_stop_code(recorded.stop_code.as_deref().map(TaskStopCode::from))
                .stopped_reason(&reason)
                .set_containers(Some(containers.collect()))
                .build();
            let cause = Stopped::of(&task, "web").map(|stopped| stopped.cause);
            if cause != Some(recorded.want) {
                wrong.push(format!("{}: {cause:?}, expected {:?}", recorded.id, recorded.want));
            }
        }
    }
    assert!(all.len() >= 20 && wrong.is_empty(), "{wrong:#?}");
}

/// Recordings by `EcsTarget::record`: the cause of the first failed task.
#[test]
fn classifies_recorded_incidents() {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct RecordedTask {
        stop_code: Option<String>,
        stopped_reason: Option<String>,
        #[serde(default)]
        containers: Vec<StoppedContainer>,
    }
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recorded/incidents");
    let mut wrong = Vec::new();
    let mut count = 0;
    for file in std::fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        let recording = Recording::read(&path).unwrap();
        let want: Cause = serde_json::from_value(recording.want.clone()).unwrap();
        let part = |part: &str, pointer: &str| -> Value {
            recording.data.get(part).and_then(|part| part.pointer(pointer)).cloned().unwrap_or_default()
        };
        let container = part("describeTaskDefinition", "/taskDefinition/containerDefinitions/0/name");
        let container = container.as_str().unwrap();
        let tasks: Vec<RecordedTask> = serde_json::from_value(part("stoppedTasks", "/tasks")).unwrap();
        let causes = tasks.iter().filter_map(|task| {
            let containers = task.containers.iter().map(|c| {
                Container::builder()
                    .name(&c.name)
                    .set_exit_code(c.exit_code)
                    .set_reason(c.reason.clone())
                    .build()
            });
            let task = Task::builder()
                .set_stop_code(task.stop_code.as_deref().map(TaskStopCode::from))
                .set_stopped_reason(task.stopped_reason.clone())
                .set_containers(Some(containers.collect()))
                .build();
            Stopped::of(&task, container).map(|stopped| stopped.cause)
        });
        let cause = causes.into_iter().next();
        if cause != Some(want) {
            wrong.push(format!("{}: {cause:?}, expected {want:?}", path.display()));
        }
        count += 1;
    }
    assert!(count >= 1 && wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn classifies_recorded_events() {
    let all: Vec<Event> = serde_json::from_str(include_str!("../../tests/recorded/events.json")).unwrap();
    let mut wrong = Vec::new();
    for recorded in &all {
        for message in variants(&recorded.message) {
            let cause = reasons::read(&message).map(|reading| reading.cause);
            if cause != recorded.want {
                wrong.push(format!("{message}: {cause:?}, expected {:?}", recorded.want));
            }
        }
    }
    assert!(all.len() >= 15 && wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn finds_the_resource_of_a_message() {
    let object = |text: &str| reasons::read(text).unwrap().object;
    let secret = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:x";
    let text = format!(
        "Fetching secret data from AWS Secrets Manager in region eu-west-1: secret {secret}: ResourceNotFoundException: \
         Secrets Manager can't find the specified secret."
    );
    assert_eq!(object(&text).as_deref(), Some(secret));
    let group = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/x/abc";
    let text = format!(
        "(service web) (task 0123) (port 4000) is unhealthy in (target-group {group}) due to (reason x)"
    );
    assert_eq!(object(&text).as_deref(), Some(group));
}
