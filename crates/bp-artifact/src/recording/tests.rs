//! What a recording keeps, and what it replaces.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn recording(parts: &[(&str, Value)]) -> Recording {
    let mut recorder = Recorder::default();
    parts.iter().for_each(|(part, value)| recorder.note(part, value.clone()));
    recorder.finish("ecs-service", Timestamp::UNIX_EPOCH)
}

fn text(text: &str) -> String {
    recording(&[("text", json!(text))]).data["text"].as_str().unwrap().to_owned()
}

#[test]
fn replaces_each_kind_and_keeps_messages_readable() {
    let digest = "sha256:88e87b4d1cc2ffaf5cf4b6688cccc0d888e87b4d1cc2ffaf5cf4b6688cccc0d8";
    for (given, expected) in [
        (
            "(service web) (task 0123456789abcdef0123456789abcdef) is unhealthy",
            "(service web) (task 00000000000000000000000000000001) is unhealthy".to_owned(),
        ),
        (
            "pull 123456789012.dkr.ecr.eu-west-2.amazonaws.com/shop/web",
            "pull 000000000001.dkr.ecr.aa-region-1.amazonaws.com/shop/web".to_owned(),
        ),
        (&format!("image {digest}: not found"), format!("image sha256:{:064}: not found", 1)),
        (
            "arn:aws:secretsmanager:us-gov-east-1:123456789012:secret:prod/db-x1y2z3: AccessDenied",
            "arn:aws:secretsmanager:aa-region-1:000000000001:secret:name-1: AccessDenied".to_owned(),
        ),
        (
            "role arn:aws:iam::123456789012:role/deploy.",
            "role arn:aws:iam::000000000001:role/name-1.".to_owned(),
        ),
        ("dial tcp 10.4.0.3:443: i/o timeout", "dial tcp 192.0.2.1:443: i/o timeout".to_owned()),
        ("node ip-10-4-0-3.eu-west-2.compute.internal", "node ip-192-0-2-1.aa-region-1.compute.internal".to_owned()),
        ("[fe80::1ff:fe23]:443", "[2001:db8::1]:443".to_owned()),
        ("lookup db.shop.internal on 10.0.0.2:53", "lookup host-1.example.com on 192.0.2.1:53".to_owned()),
        ("subnet-0404429aa1 in eu-west-2a", "subnet-0000000001 in aa-region-1a".to_owned()),
        (
            "GET https://user:pw@h.example.com/x?X-Amz-Signature=abc failed",
            "GET https://<token 1>@h.example.com/x?<token 2> failed".to_owned(),
        ),
        ("Authorization: Bearer abc.def", "Authorization: Bearer <token 1>".to_owned()),
        ("DB_PASSWORD=hunter2 ignored", "DB_PASSWORD=<secret 1> ignored".to_owned()),
        ("run --db-password hunter2 now", "run --db-password <secret 1> now".to_owned()),
        ("key AKIAIOSFODNN7EXAMPLE", "key <token 1>".to_owned()),
        // Text that describes what happened is kept.
        (
            "Back-off pulling image from quay.io: see https://kubernetes.io/docs; main.go:380, 3/3 nodes at 12:30:45",
            "Back-off pulling image from quay.io: see https://kubernetes.io/docs; main.go:380, 3/3 nodes at 12:30:45"
                .to_owned(),
        ),
    ] {
        assert_eq!(text(given), expected);
    }
}

#[test]
fn preserves_relations_and_replaces_values_of_variables_everywhere() {
    let definition = json!({ "taskDefinition": {
        "family": "shop-web",
        "tags": [{ "key": "Owner", "value": "team-falcon" }],
        "containerDefinitions": [{
            "name": "web",
            "environment": [
                { "name": "DSN", "value": "postgres-hunter2" }, { "name": "APP", "value": "shop-web" },
            ],
            "secrets": [{ "name": "KEY", "valueFrom": "/prod/stripe-key" }],
            "command": ["serve", "--license=ABC-123"],
        }],
    } });
    let pod = json!({
        "metadata": {
            "name": "web-1", "uid": "6b1fd0f2-8f6c-4c5e-9d35-0a1b2c3d4e5f",
            "managedFields": [{ "manager": "kubectl" }],
            "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": "{\"a\":1}", "team/contact": "falcon@corp.example",
            },
        },
        "spec": { "containers": [{
            "env": [{ "name": "DSN", "valueFrom": { "secretKeyRef": { "name": "db-secret", "key": "dsn" } } }],
        }] },
        "status": { "containerStatuses": [{ "state": { "terminated": {
            "exitCode": 1, "reason": "Error", "message": "cannot connect with postgres-hunter2 of Jane Doe",
        } } }] },
    });
    let message =
        "(service shop-web) failed: postgres-hunter2 refused; secret \"db-secret\" and /prod/stripe-key";
    let recording =
        recording(&[("definition", definition), ("pod", pod), ("event", json!({ "message": message }))]);
    let container = &recording.data["definition"]["taskDefinition"]["containerDefinitions"][0];
    assert_eq!(container["environment"][0], json!({ "name": "DSN", "value": "<variable 1>" }));
    assert_eq!(container["secrets"][0], json!({ "name": "KEY", "valueFrom": "<secret 1>" }));
    let event = recording.data["event"]["message"].as_str().unwrap();
    assert_eq!(event, "(service shop-web) failed: <variable 1> refused; secret \"db-secret\" and <secret 1>");
    let pod = &recording.data["pod"];
    assert!(pod["metadata"].get("managedFields").is_none());
    assert_eq!(pod["metadata"]["annotations"], json!({ "team/contact": "<annotation 1>" }));
    assert_eq!(pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"], "<output 1>");
    assert_eq!(pod["spec"]["containers"][0]["env"][0]["valueFrom"]["secretKeyRef"]["name"], "db-secret");
    let all = serde_json::to_string(&recording).unwrap();
    for gone in ["hunter2", "falcon", "stripe", "ABC-123", "Jane", "last-applied"] {
        assert!(!all.contains(gone), "{gone}: {all}");
    }
    assert_eq!(
        (recording.replaced["variable"], recording.replaced["secret"]),
        (2, 1),
        "{:?}",
        recording.replaced
    );
    let read = Recording::parse(&serde_json::to_string_pretty(&recording).unwrap(), "r.json").unwrap();
    assert_eq!(read, recording);
}

/// Each value occurs in one field, and in a message that quotes it.
#[test]
fn replaces_values_that_messages_quote() {
    let applied =
        json!({ "spec": { "containers": [{ "env": [{ "name": "A", "value": "canary-applied" }] }] } });
    let pod = json!({
        "metadata": { "name": "web-frontend-1", "annotations": {
            "kubectl.kubernetes.io/last-applied-configuration": applied.to_string(),
            "team/token": "canary-annotation",
        } },
        "spec": { "containers": [{
            "name": "web",
            "args": ["--key=canary-Flag", "sh -c \"run --api-token canary-token\"", "--role=controller"],
            "env": [
                { "name": "URL", "value": "postgres://shop:canary-password@db/shop" },
                { "name": "BACKEND", "value": "frontend" },
            ],
            "readinessProbe": { "httpGet": { "httpHeaders": [{ "name": "X-Key", "value": "canary-header" }] } },
        }] },
        "status": { "containerStatuses": [{ "state": { "terminated": {
            "exitCode": 137, "reason": "OOMKilled", "message": "last line: canary-log",
        } } }] },
    });
    let message = "canary-applied canary-annotation canary-Flag canary-token canary-password canary-header: the \
                   controller of web-frontend-1";
    let recording = recording(&[("pod", pod), ("event", json!({ "message": message }))]);
    let all = serde_json::to_string(&recording).unwrap();
    assert!(!all.contains("canary"), "{all}");
    let event = recording.data["event"]["message"].as_str().unwrap();
    assert!(event.ends_with(": the controller of web-frontend-1"), "{event}");
    assert_eq!(recording.data["pod"]["metadata"]["name"], "web-frontend-1");
}

#[test]
fn states_what_was_omitted() {
    let mut recorder = Recorder::default();
    recorder.note("pods", json!([]));
    let omitted =
        OmittedPart { part: "pods".into(), recorded: 500, omitted: 20, more: true, reason: "x".into() };
    recorder.add_omitted(omitted.clone());
    let permission = Some("list events".to_owned());
    recorder.add_missing(MissingPart { part: "events".into(), reason: "denied".into(), permission });
    let recording = recorder.finish("eks-namespace", Timestamp::UNIX_EPOCH);
    assert_eq!(omitted.to_string(), "pods: 500 recorded, 20 or more omitted: x");
    let read = Recording::parse(&serde_json::to_string(&recording).unwrap(), "r.json").unwrap();
    assert_eq!(
        (read.omitted.as_slice(), read.missing[0].permission.as_deref()),
        (&[omitted][..], Some("list events"))
    );
}

#[test]
fn lists_missing_parts_without_account_ids() {
    let mut recorder = Recorder::default();
    assert!(recorder.is_empty());
    recorder.missing("stoppedTasks", "arn:aws:iam::123456789012:user/x is not allowed ecs:ListTasks");
    let recording = recorder.finish("ecs-service", Timestamp::UNIX_EPOCH);
    assert_eq!(recording.missing[0].part, "stoppedTasks");
    assert_eq!(
        recording.missing[0].reason,
        "arn:aws:iam::000000000001:user/name-1 is not allowed ecs:ListTasks"
    );
    let other = json!({ "schema": "bp.receipt/1", "kind": "x", "recorded_at": "2026-01-01T00:00:00Z" });
    assert!(Recording::parse(&other.to_string(), "r.json").is_err());
}

/// Text before and after a secret.
fn around() -> impl Strategy<Value = (String, String)> {
    let text = "[ ,;:()\"'/=_@-]{0,3}";
    (text, text)
}

proptest! {
    #[test]
    fn replaces_every_secret(
        account in "[1-9][0-9]{11}",
        value in "[A-Z][0-9]{2}[A-Za-z0-9+/]{4,30}",
        secret in "[a-z]{3,9}/[a-z0-9-]{6,20}",
        token in "eyJ[A-Za-z0-9_-]{20,60}",
        key in "AKIA[A-Z0-9]{16}",
        address in "1[0-9]\\.[1-9][0-9]\\.[0-9]\\.[1-9]",
        (before, behind) in around(),
    ) {
        let canaries = [&account, &value, &secret, &token, &key, &address];
        let quoted = |canary: &str| format!("{before}{canary}{behind}");
        let message = canaries.map(|canary| quoted(canary)).join(" and then ");
        let parts = json!({
            "environment": [{ "name": "A", "value": value }],
            "env": [{ "name": "B", "value": quoted(&value) }],
            "secrets": [{ "name": "C", "valueFrom": secret }],
            "annotations": { "a": message },
            "tags": [{ "key": "d", "value": value }],
            "arn": format!("arn:aws:ecs:eu-central-1:{account}:task/shop/1"),
            "message": message,
        });
        let recording = serde_json::to_string(&recording(&[("part", parts)])).unwrap();
        for canary in canaries {
            let canary = serde_json::to_string(canary).unwrap();
            prop_assert!(!recording.contains(canary.trim_matches('"')), "{canary} in {recording}");
        }
    }

    #[test]
    fn accepts_any_text_and_is_deterministic(any in ".{0,200}") {
        let both = recording(&[("a", json!(any)), ("b", json!(any))]);
        prop_assert_eq!(&both.data["a"], &both.data["b"]);
        text(&any);
    }
}
