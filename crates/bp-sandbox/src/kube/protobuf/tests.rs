//! Tests of the protobuf encoding.

use serde_json::{Map, Value, json};

use super::{
    super::schema::{self, Kind, Message, Shape},
    *,
};

/// A random object with fields of the schema, as Go's encoder would write it.
fn random(rng: &mut fastrand::Rng, message: &Message, depth: usize) -> Map<String, Value> {
    let mut map = Map::new();
    for field in message.properties() {
        // Few fields of large messages, so that objects stay small.
        if rng.usize(..4) > 0 || depth == 0 && field.kind.message().is_some() {
            continue;
        }
        let one = |rng: &mut fastrand::Rng| match field.kind.message() {
            Some(message) => Some(Value::Object(random(rng, message, depth - 1))),
            None => scalar(rng, field.kind),
        };
        let value = match field.shape {
            Shape::One => one(rng),
            Shape::List => {
                (0..rng.usize(1..4)).map(|_| one(rng)).collect::<Option<Vec<_>>>().map(Value::Array)
            }
            Shape::Map => {
                let entry = |rng: &mut fastrand::Rng| Some((format!("key-{}", rng.u8(..)), one(rng)?));
                (0..rng.usize(1..4)).map(|_| entry(rng)).collect::<Option<Map<_, _>>>().map(Value::Object)
            }
        };
        // Messages that are not pointers are omitted if they are empty.
        let omitted = |value: &Value| !field.pointer && field.shape == Shape::One && *value == json!({});
        if let Some(value) = value.filter(|value| !omitted(value)) {
            map.insert(field.json.to_owned(), value);
        }
    }
    for field in message.properties().into_iter().filter(|field| field.always && field.shape == Shape::One) {
        if !map.contains_key(field.json)
            && field.kind.message().is_none()
            && let Some(value) = scalar(rng, field.kind)
        {
            map.insert(field.json.to_owned(), value);
        }
    }
    map
}

/// A value that is not zero; `None` if the type has no encoding.
fn scalar(rng: &mut fastrand::Rng, kind: Kind) -> Option<Value> {
    Some(match kind {
        Kind::Text => json!(format!("text-{} ü", rng.u16(..))),
        Kind::Int32 => json!(rng.i32(..).saturating_abs().max(1) * if rng.bool() { 1 } else { -1 }),
        Kind::Int64 => json!(rng.i64(..) | 1),
        Kind::Bool => json!(true),
        Kind::Bytes => json!("AAEC/w=="),
        Kind::Double => json!(0.5 + f64::from(rng.u8(..))),
        Kind::Quantity => json!("100m"),
        Kind::IntOrString => {
            if rng.bool() {
                json!("25%")
            } else {
                json!(rng.i32(1..))
            }
        }
        Kind::Time => json!("2026-11-29T11:31:00Z"),
        Kind::MicroTime => json!("1969-12-31T23:59:59.123456Z"),
        Kind::Json => json!({ "f:spec": { "f:x": {} }, "list": [1, null, "x"] }),
        Kind::Strings => json!(["a", "b"]),
        Kind::Duration | Kind::Any => return None,
        Kind::Message(_) => return None,
    })
}

const KINDS: [(&str, &str); 20] = [
    ("v1", "Pod"),
    ("v1", "PodList"),
    ("v1", "Secret"),
    ("v1", "ConfigMap"),
    ("v1", "Service"),
    ("v1", "Event"),
    ("v1", "Node"),
    ("v1", "ServiceAccount"),
    ("v1", "PersistentVolume"),
    ("v1", "DeleteOptions"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("batch/v1", "Job"),
    ("batch/v1", "CronJob"),
    ("networking.k8s.io/v1", "Ingress"),
    ("coordination.k8s.io/v1", "Lease"),
    ("policy/v1", "Eviction"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("authorization.k8s.io/v1", "SubjectAccessReview"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
];

#[test]
fn objects_are_equal_after_a_round_trip() {
    for seed in 0..2_000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (api_version, kind) = KINDS[rng.usize(..KINDS.len())];
        let message = schema::of(api_version, kind).unwrap();
        let mut object = Value::Object(random(&mut rng, message, 7));
        object["apiVersion"] = json!(api_version);
        object["kind"] = json!(kind);
        let document = encode(&object).unwrap().unwrap_or_else(|e| panic!("seed {seed}: {e} in {object}"));
        assert_eq!(decode(&document).unwrap(), object, "seed {seed}");
    }
}

/// Every prefix and many corruptions of a document are rejected or read, without a panic.
#[test]
fn corrupted_documents_are_read_or_rejected() {
    let mut rng = fastrand::Rng::with_seed(7);
    let message = schema::of("v1", "Pod").unwrap();
    let mut pod = Value::Object(random(&mut rng, message, 7));
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    let document = encode(&pod).unwrap().unwrap();
    let mut rejected = 0;
    for end in 0..document.len() {
        rejected += usize::from(decode(&document[..end]).is_err());
    }
    assert!(rejected > document.len() / 2, "{rejected} of {}", document.len());
    for _ in 0..5_000 {
        let mut corrupted = document.clone();
        let at = rng.usize(4..corrupted.len());
        corrupted[at] = rng.u8(..);
        let _ = decode(&corrupted);
    }
}

#[test]
fn nesting_and_the_number_of_values_are_bounded() {
    let message = schema::message("apiextensions.v1.JSONSchemaProps").unwrap();
    // JSONSchemaProps.not, 100 times.
    let mut nested = Vec::new();
    for _ in 0..100 {
        let inner = std::mem::take(&mut nested);
        put_bytes(&mut nested, 28, &inner);
    }
    assert_eq!(decode::object(message, &nested), Err(Malformed("too many levels")));
    // Empty items of JSONSchemaProps.allOf, three bytes each.
    let mut many = Vec::new();
    for _ in 0..600_000 {
        put_bytes(&mut many, 25, &[]);
    }
    assert_eq!(decode::object(message, &many), Err(Malformed("too many values")));
}

/// The bytes of a Secret as a Go client sends them: fields that are not pointers are present even if they are zero.
#[test]
fn zero_values_of_go_are_omitted_unless_null_differs_from_zero() {
    let (mut metadata, mut secret) = (Vec::new(), Vec::new());
    for (number, text) in [(1, "sh.helm.release.v1.web.v1"), (2, ""), (3, ""), (4, ""), (5, ""), (6, "")] {
        put_bytes(&mut metadata, number, text.as_bytes());
    }
    wire::put_number(&mut metadata, 7, 0);
    put_bytes(&mut metadata, 8, &[]);
    // A number that no version of the API has.
    put_bytes(&mut metadata, 4000, b"from the future");
    let entry = |key: &str, value: &[u8]| {
        let mut entry = Vec::new();
        put_bytes(&mut entry, 1, key.as_bytes());
        put_bytes(&mut entry, 2, value);
        entry
    };
    put_bytes(&mut metadata, 11, &entry("owner", b"helm"));
    put_bytes(&mut secret, 1, &metadata);
    put_bytes(&mut secret, 2, &entry("release", b"H4sI"));
    put_bytes(&mut secret, 3, b"helm.sh/release.v1");
    let (mut type_meta, mut document) = (Vec::new(), PREFIX.to_vec());
    put_bytes(&mut type_meta, 1, b"v1");
    put_bytes(&mut type_meta, 2, b"Secret");
    put_bytes(&mut document, 1, &type_meta);
    put_bytes(&mut document, 2, &secret);
    put_bytes(&mut document, 3, b"");
    put_bytes(&mut document, 4, b"");
    let expected = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": { "name": "sh.helm.release.v1.web.v1", "labels": { "owner": "helm" } },
        "data": { "release": "SDRzSQ==" },
        "type": "helm.sh/release.v1",
    });
    assert_eq!(decode(&document).unwrap(), expected);

    let mut deployment = Vec::new();
    let mut spec = Vec::new();
    wire::put_number(&mut spec, 1, 0);
    wire::put_number(&mut spec, 5, 0);
    put_bytes(&mut deployment, 2, &spec);
    let read = decode::object(schema::of("apps/v1", "Deployment").unwrap(), &deployment).unwrap();
    assert_eq!(
        Value::Object(read),
        json!({ "spec": { "replicas": 0 } }),
        "replicas is a pointer, minReadySeconds is not"
    );
}

#[test]
fn reports_what_is_not_a_document() {
    assert_eq!(decode(b"{}"), Err(Failed::NoPrefix));
    let (mut type_meta, mut document) = (Vec::new(), PREFIX.to_vec());
    put_bytes(&mut type_meta, 1, b"example.com/v1");
    put_bytes(&mut type_meta, 2, b"Widget");
    put_bytes(&mut document, 1, &type_meta);
    let error = decode(&document).unwrap_err().to_string();
    assert!(error.starts_with("no kind \"Widget\" is registered for version \"example.com/v1\""), "{error}");
    assert!(encode(&json!({ "apiVersion": "example.com/v1", "kind": "Widget" })).is_none());
    let wrong = encode(&json!({ "apiVersion": "v1", "kind": "Pod", "spec": { "nodeName": 1 } })).unwrap();
    assert_eq!(wrong, Err(Unsupported("spec.nodeName".to_owned())));
}
