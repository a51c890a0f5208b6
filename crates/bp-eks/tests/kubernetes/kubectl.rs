//! Compare `RolloutStatus` with `kubectl rollout status` for every state of a workload.
//!
//! `kubectl rollout status` reads only the workload object. Each state is written to the status of an object on a real
//! API server without controllers, and read by kubectl and by `RolloutStatus`.

use bp_eks::workload::{RolloutStatus, Stage};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::real::{Real, daemon_set, deployment, stateful_set};

const PROGRESSING: [RolloutStatus; 3] = [
    RolloutStatus::Progressing(Stage::Updating),
    RolloutStatus::Progressing(Stage::EndingOld),
    RolloutStatus::Progressing(Stage::BecomingAvailable),
];

/// A state: a specification, and the status that a controller would write.
struct State {
    spec: Value,
    status: Value,
    /// A part of kubectl's output.
    says: &'static str,
    means: RolloutStatus,
}

fn state(spec: Value, status: Value, says: &'static str, means: RolloutStatus) -> State {
    State { spec, status, says, means }
}

/// The generation is 1; observed generation 0 is outdated.
fn deployments() -> Vec<State> {
    let [updating, ending, becoming] = PROGRESSING;
    // (observed, replicas, updated, available) with three desired replicas.
    let counts = |(observed, replicas, updated, available): (i64, i32, i32, i32)| {
        json!({ "observedGeneration": observed, "replicas": replicas, "updatedReplicas": updated,
            "readyReplicas": available, "availableReplicas": available })
    };
    let late = |status: Value, reason: &str| {
        let mut status = status;
        status["conditions"] =
            json!([{ "type": "Progressing", "status": "False", "reason": reason, "message": "it says" }]);
        status
    };
    let three = || json!({ "replicas": 3 });
    let stalled = || RolloutStatus::Stalled("it says".to_owned());
    let exceeded = "exceeded its progress deadline";
    let observed = "Waiting for deployment spec update to be observed";
    let updated = "out of 3 new replicas have been updated";
    let done = "successfully rolled out";
    vec![
        state(three(), json!({}), observed, RolloutStatus::NotObserved),
        state(three(), counts((0, 3, 3, 3)), observed, RolloutStatus::NotObserved),
        state(
            three(),
            late(counts((0, 3, 3, 3)), "ProgressDeadlineExceeded"),
            observed,
            RolloutStatus::NotObserved,
        ),
        state(three(), counts((1, 0, 0, 0)), updated, updating.clone()),
        state(three(), counts((1, 4, 1, 3)), updated, updating.clone()),
        state(three(), counts((1, 3, 2, 3)), updated, updating.clone()),
        state(three(), counts((1, 4, 3, 3)), "1 old replicas are pending termination", ending.clone()),
        state(three(), counts((1, 5, 3, 0)), "2 old replicas are pending termination", ending),
        state(three(), counts((1, 3, 3, 2)), "2 of 3 updated replicas are available", becoming.clone()),
        state(three(), counts((1, 3, 3, 0)), "0 of 3 updated replicas are available", becoming),
        state(three(), counts((1, 3, 3, 3)), done, RolloutStatus::Complete),
        state(three(), late(counts((1, 3, 3, 3)), "NewReplicaSetAvailable"), done, RolloutStatus::Complete),
        // Even if the pods have become available since.
        state(three(), late(counts((1, 3, 3, 3)), "ProgressDeadlineExceeded"), exceeded, stalled()),
        state(three(), late(counts((1, 4, 1, 3)), "ProgressDeadlineExceeded"), exceeded, stalled()),
        // A paused Deployment has the status of its counts; `is_paused` is separate.
        state(json!({ "replicas": 3, "paused": true }), counts((1, 3, 1, 3)), updated, updating),
        state(json!({ "replicas": 0 }), counts((1, 0, 0, 0)), done, RolloutStatus::Complete),
        state(json!({ "replicas": 1 }), counts((1, 2, 2, 2)), done, RolloutStatus::Complete),
    ]
}

fn stateful_sets() -> Vec<State> {
    let [updating, _, becoming] = PROGRESSING;
    // (observed, ready, updated) with three desired replicas, and the current revision.
    let counts = |(observed, ready, updated): (i64, i32, i32), current: &str| {
        json!({ "observedGeneration": observed, "replicas": 3, "readyReplicas": ready, "availableReplicas": ready,
            "updatedReplicas": updated, "currentReplicas": 3 - updated,
            "currentRevision": current, "updateRevision": "web-2" })
    };
    let rolling = || json!({ "replicas": 3 });
    let partition = |n: i32| {
        json!({ "replicas": 3,
            "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "partition": n } } })
    };
    let observed = "Waiting for statefulset spec update to be observed";
    let (by_partition, partitioned) =
        ("Waiting for partitioned roll out to finish", "partitioned roll out complete");
    vec![
        state(rolling(), json!({ "replicas": 0 }), observed, RolloutStatus::NotObserved),
        state(rolling(), counts((0, 3, 3), "web-2"), observed, RolloutStatus::NotObserved),
        state(rolling(), counts((1, 2, 1), "web-1"), "Waiting for 1 pods to be ready", becoming.clone()),
        state(rolling(), counts((1, 0, 3), "web-2"), "Waiting for 3 pods to be ready", becoming),
        // The API server defaults the partition to 0, so kubectl always compares the counts.
        state(rolling(), counts((1, 3, 2), "web-1"), by_partition, updating.clone()),
        state(rolling(), counts((1, 3, 3), "web-1"), partitioned, RolloutStatus::Complete),
        state(rolling(), counts((1, 3, 3), "web-2"), partitioned, RolloutStatus::Complete),
        state(partition(2), counts((1, 3, 0), "web-1"), by_partition, updating.clone()),
        state(partition(2), counts((1, 3, 1), "web-1"), partitioned, RolloutStatus::Complete),
        state(partition(1), counts((1, 3, 1), "web-1"), by_partition, updating),
        state(partition(3), counts((1, 3, 0), "web-1"), partitioned, RolloutStatus::Complete),
        state(partition(5), counts((1, 3, 0), "web-1"), partitioned, RolloutStatus::Complete),
        state(
            json!({ "replicas": 3, "updateStrategy": { "type": "OnDelete" } }),
            counts((1, 3, 0), "web-1"),
            "rollout status is only available for RollingUpdate strategy type",
            RolloutStatus::OnDelete,
        ),
    ]
}

fn daemon_sets() -> Vec<State> {
    let [updating, _, becoming] = PROGRESSING;
    // (observed, desired, updated, available)
    let counts = |(observed, desired, updated, available): (i64, i32, i32, i32)| {
        json!({ "observedGeneration": observed, "currentNumberScheduled": desired, "numberMisscheduled": 0,
            "desiredNumberScheduled": desired, "numberReady": available,
            "updatedNumberScheduled": updated, "numberAvailable": available })
    };
    let rolling = || json!({});
    let observed = "Waiting for daemon set spec update to be observed";
    vec![
        state(rolling(), counts((0, 2, 2, 2)), observed, RolloutStatus::NotObserved),
        state(rolling(), counts((1, 2, 0, 2)), "0 out of 2 new pods have been updated", updating.clone()),
        state(rolling(), counts((1, 2, 1, 1)), "1 out of 2 new pods have been updated", updating),
        state(rolling(), counts((1, 2, 2, 1)), "1 of 2 updated pods are available", becoming),
        state(rolling(), counts((1, 2, 2, 2)), "successfully rolled out", RolloutStatus::Complete),
        state(rolling(), counts((1, 0, 0, 0)), "successfully rolled out", RolloutStatus::Complete),
        state(
            json!({ "updateStrategy": { "type": "OnDelete" } }),
            counts((1, 2, 0, 2)),
            "rollout status is only available for RollingUpdate strategy type",
            RolloutStatus::OnDelete,
        ),
    ]
}

/// The `RolloutStatus` of an object read from the API server.
fn ours(kind: &str, object: &DynamicObject) -> RolloutStatus {
    let generation = object.metadata.generation.unwrap();
    let json = serde_json::to_value(object).unwrap();
    match kind {
        "deployment" => {
            let it: Deployment = serde_json::from_value(json).unwrap();
            RolloutStatus::of_deployment(&it, generation)
        }
        "statefulset" => {
            let it: StatefulSet = serde_json::from_value(json).unwrap();
            RolloutStatus::of_stateful_set(&it, generation)
        }
        _ => {
            let it: DaemonSet = serde_json::from_value(json).unwrap();
            RolloutStatus::of_daemon_set(&it, generation)
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn agrees_with_kubectl_on_every_state() {
    let real = Real { namespace: "default".to_owned() };
    let client = real.client("still").await;
    for (kind, plural, manifest, states) in [
        ("deployment", "deployments", deployment(crate::real::RUNS), deployments()),
        ("statefulset", "statefulsets", stateful_set(crate::real::RUNS), stateful_sets()),
        ("daemonset", "daemonsets", daemon_set(crate::real::RUNS), daemon_sets()),
    ] {
        let pattern: Value = serde_saphyr::from_str(&manifest).unwrap();
        let resource = ApiResource {
            group: "apps".to_owned(),
            version: "v1".to_owned(),
            api_version: "apps/v1".to_owned(),
            kind: pattern["kind"].as_str().unwrap().to_owned(),
            plural: plural.to_owned(),
        };
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &real.namespace, &resource);
        for (number, State { spec, status, says, means }) in states.into_iter().enumerate() {
            let name = format!("web-{number}");
            let mut object: DynamicObject = serde_json::from_value(pattern.clone()).unwrap();
            object.metadata.name = Some(name.clone());
            for (field, value) in spec.as_object().unwrap() {
                object.data["spec"][field] = value.clone();
            }
            api.create(&PostParams::default(), &object).await.unwrap();
            let patch = Patch::Merge(json!({ "status": status }));
            let written = api.patch_status(&name, &PatchParams::default(), &patch).await.unwrap();

            let asked = ["rollout", "status", &format!("{kind}/{name}"), "--watch=false"];
            let said = real.kubectl("still", &asked).output().await.unwrap();
            let output = String::from_utf8_lossy(&said.stdout) + String::from_utf8_lossy(&said.stderr);
            assert!(output.contains(says), "{kind} {status}: kubectl says {output:?}");
            let refuses = matches!(means, RolloutStatus::Stalled(_) | RolloutStatus::OnDelete);
            assert_eq!(said.status.success(), !refuses, "{kind} {status}: {output:?}");
            assert_eq!(ours(kind, &written), means, "{kind} {status}: kubectl says {output:?}");
        }
    }
}
