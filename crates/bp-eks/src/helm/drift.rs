//! Detect drift of a release: its state, its workloads and digests, and what was changed outside of helm.

use std::collections::BTreeMap;

use bp_artifact::{
    ResolvedImage,
    config::Workload,
    deploy::{Change, Drift, Proof},
};
use kube::core::DynamicObject;
use serde_json::Value;

use super::{
    context::Release,
    error::HelmError,
    manifest::{self, ManifestContainer, containers, parse_objects},
    rollback::main_image,
};
use crate::{error::Error, workload};

/// The maximum number of reported fields of a workload that kubectl changed.
const FIELDS: usize = 20;
/// The annotation that `kubectl rollout restart` sets; helm keeps it, and it changes nothing else.
const RESTARTED: &str = "f:kubectl.kubernetes.io/restartedAt";
/// The field managers of changes by hand begin with this.
const BY_HAND: &str = "kubectl";

impl Release {
    pub(super) async fn drift(&self, image: &ResolvedImage) -> Result<Drift, HelmError> {
        let helm = self.program(None).await?;
        let history = self.history(&helm).await?;
        let last = history.last().ok_or_else(|| self.not_found())?;
        let manifest = self.manifest(&helm, Some(last.revision)).await?;
        let objects = parse_objects(&manifest, "get manifest")?;
        let places: Vec<ManifestContainer> = objects.iter().flat_map(containers).collect();
        let mut proof = Proof::default();
        let (mut definition, mut service, mut notes) = (Vec::new(), Vec::new(), Vec::new());
        if last.status != "deployed" {
            let (wanted, found) = (Some("deployed".to_owned()), Some(last.status.clone()));
            service.push(Change::new(format!("revision {} of the release", last.revision), wanted, found));
        }
        let mut ours: Vec<&ManifestContainer> =
            places.iter().filter(|place| place.is(image.digest())).collect();
        if ours.is_empty() {
            let found = main_image(&places);
            let path = "the image in the manifest of the release";
            definition.push(Change::new(path, Some(image.reference.to_string()), Some(found.clone())));
            ours = places.iter().filter(|place| place.image == found).collect();
        }
        for place in ours {
            let Some(workload) = &place.workload else { continue };
            let of_workload = self.target(workload, place).drift(image).await?;
            let shown = self.shown(workload, place);
            definition.extend(of_workload.definition.into_iter().map(|change| of(&shown, change)));
            service.extend(of_workload.service.into_iter().map(|change| of(&shown, change)));
            proof.observations.extend(of_workload.proof.observations);
            notes.extend(of_workload.notes.into_iter().map(|note| format!("{shown}: {note}")));
        }
        for object in &objects {
            let Some(workload) = manifest::workload(object) else { continue };
            if !workload::of(workload.kind).runs_to_completion {
                for change in self.changed_by_hand(object, &workload, image).await? {
                    match definition.iter_mut().find(|known| known.path == change.path) {
                        // With the manager.
                        Some(known) => known.to = change.to,
                        None => definition.push(change),
                    }
                }
            }
        }
        Ok(Drift { definition, service, notes, ..Drift::of_proof(self.id.clone(), image, proof) })
    }

    /// What was changed outside of helm, and what it kept, in the workloads of a manifest; without those that cannot be
    /// read.
    pub(super) async fn kept_by_helm(&self, manifest: &str, image: &ResolvedImage) -> Vec<Change> {
        let mut changes = Vec::new();
        for object in parse_objects(manifest, "get manifest").unwrap_or_default() {
            let workload = manifest::workload(&object);
            let workload = workload.filter(|workload| !workload::of(workload.kind).runs_to_completion);
            if let Some(workload) = workload {
                let found = self.changed_by_hand(&object, &workload, image).await;
                changes.extend(found.into_iter().flatten());
            }
        }
        changes
    }

    /// How a live workload differs from its manifest: images and variables of its containers, and the fields that were
    /// changed with kubectl, which helm keeps if its chart does not have them.
    async fn changed_by_hand(
        &self,
        object: &Value,
        workload: &Workload,
        image: &ResolvedImage,
    ) -> Result<Vec<Change>, HelmError> {
        let kind = workload::of(workload.kind);
        let scope = self.scope_of(manifest::namespace(object).as_deref());
        let api = scope.dynamic(&(kind.resource)());
        let found = api.get_opt(&workload.name).await;
        let found = found.map_err(|e| -> Error {
            scope.object(workload.kind.name(), &workload.name).error(kind.calls.get, e)
        })?;
        let shown = match manifest::namespace(object).filter(|other| *other != self.scope.namespace) {
            Some(namespace) => format!("{workload} in the namespace {namespace}"),
            None => workload.to_string(),
        };
        let Some(live) = found else {
            return Ok(vec![Change::new(shown, Some("in the chart".to_owned()), None)]);
        };
        let mut changes = differences(object, &live.data, image);
        let known: Vec<String> = changes.iter().map(|change| change.path.clone()).collect();
        changes.extend(kept(object, &live).into_iter().filter(|change| !known.contains(&change.path)));
        Ok(changes.into_iter().map(|change| of(&shown, change)).collect())
    }
}

/// A change of a part of the release.
fn of(part: &str, change: Change) -> Change {
    Change::new(format!("{part}: {}", change.path), change.from, change.to)
}

/// The containers' images and variables that differ from the manifest. The containers that get the image are compared
/// by their own rules.
fn differences(object: &Value, live: &Value, image: &ResolvedImage) -> Vec<Change> {
    let live_containers: BTreeMap<String, ManifestContainer> = {
        let live = serde_json::json!({ "kind": object["kind"], "spec": live["spec"] });
        containers(&live).into_iter().map(|place| (place.container.clone(), place)).collect()
    };
    let mut changes = Vec::new();
    for place in containers(object) {
        let path = format!("spec.template.spec.containers[{}]", place.container);
        let Some(found) = live_containers.get(&place.container) else {
            changes.push(Change::new(path, Some(place.image), None));
            continue;
        };
        if found.image != place.image && !place.is(image.digest()) {
            let path = format!("{path}.image");
            changes.push(Change::new(path, Some(place.image.clone()), Some(found.image.clone())));
        }
        for (name, value) in &place.environment {
            let found = found.environment.iter().find(|(found, _)| found == name).map(|(_, value)| value);
            if found != Some(value) {
                let path = format!("{path}.env[{name}].value");
                changes.push(Change::new(path, Some(value.clone()), found.cloned()));
            }
        }
    }
    changes
}

/// The fields of the specification that kubectl owns and whose values are not those of the manifest.
fn kept(object: &Value, live: &DynamicObject) -> Vec<Change> {
    let mut changes = Vec::new();
    for entry in live.metadata.managed_fields.iter().flatten() {
        let manager = entry.manager.as_deref().unwrap_or_default();
        if !manager.starts_with(BY_HAND) || entry.subresource.as_deref().is_some_and(|s| !s.is_empty()) {
            continue;
        }
        let Some(owned) = entry.fields_v1.as_ref().map(|fields| &fields.0["f:spec"]) else { continue };
        // The immutable selector belongs to the manager that created the workload, before helm took it over.
        if !owned["f:selector"].is_null() {
            continue;
        }
        let mut found = Vec::new();
        let spec =
            Field { path: "spec".to_owned(), live: Some(&live.data["spec"]), chart: Some(&object["spec"]) };
        collect(spec, owned, &mut found);
        changes.extend(found.into_iter().map(|field| {
            let chart = field.chart.map(shown);
            let value = field.live.map(shown).unwrap_or_default();
            Change::new(field.path, chart, Some(format!("{value} (set with {manager})")))
        }));
    }
    changes.sort_by(|one, other| one.path.cmp(&other.path));
    changes.dedup_by(|one, other| one.path == other.path);
    if changes.len() > FIELDS {
        let more = format!("{} more fields", changes.len() - FIELDS);
        changes.truncate(FIELDS);
        changes.push(Change::new(more, None, Some("changed with kubectl".to_owned())));
    }
    changes
}

/// A field of a workload, live and in the chart.
struct Field<'f> {
    path: String,
    live: Option<&'f Value>,
    chart: Option<&'f Value>,
}

/// Collects the owned leaves that differ. `owned` is a tree of `f:<field>` and `k:<key of a list item>`.
fn collect<'f>(field: Field<'f>, owned: &Value, found: &mut Vec<Field<'f>>) {
    let Some(owned) = owned.as_object() else { return };
    let mut is_leaf = true;
    for (name, below) in owned.iter().filter(|(name, _)| name.as_str() != RESTARTED) {
        let inner = if let Some(name) = name.strip_prefix("f:") {
            let path = format!("{}.{name}", field.path);
            Field { path, live: field.live.map(|v| &v[name]), chart: field.chart.map(|v| &v[name]) }
        } else if let Some(key) = name.strip_prefix("k:") {
            let Ok(Value::Object(key)) = serde_json::from_str::<Value>(key) else { continue };
            let item = |list: &'f Value| {
                let mut items = list.as_array().into_iter().flatten();
                items.find(|item| key.iter().all(|(name, value)| item[name] == *value))
            };
            let words: Vec<String> = key.values().map(shown).collect();
            let path = format!("{}[{}]", field.path, words.join(","));
            Field { path, live: field.live.and_then(item), chart: field.chart.and_then(item) }
        } else {
            continue;
        };
        is_leaf = false;
        collect(inner, below, found);
    }
    let Field { live, chart, .. } = &field;
    let of = |value: &Option<&'f Value>| value.filter(|value| !value.is_null());
    if is_leaf && !owned.contains_key(RESTARTED) && of(live).is_some() && of(live) != of(chart) {
        let (live, chart) = (of(live), of(chart));
        found.push(Field { live, chart, ..field });
    }
}

fn shown(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    bp_artifact::text::truncate(&text, 200).into_owned()
}

#[cfg(test)]
mod tests {
    use bp_artifact::{Digest, DigestRef};
    use serde_json::json;

    use super::*;

    fn image() -> ResolvedImage {
        format!("r.example.com/web@{}", Digest::sha256("web")).parse::<DigestRef>().unwrap().into()
    }

    fn chart(image: &ResolvedImage) -> Value {
        json!({ "kind": "Deployment", "metadata": { "name": "web" }, "spec": { "replicas": 2, "template": { "spec": {
            "containers": [
                { "name": "web", "image": image.reference.to_string(), "env": [{ "name": "MODE", "value": "prod" }] },
                { "name": "proxy", "image": "envoy:1" },
            ],
        } } } })
    }

    fn live(chart: &Value, change: impl FnOnce(&mut Value), owned: Value) -> DynamicObject {
        let mut spec = chart["spec"].clone();
        change(&mut spec);
        let fields = |manager: &str, owned: &Value| {
            json!({ "manager": manager, "operation": "Update", "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
                "fieldsV1": owned })
        };
        serde_json::from_value(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": "web", "managedFields": [
                fields("helm", &json!({ "f:spec": { "f:replicas": {} } })),
                fields("kubectl-edit", &owned),
            ] },
            "spec": spec,
        }))
        .unwrap()
    }

    #[test]
    fn fields_changed_with_kubectl_are_reported_with_their_value_and_manager() {
        let image = image();
        let chart = chart(&image);
        let owned = json!({ "f:spec": { "f:replicas": {}, "f:template": {
            "f:metadata": { "f:annotations": { ".": {}, "f:kubectl.kubernetes.io/restartedAt": {} } },
            "f:spec": { "f:containers": { "k:{\"name\":\"web\"}": {
                "f:env": { "k:{\"name\":\"DEBUG\"}": { ".": {}, "f:name": {}, "f:value": {} } },
            } } },
        } } });
        let live = live(
            &chart,
            |spec| {
                let debug = json!({ "name": "DEBUG", "value": "1" });
                spec["template"]["spec"]["containers"][0]["env"].as_array_mut().unwrap().push(debug);
                spec["template"]["metadata"] =
                    json!({ "annotations": { "kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z" } });
            },
            owned,
        );
        let changes: Vec<String> = kept(&chart, &live).iter().map(ToString::to_string).collect();
        let env = "spec.template.spec.containers[web].env[DEBUG]";
        assert_eq!(
            changes,
            [
                format!("+ {env}.name: DEBUG (set with kubectl-edit)"),
                format!("+ {env}.value: 1 (set with kubectl-edit)"),
            ]
        );
        assert_eq!(differences(&chart, &live.data, &image), []);
    }

    #[test]
    fn images_and_variables_that_differ_from_the_manifest_are_drift() {
        let image = image();
        let chart = chart(&image);
        let live = live(
            &chart,
            |spec| {
                let containers = spec["template"]["spec"]["containers"].as_array_mut().unwrap();
                containers[0]["env"] = json!([{ "name": "MODE", "value": "debug" }]);
                containers[1]["image"] = "envoy:2".into();
                // An injected sidecar is not in the chart.
                containers.push(json!({ "name": "mesh", "image": "mesh:1" }));
            },
            json!({ "f:spec": { "f:paused": {} } }),
        );
        let changes: Vec<String> =
            differences(&chart, &live.data, &image).iter().map(ToString::to_string).collect();
        assert_eq!(
            changes,
            [
                "~ spec.template.spec.containers[web].env[MODE].value: prod -> debug",
                "~ spec.template.spec.containers[proxy].image: envoy:1 -> envoy:2",
            ]
        );
        assert_eq!(kept(&chart, &live), [], "the field that kubectl owns does not exist any more");

        let created = json!({ "f:spec": { "f:selector": {}, "f:replicas": {}, "f:minReadySeconds": {} } });
        let live = self::live(&chart, |spec| spec["minReadySeconds"] = 5.into(), created);
        assert_eq!(kept(&chart, &live), [], "created with kubectl, and taken over by helm");
    }
}
