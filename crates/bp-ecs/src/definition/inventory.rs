//! Inventory: the names of the settings that an overlay applied, recorded in the revision itself, so that a later
//! overlay without them removes them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Overlay, TaskDefinition};
use crate::error::Error;

/// The docker label that contains a container's inventory.
const LABEL: &str = "dev.bp.set";
/// Options that the driver `awslogs` requires: they are never removed.
const REQUIRED: [&str; 3] = ["awslogs-group", "awslogs-region", "awslogs-stream-prefix"];

/// The names of the applied settings, as in `bp.toml`, without values.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Inventory {
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    environment: BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    secrets: BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    log_options: BTreeSet<String>,
    /// Tags belong to the revision; one of its containers records their names.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    tags: BTreeSet<String>,
}

type Named = BTreeMap<String, Option<String>>;

/// The names with a value, without those to remove.
fn set(all: &Named) -> BTreeSet<String> {
    all.iter().filter(|(_, value)| value.is_some()).map(|(name, _)| name.clone()).collect()
}

/// Marks names that were set before and are missing now for removal.
fn remove_missing<'a>(all: &mut Named, before: impl IntoIterator<Item = &'a String>) {
    for name in before {
        all.entry(name.clone()).or_default();
    }
}

impl Inventory {
    /// The inventory of a container. Empty when it is missing or unreadable, so that nothing is removed.
    fn of(container: &Value) -> Self {
        let label = container["dockerLabels"][LABEL].as_str().unwrap_or_default();
        serde_json::from_str(label).unwrap_or_default()
    }

    fn write_to(&self, container: &mut Value) {
        if *self != Inventory::default() {
            container["dockerLabels"][LABEL] = json!(json!(self).to_string());
        } else if let Some(labels) = container["dockerLabels"].as_object_mut() {
            labels.remove(LABEL);
            if labels.is_empty() {
                container.as_object_mut().map(|container| container.remove("dockerLabels"));
            }
        }
    }
}

impl Overlay {
    /// A copy that also removes the settings of an earlier overlay, recorded in `definition`.
    fn replacing_earlier(&self, definition: &TaskDefinition) -> Self {
        let mut overlay = self.clone();
        for container in definition.containers() {
            let before = Inventory::of(container);
            if before == Inventory::default() {
                continue;
            }
            remove_missing(&mut overlay.tags, &before.tags);
            let over = overlay.containers.entry(container["name"].as_str().unwrap_or_default().to_owned());
            let over = over.or_default();
            remove_missing(&mut over.variables, &before.environment);
            remove_missing(&mut over.secrets, &before.secrets);
            let logs = &container["logConfiguration"];
            let is_required =
                |name: &&String| logs["logDriver"] == "awslogs" && REQUIRED.contains(&name.as_str());
            if logs["options"].is_object() {
                remove_missing(
                    &mut over.log_options,
                    before.log_options.iter().filter(|name| !is_required(name)),
                );
            }
        }
        overlay
    }
}

impl TaskDefinition {
    /// A copy with `overlay` applied: settings of an earlier overlay that this one lacks are removed, and the names of
    /// its settings are recorded, those of tags in `container`.
    ///
    /// # Errors
    /// As [`with`](Self::with).
    pub(crate) fn overlaid(&self, overlay: &Overlay, container: &str) -> Result<Self, Error> {
        let mut changed = self.with(&overlay.replacing_earlier(self))?;
        for at in 0..self.containers().len() {
            let item = &mut changed.input["containerDefinitions"][at];
            let name = item["name"].as_str().unwrap_or_default();
            let mut inventory = Inventory::default();
            if let Some(over) = overlay.containers.get(name) {
                inventory.environment = set(&over.variables);
                inventory.secrets = set(&over.secrets);
                inventory.log_options = set(&over.log_options);
            }
            if name == container && !overlay.without_tags {
                inventory.tags = set(&overlay.tags);
            }
            inventory.write_to(item);
        }
        changed.arn = self.arn.clone().filter(|_| changed.is_same(self));
        Ok(changed)
    }

    /// A copy without an inventory, for a definition from a file, from which nothing is removed.
    pub(crate) fn without_inventory(mut self) -> Self {
        for at in 0..self.containers().len() {
            Inventory::default().write_to(&mut self.input["containerDefinitions"][at]);
        }
        self
    }
}
