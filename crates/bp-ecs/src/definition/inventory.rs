//! The inventory: the names of what an overlay set, noted in the revision itself, so that a later overlay that no longer
//! has them removes them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Overlay, TaskDefinition};
use crate::error::Error;

/// The docker label of a container that has its inventory.
const LABEL: &str = "dev.bp.set";
/// The driver `awslogs` is refused without these: they stay as they were set last.
const REQUIRED: [&str; 3] = ["awslogs-group", "awslogs-region", "awslogs-stream-prefix"];

/// What was set, by the names of `bp.toml`. Never a value.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Inventory {
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    environment: BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    secrets: BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    log_options: BTreeSet<String>,
    /// Tags are the revision's; one of its containers has their names.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    tags: BTreeSet<String>,
}

type Named = BTreeMap<String, Option<String>>;

/// The names that are set, not taken away.
fn set(all: &Named) -> BTreeSet<String> {
    all.iter().filter(|(_, value)| value.is_some()).map(|(name, _)| name.clone()).collect()
}

/// Takes away what was set before and is not named now.
fn take_away<'a>(all: &mut Named, before: impl IntoIterator<Item = &'a String>) {
    for name in before {
        all.entry(name.clone()).or_default();
    }
}

impl Inventory {
    /// That of a container. Empty when there is none, or it cannot be read: then nothing is known to be ours.
    fn of(container: &Value) -> Self {
        let label = container["dockerLabels"][LABEL].as_str().unwrap_or_default();
        serde_json::from_str(label).unwrap_or_default()
    }

    fn note(&self, container: &mut Value) {
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
    /// The same, and it takes away what was set by an earlier one that noted this in `definition`.
    fn in_place_of_earlier(&self, definition: &TaskDefinition) -> Self {
        let mut overlay = self.clone();
        for container in definition.containers() {
            let before = Inventory::of(container);
            if before == Inventory::default() {
                continue;
            }
            take_away(&mut overlay.tags, &before.tags);
            let over = overlay.containers.entry(container["name"].as_str().unwrap_or_default().to_owned());
            let over = over.or_default();
            take_away(&mut over.variables, &before.environment);
            take_away(&mut over.secrets, &before.secrets);
            let logs = &container["logConfiguration"];
            let stays = |name: &&String| logs["logDriver"] == "awslogs" && REQUIRED.contains(&name.as_str());
            if logs["options"].is_object() {
                take_away(&mut over.log_options, before.log_options.iter().filter(|name| !stays(name)));
            }
        }
        overlay
    }
}

impl TaskDefinition {
    /// The same definition as `overlay` has it: what an earlier overlay set and this one does not is removed, and what this
    /// one sets is noted; the tags in `container`.
    ///
    /// # Errors
    /// As [`with`](Self::with).
    pub(crate) fn overlaid(&self, overlay: &Overlay, container: &str) -> Result<Self, Error> {
        let mut changed = self.with(&overlay.in_place_of_earlier(self))?;
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
            inventory.note(item);
        }
        changed.arn = self.arn.clone().filter(|_| changed.is_same(self));
        Ok(changed)
    }

    /// The same without an inventory, as of a file, which is whole.
    pub(crate) fn without_inventory(mut self) -> Self {
        for at in 0..self.containers().len() {
            Inventory::default().note(&mut self.input["containerDefinitions"][at]);
        }
        self
    }
}
