//! `Table` responses for `kubectl get`, with the columns of the real server's printers.

mod age;
mod cells;
mod columns;
mod custom;
mod pod;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{call::Call, negotiation::metadata, resource::Resource, store::Object};

/// The part of each object that a row contains (`includeObject`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Objects {
    None,
    Metadata,
    Full,
}

impl Objects {
    pub(super) fn of(call: &Call<'_>) -> Self {
        match call.text("includeObject") {
            "None" => Objects::None,
            "Object" => Objects::Full,
            _ => Objects::Metadata,
        }
    }
}

/// The objects as a `Table`.
pub(super) fn table(call: &Call<'_>, objects: &[Object], list_metadata: Value, now: Timestamp) -> Value {
    let resource = call.resource();
    let mut table = rows(resource, objects, Objects::of(call), now);
    table["metadata"] = list_metadata;
    table["columnDefinitions"] = columns(resource);
    table
}

/// A `Table` without columns, as in all events of a watch but the first one.
pub(super) fn rows(resource: &Resource, objects: &[Object], included: Objects, now: Timestamp) -> Value {
    let row = |object: &Object| {
        let cells = match resource.custom {
            Some(definition) => custom::cells(definition, object, now),
            None => cells::cells(resource.kind, object, now),
        };
        let object = match included {
            Objects::None => Value::Null,
            Objects::Metadata => metadata(object),
            Objects::Full => Value::clone(object),
        };
        json!({ "cells": cells, "object": object })
    };
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {},
        "columnDefinitions": null,
        "rows": objects.iter().map(row).collect::<Vec<_>>(),
    })
}

/// The columns of a resource.
pub(super) fn columns(resource: &Resource) -> Value {
    if let Some(definition) = resource.custom {
        return custom::columns(definition);
    }
    let (narrow, wide) = columns::columns(resource.kind);
    let columns = narrow.iter().map(|name| (*name, 0)).chain(wide.iter().map(|name| (*name, 1)));
    columns
        .map(|(name, priority)| {
            columns::column(name, columns::priority(resource.kind, name).unwrap_or(priority))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{super::resource::Resources, *};

    #[test]
    fn every_row_has_a_cell_per_column() {
        for resource in Resources::default().all() {
            let columns = columns(resource);
            let object = json!({ "metadata": { "name": "x", "creationTimestamp": "2026-01-01T00:00:00Z" } });
            let table = rows(resource, &[Object::new(object)], Objects::Metadata, Timestamp::UNIX_EPOCH);
            let cells = table["rows"][0]["cells"].as_array().unwrap();
            assert_eq!(cells.len(), columns.as_array().unwrap().len(), "{}", resource.kind);
        }
    }
}
