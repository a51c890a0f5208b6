//! Custom resources: their definitions become resources of the API when they are established.

mod structural;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use serde_json::{Value, json};

pub(super) use self::structural::{complete, prune, violations};
use super::{
    definition::Definition,
    resource::Resource,
    store::Key,
    world::{World, condition},
};
use crate::sync::lock;

pub(super) const DEFINITIONS: &str = "customresourcedefinitions";

/// Sets the defaults of a definition.
pub(super) fn complete_definition(definition: &mut Value) {
    let spec = &mut definition["spec"];
    let kind = spec["names"]["kind"].as_str().unwrap_or_default().to_owned();
    for (field, value) in [("singular", kind.to_lowercase()), ("listKind", format!("{kind}List"))] {
        if spec["names"][field].is_null() {
            spec["names"][field] = json!(value);
        }
    }
    if spec["conversion"].is_null() {
        spec["conversion"] = json!({ "strategy": "None" });
    }
}

/// The invalid fields of a definition, with the reasons.
pub(super) fn validate_definition(definition: &Value) -> Vec<(String, String)> {
    let (spec, mut wrong) = (&definition["spec"], Vec::new());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let name = format!("{}.{}", text(&spec["names"]["plural"]), text(&spec["group"]));
    for (field, value) in [
        ("spec.group", &spec["group"]),
        ("spec.names.plural", &spec["names"]["plural"]),
        ("spec.names.kind", &spec["names"]["kind"]),
    ] {
        if text(value).is_empty() {
            wrong.push((field.to_owned(), "Required value".to_owned()));
        }
    }
    if text(&definition["metadata"]["name"]) != name {
        let why = format!(
            "Invalid value: {:?}: must be spec.names.plural+\".\"+spec.group",
            text(&definition["metadata"]["name"])
        );
        wrong.push(("metadata.name".to_owned(), why));
    }
    let scope = text(&spec["scope"]);
    if !matches!(scope.as_str(), "Namespaced" | "Cluster") {
        let why = format!("Unsupported value: {scope:?}: supported values: \"Cluster\", \"Namespaced\"");
        wrong.push(("spec.scope".to_owned(), why));
    }
    let versions = spec["versions"].as_array().map_or(&[][..], Vec::as_slice);
    if versions.iter().filter(|version| version["storage"] == true).count() != 1 {
        let why = "Invalid value: must have exactly one version marked as storage version".to_owned();
        wrong.push(("spec.versions".to_owned(), why));
    }
    for (at, version) in versions.iter().enumerate() {
        if !version["schema"]["openAPIV3Schema"].is_object() {
            let field = format!("spec.versions[{at}].schema.openAPIV3Schema");
            wrong.push((field, "Required value".to_owned()));
        }
    }
    wrong
}

/// Establishes new definitions, and removes the objects of those that no longer exist.
pub(super) fn reconcile(world: &mut World) {
    let definitions: Vec<_> = world.store.list(DEFINITIONS, "").cloned().collect();
    let before = world.resources.custom();
    if definitions.is_empty() && before.is_empty() {
        return;
    }
    let mut served = Vec::new();
    for definition in &definitions {
        let built_in = |resource: &&'static Resource| {
            super::resource::by_plural(resource.plural).is_none_or(|own| own.group != resource.group)
        };
        served.extend(resources(definition).into_iter().filter(built_in));
        establish(world, definition);
    }
    let stored: BTreeSet<&str> = served.iter().map(|resource| resource.stored).collect();
    world.resources.set_custom(served);
    let gone: BTreeSet<&'static str> =
        before.iter().map(|resource| resource.stored).filter(|name| !stored.contains(name)).collect();
    for name in gone {
        let keys: Vec<Key> = world.store.list(name, "").map(|object| key(name, object)).collect();
        keys.iter().for_each(|key| drop(world.remove(key)));
    }
}

fn key(stored: &'static str, object: &Value) -> Key {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    Key::new(stored, text("namespace"), text("name"))
}

fn establish(world: &mut World, definition: &Value) {
    let now = world.now;
    let name = definition["metadata"]["name"].as_str().unwrap_or_default();
    world.update(&Key::new(DEFINITIONS, "", name), |definition| {
        let (names, versions) = (definition["spec"]["names"].clone(), definition["spec"]["versions"].clone());
        let versions = versions.as_array().into_iter().flatten();
        let stored: Vec<&Value> =
            versions.filter(|version| version["storage"] == true).map(|version| &version["name"]).collect();
        let status = &mut definition["status"];
        condition(status, "NamesAccepted", "True", "NoConflicts", "no conflicts found", now);
        let why = "the initial names have been accepted";
        condition(status, "Established", "True", "InitialNamesAccepted", why, now);
        status["acceptedNames"] = names;
        status["storedVersions"] = json!(stored);
    });
}

/// The resources of a definition, one per served version.
fn resources(definition: &Value) -> Vec<&'static Resource> {
    let versions = definition["spec"]["versions"].as_array().into_iter().flatten();
    versions
        .filter(|version| version["served"] == true)
        .map(|version| resource(&definition["spec"], version))
        .collect()
}

/// The resource of a version. Resources are never freed, so that they are references everywhere; equal ones are the same.
fn resource(spec: &Value, version: &Value) -> &'static Resource {
    static KNOWN: Mutex<BTreeMap<String, &'static Resource>> = Mutex::new(BTreeMap::new());
    let versions = spec["versions"].as_array().into_iter().flatten();
    let stored_version = versions.clone().find(|version| version["storage"] == true);
    let stored_version = stored_version.and_then(|version| version["name"].as_str()).unwrap_or_default();
    let identity =
        format!("{} {} {} {stored_version} {version}", spec["group"], spec["names"], spec["scope"]);
    let mut known = lock(&KNOWN);
    if let Some(resource) = known.get(&identity) {
        return resource;
    }
    let text = |value: &Value| -> &'static str { value.as_str().unwrap_or_default().to_owned().leak() };
    let texts = |value: &Value| -> &'static [&'static str] {
        value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>().leak()
    };
    let names = &spec["names"];
    let subresources = &version["subresources"];
    let definition = Definition {
        singular: names["singular"].as_str().unwrap_or_default().to_owned(),
        list_kind: names["listKind"].as_str().unwrap_or_default().to_owned(),
        schema: version["schema"]["openAPIV3Schema"].clone(),
        columns: version["additionalPrinterColumns"].as_array().cloned().unwrap_or_default(),
        scale: subresources["scale"].clone(),
        stored_version: format!("{}/{stored_version}", spec["group"].as_str().unwrap_or_default()),
    };
    let (group, plural) = (text(&spec["group"]), text(&names["plural"]));
    let resource: &'static Resource = Box::leak(Box::new(Resource {
        group,
        version: text(&version["name"]),
        plural,
        kind: text(&names["kind"]),
        short: texts(&names["shortNames"]),
        namespaced: spec["scope"] == "Namespaced",
        subresources: match (subresources["status"].is_object(), subresources["scale"].is_object()) {
            (true, true) => &["scale", "status"],
            (true, false) => &["status"],
            (false, true) => &["scale"],
            (false, false) => &[],
        },
        categories: texts(&names["categories"]),
        stored: format!("{plural}.{group}").leak(),
        custom: Some(Box::leak(Box::new(definition))),
    }));
    known.insert(identity, resource);
    resource
}
