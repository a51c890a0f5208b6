//! Recordings of a workload and of a namespace: redacted, and read again as a test of the causes (`tests/recorded`).

mod common;

use bp_artifact::recording::Recording;
use bp_eks::Error;
use bp_sandbox::{Effect, Fault};
use common::{World, crash, deploy};
use jiff::Timestamp;
use serde_json::{Value, json};

const INCIDENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recorded/m01-recorded-crash-loop.json");

const NAMESPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recorded/m02-recorded-namespace.json");
const CANARY: &str = "canary-7f3kq9";

/// A rollout whose new pods exit with code 3, which stays as it is.
async fn incident() -> World {
    let world = World::with(|deployment| {
        deployment["metadata"]["annotations"] = json!({ "team/contact": "falcon@corp.example" });
        deployment["spec"]["template"]["spec"]["containers"][0]["env"] =
            json!([{ "name": "DSN", "value": "postgres-hunter2" }]);
    })
    .await;
    let image = world.image("second", crash());
    let options = |options: bp_eks::Options| options.take_over(true).on_failure(bp_eks::OnFailure::Leave);
    deploy(&world.target_with(options), &image).await.1.unwrap();
    world
}

/// Writes the committed recording with `BP_WRITE_RECORDINGS=1`.
#[tokio::test(start_paused = true)]
async fn an_incident_is_recorded_without_values_and_addresses() {
    let world = incident().await;
    let at = "2026-11-28T12:00:00Z".parse::<Timestamp>().unwrap();
    let mut recording = world.target().record(at).await.unwrap();
    let text = serde_json::to_string(&recording).unwrap();
    for gone in ["hunter2", "falcon", "managedFields", "last-applied"] {
        assert!(!text.contains(gone), "{gone}: {text}");
    }
    assert_eq!((recording.kind.as_str(), recording.expect.len()), ("eks-workload", 0));
    assert!(recording.missing.is_empty(), "{:?}", recording.missing);
    let pods = recording.data["pods"].as_array().unwrap();
    assert!(pods.len() > 3 && recording.data["replicas"] == 3, "{pods:?}");
    let about =
        recording.data["events"].as_array().unwrap().iter().filter_map(|event| event["about"].as_u64());
    assert!(about.clone().count() > 0 && about.max().unwrap() < pods.len() as u64);

    if std::env::var_os("BP_WRITE_RECORDINGS").is_some() {
        recording.source = "bp-sandbox, by crates/bp-eks/tests/record.rs".to_owned();
        recording.expect = serde_json::from_value(json!({
            "fatal_now": false, "causes": ["ContainerExited"], "why": "exit code 3, restarted twice",
            "line": "a container exited (container web, exit code 3): exit code 3, restarted 2 times",
        }))
        .unwrap();
        recording.write(INCIDENT).unwrap();
    }
    assert_eq!(Recording::read(INCIDENT).unwrap().kind, "eks-workload");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_allowed_is_listed_and_the_rest_is_recorded() {
    let world = incident().await;
    let message = "events is forbidden: User \"ci\" cannot list resource \"events\" in API group \"\"";
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403, "message": message,
    });
    let denied = Effect::Answer { status: 403, headers: Vec::new(), body: body.to_string() };
    world.sandbox.faults().inject(Fault::new(denied).on("list events").times(u32::MAX));
    let recording = world.target().record(Timestamp::UNIX_EPOCH).await.unwrap();
    let parts: Vec<&str> = recording.missing.iter().map(|missing| missing.part.as_str()).collect();
    assert_eq!(parts, ["events"], "{:?}", recording.missing);
    assert!(recording.data.contains_key("pods") && recording.data.contains_key("replicaSets"));
}

/// An incident in a namespace with a workload of each kind, and a secret in many places.
async fn incident_in_namespace() -> World {
    let applied = json!({ "spec": { "template": { "spec": { "containers": [
        { "name": "web", "env": [{ "name": "KEY", "value": format!("{CANARY}-applied") }] },
    ] } } } });
    let world = World::with(|deployment| {
        deployment["metadata"]["annotations"] = json!({
            "kubectl.kubernetes.io/last-applied-configuration": applied.to_string(),
            "team/token": format!("{CANARY}-annotation"),
        });
        let container = &mut deployment["spec"]["template"]["spec"]["containers"][0];
        container["env"] = json!([{ "name": "KEY", "value": CANARY }]);
        container["args"] = json!(["serve", format!("--license={CANARY}-argument")]);
    })
    .await;
    let template = |app: &str| {
        let containers = json!([{ "name": app, "image": world.first.reference.to_string() }]);
        json!({ "metadata": { "labels": { "app": app } }, "spec": { "containers": containers } })
    };
    for (kind, name) in [("StatefulSet", "db"), ("DaemonSet", "agent")] {
        world.cluster.create(json!({
            "apiVersion": "apps/v1", "kind": kind, "metadata": { "name": name, "namespace": "prod" },
            "spec": { "selector": { "matchLabels": { "app": name } }, "template": template(name) },
        }));
    }
    let mut migrate = template("migrate");
    migrate["spec"]["restartPolicy"] = json!("Never");
    world.cluster.create(json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "migrate", "namespace": "prod" },
        "spec": { "template": migrate },
    }));
    let image = world.image("second", crash());
    let options = |options: bp_eks::Options| options.take_over(true).on_failure(bp_eks::OnFailure::Leave);
    deploy(&world.target_with(options), &image).await.1.unwrap();

    let terminated = json!({
        "exitCode": 1, "reason": "Error", "message": format!("last line of the log: {CANARY}-log"),
    });
    world.cluster.create(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "debug", "namespace": "prod" },
        "spec": { "containers": [{ "name": "debug", "image": "registry.example.com/debug:1" }] },
        "status": { "phase": "Failed", "containerStatuses": [{ "name": "debug", "state": { "terminated": terminated } }] },
    }));
    let quoted =
        ["", "-applied", "-annotation", "-argument", "-log"].map(|part| format!("{CANARY}{part}")).join(", ");
    event(&world, "debug.quoted", "Warning", &format!("invalid values: {quoted}"), "2026-11-28T12:00:00Z");
    world
}

fn event(world: &World, name: &str, kind: &str, message: &str, at: &str) {
    world.cluster.create(json!({
        "apiVersion": "v1", "kind": "Event", "metadata": { "name": name, "namespace": "prod" },
        "involvedObject": { "kind": "Pod", "name": "debug", "namespace": "prod" },
        "type": kind, "reason": "Quoted", "message": message, "lastTimestamp": at,
    }));
}

fn names<'r>(recording: &'r Recording, part: &str) -> Vec<&'r str> {
    let objects = recording.data[part].as_array().unwrap().iter();
    objects.map(|object| object["metadata"]["name"].as_str().unwrap()).collect()
}

/// Writes the committed recording with `BP_WRITE_RECORDINGS=1`.
#[tokio::test(start_paused = true)]
async fn a_namespace_is_recorded_with_every_kind_and_without_secrets() {
    let world = incident_in_namespace().await;
    let at = "2026-11-28T12:00:00Z".parse::<Timestamp>().unwrap();
    let mut recording = world.namespace().record(at).await.unwrap();
    let text = serde_json::to_string(&recording).unwrap();
    for gone in [CANARY, "managedFields", "last-applied"] {
        assert!(!text.contains(gone), "{gone}: {text}");
    }
    assert!(recording.replaced.contains_key("output"), "{:?}", recording.replaced);
    assert!(recording.missing.is_empty() && recording.omitted.is_empty(), "{:?}", recording.missing);
    for (part, expected) in
        [("deployments", "web"), ("statefulsets", "db"), ("daemonsets", "agent"), ("jobs", "migrate")]
    {
        assert_eq!(names(&recording, part), [expected]);
    }
    assert_eq!(
        (names(&recording, "replicasets").len(), names(&recording, "controllerrevisions").len()),
        (2, 2)
    );
    // Owners, events and selectors of the recording refer to its objects.
    let pods = names(&recording, "pods");
    let quoted =
        |event: &&Value| event["involvedObject"]["name"].as_str().is_some_and(|name| pods.contains(&name));
    assert!(recording.data["events"].as_array().unwrap().iter().filter(quoted).count() > 0);

    if std::env::var_os("BP_WRITE_RECORDINGS").is_some() {
        recording.source = "bp-sandbox, by crates/bp-eks/tests/record.rs".to_owned();
        recording.expect = serde_json::from_value(json!({
            "workload": "deployment/web", "fatal_now": false, "causes": ["ContainerExited"],
            "line": "a container exited (container web, exit code 3): exit code 3, restarted 2 times",
            "why": "exit code 3, restarted twice; the other workloads run",
        }))
        .unwrap();
        recording.write(NAMESPACE).unwrap();
    }
    assert_eq!(Recording::read(NAMESPACE).unwrap().kind, "eks-namespace");
}

#[tokio::test(start_paused = true)]
async fn two_recordings_of_the_same_state_differ_only_in_their_time() {
    let world = incident_in_namespace().await;
    let first = world.namespace().record(Timestamp::UNIX_EPOCH).await.unwrap();
    let mut second = world.namespace().record("2026-11-28T12:00:00Z".parse().unwrap()).await.unwrap();
    assert_ne!(first.recorded_at, second.recorded_at);
    second.recorded_at = first.recorded_at;
    let text = |recording: &Recording| serde_json::to_string_pretty(recording).unwrap();
    assert_eq!(text(&first), text(&second));
}

#[tokio::test(start_paused = true)]
async fn denied_kinds_are_listed_with_verb_and_resource_and_the_rest_is_recorded() {
    let world = incident_in_namespace().await;
    ["statefulsets", "pods", "events"].iter().for_each(|resource| world.cluster.deny("list", resource));
    let recording = world.namespace().record(Timestamp::UNIX_EPOCH).await.unwrap();
    let missing: Vec<_> =
        recording.missing.iter().map(|m| (m.part.as_str(), m.permission.as_deref().unwrap())).collect();
    let expected =
        [("statefulsets", "list statefulsets.apps"), ("pods", "list pods"), ("events", "list events")];
    assert_eq!(missing, expected);
    assert!(recording.missing[0].reason.starts_with("cannot observe: "), "{:?}", recording.missing);
    assert_eq!(names(&recording, "deployments"), ["web"]);

    for resource in ["deployments", "daemonsets", "jobs", "cronjobs", "replicasets", "controllerrevisions"] {
        world.cluster.deny("list", resource);
    }
    let error = world.namespace().record(Timestamp::UNIX_EPOCH).await.unwrap_err();
    assert!(matches!(error, Error::Forbidden { .. }), "{error:?}");
    let error = world.namespace_called("absent").record(Timestamp::UNIX_EPOCH).await.unwrap_err();
    assert!(matches!(error, Error::Forbidden { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn events_are_listed_in_pages_and_warnings_are_preferred() {
    let world = World::new().await;
    event(&world, "a-warning", "Warning", "old", "2020-01-01T00:00:00Z");
    for n in 0..1100 {
        event(
            &world,
            &format!("n-{n:04}"),
            "Normal",
            "new",
            &format!("2026-11-28T12:{:02}:{:02}Z", n / 60, n % 60),
        );
    }
    let count = world.cluster.objects("events", "prod").len();
    let recording = world.namespace().record(Timestamp::UNIX_EPOCH).await.unwrap();
    assert_eq!(world.sandbox.ledger().count_of("list events"), count.div_ceil(250));
    let events = names(&recording, "events");
    assert_eq!((events.len(), events.first()), (1000, Some(&"a-warning")));
    assert!(events.contains(&"n-1099") && !events.contains(&"n-0000"), "the newest are kept");
    let omitted = &recording.omitted[0];
    assert_eq!((omitted.part.as_str(), omitted.recorded, omitted.omitted), ("events", 1000, count - 1000));
    let error = world.namespace_called("absent").record(Timestamp::UNIX_EPOCH).await.unwrap_err();
    assert!(matches!(error, Error::NamespaceNotFound { .. }), "{error:?}");
}
