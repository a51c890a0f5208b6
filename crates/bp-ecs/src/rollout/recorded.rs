//! Tests of failure causes against recorded stop reasons, events and incidents.
//!
//! To add an incident: `docs/ecs-scenarios.md`.

use std::{cell::RefCell, collections::HashMap};

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
    want: Option<Cause>,
    object: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoppedContainer {
    name: String,
    image: Option<String>,
    reason: Option<String>,
    exit_code: Option<i32>,
}

#[derive(Deserialize)]
struct Event {
    message: String,
    want: Option<Cause>,
    object: Option<String>,
}

/// Other accounts, regions, digests and ids, which contain digits that look like HTTP statuses. The same original
/// always becomes the same replacement.
struct Variant {
    random: RefCell<fastrand::Rng>,
    account: String,
    region: &'static str,
    ids: RefCell<HashMap<String, String>>,
}

const ACCOUNT: &str = "123456789012";
const STATUSES: [&str; 6] = ["401", "403", "404", "429", "500", "503"];
const REGIONS: [&str; 9] = [
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "us-east-1",
    "us-west-2",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-southeast-2",
    "eu-central-1",
];

impl Variant {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let account: String = (0..4).map(|_| *random.choice(&STATUSES).unwrap()).collect();
        let region =
            random.choice(["us-gov-west-1", "ap-southeast-4", "eu-central-1", "cn-north-1"]).unwrap();
        Variant { random: RefCell::new(random), account, region, ids: RefCell::default() }
    }

    /// A hexadecimal id of the same length with a status in it.
    fn id(&self, original: &str) -> String {
        let mut ids = self.ids.borrow_mut();
        let mut random = self.random.borrow_mut();
        let id = ids.entry(original.to_owned()).or_insert_with(|| {
            let mut id: String = (0..original.len()).map(|_| random.digit(16)).collect();
            let at = random.usize(..=original.len() - 3);
            id.replace_range(at..at + 3, random.choice(&STATUSES).unwrap());
            id
        });
        id.clone()
    }

    fn of(&self, text: &str) -> String {
        let text = REGIONS.iter().fold(text.to_owned(), |text, region| text.replace(region, self.region));
        let text = text.replace(ACCOUNT, &self.account);
        let mut replaced = String::new();
        let mut run = String::new();
        for c in text.chars().chain(['\0']) {
            if c.is_ascii_digit() || ('a'..='f').contains(&c) {
                run.push(c);
                continue;
            }
            let is_id = run.len() >= 8 && run.contains(|c: char| c.is_ascii_digit()) && run != self.account;
            replaced.push_str(&if is_id { self.id(&run) } else { run.clone() });
            run.clear();
            replaced.push(c);
        }
        replaced.trim_end_matches('\0').to_owned()
    }
}

/// What a text or task is read as: its cause, its container and its object.
type Read = Option<(Cause, Option<String>, Option<String>)>;

fn stopped(recorded: &StoppedTask, vary: impl Fn(&str) -> String) -> Read {
    let containers = recorded.containers.iter().map(|c| {
        Container::builder()
            .name(&c.name)
            .set_image(c.image.as_deref().map(&vary))
            .set_exit_code(c.exit_code)
            .set_reason(c.reason.as_deref().map(&vary))
            .build()
    });
    let task = Task::builder()
        .set_stop_code(recorded.stop_code.as_deref().map(TaskStopCode::from))
        .stopped_reason(vary(&recorded.stopped_reason))
        .set_containers(Some(containers.collect()))
        .build();
    Stopped::of(&task, "web").map(|stopped| (stopped.cause, stopped.container, stopped.object))
}

#[test]
fn classifies_recorded_stopped_tasks() {
    let all: Vec<StoppedTask> =
        serde_json::from_str(include_str!("../../tests/recorded/stopped-tasks.json")).unwrap();
    let mut wrong = Vec::new();
    for recorded in &all {
        let read = stopped(recorded, str::to_owned);
        let cause = read.as_ref().map(|read| read.0);
        if cause != recorded.want {
            wrong.push(format!("{}: {cause:?}, expected {:?}", recorded.id, recorded.want));
        }
        let object = read.and_then(|read| read.2);
        if recorded.object.is_some() && object != recorded.object {
            wrong.push(format!("{}: about {object:?}, expected {:?}", recorded.id, recorded.object));
        }
        if let (Some(cause), Some(object)) = (recorded.want, &recorded.object)
            && !cause.advice(Some(object)).contains(object.as_str())
        {
            wrong.push(format!("{}: the advice does not contain {object}", recorded.id));
        }
    }
    assert!(all.len() >= 100 && wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn accounts_regions_digests_and_ids_do_not_affect_the_cause() {
    let tasks: Vec<StoppedTask> =
        serde_json::from_str(include_str!("../../tests/recorded/stopped-tasks.json")).unwrap();
    let events: Vec<Event> = serde_json::from_str(include_str!("../../tests/recorded/events.json")).unwrap();
    let mut wrong = Vec::new();
    for seed in 0..20 {
        let variant = Variant::new(seed);
        let vary = |text: &str| variant.of(text);
        for recorded in &tasks {
            let expected = stopped(recorded, str::to_owned);
            let expected =
                expected.map(|(cause, container, object)| (cause, container, object.map(|o| vary(&o))));
            let read = stopped(recorded, vary);
            if read != expected {
                wrong.push(format!("{} (seed {seed}): {read:?}, expected {expected:?}", recorded.id));
            }
        }
        for recorded in &events {
            let read = reasons::read(&vary(&recorded.message)).map(|reading| (reading.cause, reading.object));
            let expected = reasons::read(&recorded.message);
            let expected =
                expected.map(|reading| (reading.cause, reading.object.map(|object| vary(&object))));
            if read != expected {
                wrong.push(format!(
                    "{} (seed {seed}): {read:?}, expected {expected:?}",
                    vary(&recorded.message)
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{:#?}", &wrong[..wrong.len().min(20)]);
}

#[test]
fn reports_the_failed_container_of_recorded_tasks() {
    let all: Vec<StoppedTask> =
        serde_json::from_str(include_str!("../../tests/recorded/stopped-tasks.json")).unwrap();
    let container = |id: &str| {
        let recorded = all.iter().find(|recorded| recorded.id == id).unwrap();
        stopped(recorded, str::to_owned).and_then(|read| read.1)
    };
    for id in ["pull-ecr-ec2-denied", "sidecar-pull-app-exit", "essential-oom", "create-thin-pool"] {
        assert_eq!(container(id).as_deref(), Some("web"), "{id}");
    }
    assert_eq!(container("elb-arn"), None, "the load balancer does not name a container");
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
        let read = reasons::read(&recorded.message);
        let cause = read.as_ref().map(|reading| reading.cause);
        if cause != recorded.want {
            wrong.push(format!("{}: {cause:?}, expected {:?}", recorded.message, recorded.want));
        }
        let object = read.and_then(|reading| reading.object);
        if recorded.object.is_some() && object != recorded.object {
            wrong.push(format!("{}: about {object:?}, expected {:?}", recorded.message, recorded.object));
        }
    }
    assert!(all.len() >= 70 && wrong.is_empty(), "{wrong:#?}");
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
