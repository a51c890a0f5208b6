//! The JSON Schema of `--output json`, `docs/schema/output.schema.json`, generated from the types of events and results.

mod validator;

use bp_artifact::{
    Artifact, Outcome, ResolvedImage, Verdict,
    deploy::{
        Cause, DeployEvent, Drift, FailureReport, Receipt, TargetId,
        preflight::{Finding, FindingState, Preflight},
        status::Status,
    },
    saga::SagaEvent,
};
use bp_promote::copy::{CopyEvent, RunReport};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Value, json};
use validator::errors;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/schema/output.schema.json");

/// An event of a deployment or a copy.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[allow(dead_code, reason = "only its schema is used")]
enum Event {
    Deployment(SagaEvent),
    Copy(CopyEvent),
}

/// The schema of a line, with the results of the commands as definitions.
fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let event = generator.subschema_for::<Event>();
    for schema in [
        generator.subschema_for::<Artifact>(),
        generator.subschema_for::<Drift>(),
        generator.subschema_for::<Outcome>(),
        generator.subschema_for::<Preflight>(),
        generator.subschema_for::<Receipt>(),
        generator.subschema_for::<RunReport>(),
        generator.subschema_for::<Status>(),
    ] {
        assert!(schema.as_value()["$ref"].is_string(), "{schema:?}");
    }
    let line = |kind: &str, data: Value| json!({ "properties": { "type": { "const": kind }, "data": data }, "required": ["type", "data"] });
    let results = "Of deploy-ecs, deploy-eks, deploy-helm, deploy-manifests, wait, run-task and rollback of one target \
                   Outcome; of dual-deploy and rollback Receipt; of verify Drift, a line for each target; of status \
                   an object whose `status` is Status, a line for each target; of --check an object whose `preflight` is \
                   Preflight; of promote and copy RunReport; of emit-artifact Artifact.";
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A line of --output json",
        "type": "object",
        "oneOf": [
            line("event", event.to_value()),
            line("result", json!({ "description": results })),
            line("error", json!({ "type": "string", "description": "The error that ends the command." })),
        ],
        "$defs": generator.take_definitions(true),
    })
}

#[test]
fn the_committed_schema_matches_the_types() {
    let schema = schema();
    if std::env::var_os("BP_WRITE_SCHEMA").is_some() {
        std::fs::write(PAGE, format!("{schema:#}\n")).unwrap();
    }
    let committed: Value = serde_json::from_str(&std::fs::read_to_string(PAGE).unwrap()).unwrap();
    assert!(committed == schema, "update it: BP_WRITE_SCHEMA=1 cargo test -p bp-delivery --test schema");
}

fn of(definition: &str) -> Value {
    let mut schema = schema();
    schema.as_object_mut().unwrap().remove("oneOf");
    schema["$ref"] = json!(format!("#/$defs/{definition}"));
    schema
}

#[test]
fn events_and_results_are_valid() {
    let image = ResolvedImage::from(
        "r.example.com/web".parse::<bp_artifact::Repository>().unwrap().at(bp_artifact::Digest::sha256("x")),
    );
    let target = TargetId::new("ecs/prod/web");
    let failure = FailureReport::new(Cause::SecretMissing, "no such secret");
    let event = DeployEvent::Failing { target: target.clone(), failure };
    for event in [
        serde_json::to_value(&event).unwrap(),
        serde_json::to_value(SagaEvent::Target(event)).unwrap(),
        serde_json::to_value(SagaEvent::Ended { verdict: Verdict::Deployed }).unwrap(),
        serde_json::to_value(DeployEvent::Finished { outcome: Box::new(Outcome::unproven(target.clone())) })
            .unwrap(),
    ] {
        let line = json!({ "type": "event", "data": event });
        assert_eq!(errors(&schema(), &line), Vec::<String>::new(), "{line:#}");
    }
    let drift = Drift::of_proof(target.clone(), &image, bp_artifact::deploy::Proof::default());
    let finding = Finding::new("role x", FindingState::Denied, "m");
    let preflight = Preflight::new(target.clone(), vec![finding]);
    for (definition, value) in [
        ("Drift", serde_json::to_value(drift).unwrap()),
        ("Preflight", serde_json::to_value(preflight).unwrap()),
        ("Status", serde_json::to_value(Status::new(target.clone())).unwrap()),
        ("Outcome", serde_json::to_value(Outcome::unproven(target)).unwrap()),
        ("Artifact", serde_json::to_value(Artifact::default()).unwrap()),
    ] {
        assert_eq!(errors(&of(definition), &value), Vec::<String>::new(), "{definition}: {value:#}");
    }
}

#[test]
fn other_values_are_invalid() {
    for (line, reason) in [
        (json!({ "type": "event", "data": { "event": "no-such-event" } }), "oneOf"),
        (json!({ "type": "event", "data": { "event": "ended", "verdict": "perfect" } }), "oneOf"),
        (json!({ "type": "error", "data": 7 }), "oneOf"),
        (json!({ "type": "other", "data": {} }), "oneOf"),
        (json!([]), "type"),
    ] {
        let found = errors(&schema(), &line);
        assert!(found.iter().any(|error| error.contains(reason)), "{line}: {found:?}");
    }
    let missing = errors(&of("Outcome"), &json!({ "target": "ecs/a/b" }));
    assert!(missing.iter().any(|error| error.contains("verdict")), "{missing:?}");
}
