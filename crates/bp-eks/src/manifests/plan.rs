//! The plan: what a server-side dry run of every object would create or change, and what it refuses.

use std::{collections::BTreeSet, fmt};

use bp_artifact::{ResolvedImage, deploy::Change, error::chain, text};
use futures_util::{StreamExt, TryStreamExt, stream};
use kube::core::DynamicObject;
use serde::Serialize;
use serde_json::Value;

use super::{
    context::{Context, Item},
    error::{ManifestProblem, ManifestsError},
    object::LAST_APPLIED,
};
use crate::{
    error::{Conflict, Error},
    workload::Live,
};

/// The number of objects that are asked for concurrently.
const CONCURRENT: usize = 8;
/// The maximum number of changes of an object that are shown, and their length.
const SHOWN: usize = 40;
const LONGEST: usize = 160;
const HIDDEN: &str = "<hidden>";

/// What a deployment would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ManifestPlan {
    /// The objects, in the order in which they are applied.
    pub objects: Vec<PlannedObject>,
    /// Images without a digest, which are allowed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// What would become of one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PlannedObject {
    /// The object, such as `deployment/web`.
    pub object: String,
    /// What would be done.
    pub action: PlannedAction,
    /// The fields that would change. Values of Secrets are hidden.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// Why it could not be checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What would be done with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PlannedAction {
    /// It would be created.
    Create,
    /// Some fields would change.
    Change,
    /// Nothing would change.
    Keep,
    /// It exists, and the dry run could not be done, as with a webhook that does not support it.
    Unknown,
}

impl ManifestPlan {
    /// Whether anything would change.
    pub fn changes(&self) -> bool {
        self.objects.iter().any(|object| object.action != PlannedAction::Keep)
    }
}

impl fmt::Display for PlannedObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let action = match self.action {
            PlannedAction::Create => "created",
            PlannedAction::Change => "changed",
            PlannedAction::Keep => "unchanged",
            PlannedAction::Unknown => "unknown",
        };
        write!(f, "{}: {action}", self.object)?;
        if let Some(note) = &self.note {
            write!(f, " ({note})")?;
        }
        self.changes.iter().try_for_each(|change| write!(f, "\n  {change}"))
    }
}

impl fmt::Display for ManifestPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines: Vec<String> = self.objects.iter().map(ToString::to_string).collect();
        lines.extend(self.tags.iter().map(|tag| format!("image without a digest, which is allowed: {tag}")));
        f.write_str(&lines.join("\n"))
    }
}

/// The result of the dry run of one object.
pub(super) struct Planned {
    pub(super) shown: PlannedObject,
    /// The object before.
    pub(super) before: Option<DynamicObject>,
    problem: Option<ManifestProblem>,
    /// Whether the pod template would change.
    pub(super) rolls_out: bool,
}

impl Context {
    /// The plan of a deployment of `image`.
    pub(super) async fn plan(&self, image: &ResolvedImage) -> Result<ManifestPlan, ManifestsError> {
        let items = self.prepare(image).await?;
        let planned = self.dry_run(&items).await?;
        let objects = planned.into_iter().map(|planned| planned.shown).collect();
        Ok(ManifestPlan { objects, tags: self.tags(&items) })
    }

    /// Asks for the result of applying each object.
    ///
    /// # Errors
    /// When objects are refused, or the cluster cannot be asked.
    pub(super) async fn dry_run(&self, items: &[Item]) -> Result<Vec<Planned>, ManifestsError> {
        let missing = self.missing_namespaces(items).await?;
        let asked: Vec<_> = items.iter().map(|item| self.planned(item, &missing)).collect();
        let planned: Vec<Planned> = stream::iter(asked).buffered(CONCURRENT).try_collect().await?;
        let problems: Vec<ManifestProblem> =
            planned.iter().filter_map(|planned| planned.problem.clone()).collect();
        if problems.is_empty() {
            return Ok(planned);
        }
        Err(ManifestsError::Invalid { problems, of: items.len() })
    }

    /// The namespaces that do not exist and are among the objects.
    async fn missing_namespaces(&self, items: &[Item]) -> Result<BTreeSet<String>, ManifestsError> {
        let mut missing = BTreeSet::new();
        let namespaces =
            items.iter().filter(|item| item.manifest.kind == "Namespace" && item.namespace.is_none());
        for item in namespaces {
            // Without permission to read it, the dry run of the objects in it shows whether it exists.
            match self.get(item).await {
                Ok(None) => drop(missing.insert(item.manifest.name.clone())),
                Ok(Some(_)) | Err(Error::Forbidden { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(missing)
    }

    async fn planned(&self, item: &Item, missing: &BTreeSet<String>) -> Result<Planned, ManifestsError> {
        let create = |note: Option<&str>| {
            let shown = PlannedObject {
                object: item.shown(&self.scope),
                action: PlannedAction::Create,
                changes: Vec::new(),
                note: note.map(str::to_owned),
            };
            Planned { shown, before: None, problem: None, rolls_out: true }
        };
        if item.namespace.as_ref().is_some_and(|namespace| missing.contains(namespace)) {
            return Ok(create(Some("not checked: its namespace is created first")));
        }
        if item.resource.is_pending {
            return Ok(create(Some("not checked: its definition is created first")));
        }
        let before = self.get(item).await?;
        let mut planned = match &before {
            None => create(None),
            Some(_) => {
                let mut planned = create(None);
                planned.shown.action = PlannedAction::Keep;
                planned.rolls_out = false;
                planned
            }
        };
        match self.ask(item).await {
            Ok((after, conflicts)) => {
                if !conflicts.is_empty() {
                    planned.problem = Some(self.problem(item, conflicts));
                }
                if let Some(before) = &before {
                    planned.shown.changes = changes(item, before, &after);
                    planned.rolls_out = template(before) != template(&after);
                    if !planned.shown.changes.is_empty() {
                        planned.shown.action = PlannedAction::Change;
                    }
                }
            }
            Err(Error::AdmissionRefused { source, .. })
                if source.to_string().contains("does not support dry run") =>
            {
                planned.shown.note = Some("a webhook does not support dry run".to_owned());
                if before.is_some() {
                    planned.shown.action = PlannedAction::Unknown;
                    planned.rolls_out = true;
                }
            }
            Err(Error::AdmissionRefused { source, .. }) => {
                planned.problem = Some(ManifestProblem {
                    object: item.shown(&self.scope),
                    at: item.manifest.at.clone(),
                    conflicts: Vec::new(),
                    message: refused(item, &chain(&*source)),
                });
            }
            Err(error) => return Err(error.into()),
        }
        if planned.rolls_out && planned.problem.is_none() {
            planned.problem = self.not_rolled_out(item, before.as_ref())?;
        }
        planned.before = before;
        Ok(planned)
    }

    /// The object after applying, and the conflicts that a deployment does not resolve.
    async fn ask(&self, item: &Item) -> Result<(DynamicObject, Vec<Conflict>), Error> {
        match self.patch(item, false, true).await {
            Err(Error::Conflict { conflicts, .. }) => {
                let after = self.patch(item, true, true).await?;
                let is_foreign = |conflict: &Conflict| !self.may_force(&conflict.manager);
                let foreign = conflicts.into_iter().filter(|c| is_foreign(c) && !self.options.take_over);
                Ok((after, foreign.collect()))
            }
            answered => Ok((answered?, Vec::new())),
        }
    }

    fn problem(&self, item: &Item, conflicts: Vec<Conflict>) -> ManifestProblem {
        let object = Box::new(self.object(item));
        let message = Error::Conflict { object, conflicts: conflicts.clone() }.to_string();
        ManifestProblem { object: item.shown(&self.scope), at: item.manifest.at.clone(), conflicts, message }
    }

    /// Why a changed workload would not be rolled out, as in a rollout: it is paused, or has an owner.
    fn not_rolled_out(
        &self,
        item: &Item,
        before: Option<&DynamicObject>,
    ) -> Result<Option<ManifestProblem>, ManifestsError> {
        let (Some(before), Some(target)) = (before, self.target(item)) else { return Ok(None) };
        let live: Live = target.0.api.read("get workloads", before.clone().into())?;
        if live.runs_to_completion() {
            return Ok(None);
        }
        match target.0.check(&live) {
            // Its pods are replaced when somebody deletes them.
            Ok(()) | Err(Error::OnDelete { .. }) => Ok(None),
            Err(error) => Ok(Some(ManifestProblem {
                object: item.shown(&self.scope),
                at: item.manifest.at.clone(),
                conflicts: Vec::new(),
                message: error.to_string(),
            })),
        }
    }
}

/// The message of a refusal. The API server quotes invalid values, which may be those of a Secret.
fn refused(item: &Item, message: &str) -> String {
    if item.manifest.is_secret() {
        return "the Secret is invalid; its values are not shown (kubectl apply --server-side --dry-run=server shows why)"
            .to_owned();
    }
    text::truncate(&text::single_line(message), 1000).into_owned()
}

fn template(object: &DynamicObject) -> &Value {
    let spec = &object.data["spec"];
    if spec["jobTemplate"].is_null() { &spec["template"] } else { &spec["jobTemplate"] }
}

/// The fields that differ, as they can be shown.
fn changes(item: &Item, before: &DynamicObject, after: &DynamicObject) -> Vec<Change> {
    let all = Change::between(&comparable(before), &comparable(after));
    let mut shown: Vec<Change> =
        all.into_iter().map(|change| shown(change, item.manifest.is_secret())).collect();
    if shown.len() > SHOWN {
        let more = shown.len() - SHOWN;
        shown.truncate(SHOWN);
        shown.push(Change::new(format!("({more} more fields)"), None, None));
    }
    shown
}

/// An object without what the API server sets and without its status.
fn comparable(object: &DynamicObject) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = value["metadata"].as_object_mut() {
        for field in
            ["managedFields", "resourceVersion", "generation", "creationTimestamp", "uid", "selfLink"]
        {
            metadata.remove(field);
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(LAST_APPLIED);
        }
    }
    value
}

fn shown(change: Change, is_secret: bool) -> Change {
    let is_hidden = is_secret && !change.path.starts_with("metadata.") && change.path != "type";
    let value = |value: Option<String>| {
        value.map(|value| {
            if is_hidden {
                return HIDDEN.to_owned();
            }
            text::truncate(&text::single_line(&value), LONGEST).into_owned()
        })
    };
    Change::new(text::single_line(&change.path), value(change.from), value(change.to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_secrets_are_hidden_and_long_values_shortened() {
        let change = |path: &str| Change::new(path, Some("hunter2".to_owned()), Some("x".repeat(500)));
        for path in ["data.url", "stringData.url", "data[a].key", "immutable"] {
            let hidden = shown(change(path), true);
            assert_eq!(
                (hidden.from.as_deref(), hidden.to.as_deref()),
                (Some(HIDDEN), Some(HIDDEN)),
                "{path}"
            );
        }
        let plain = shown(change("metadata.labels.app"), true);
        assert_eq!(plain.from.as_deref(), Some("hunter2"));
        assert!(plain.to.unwrap().chars().count() <= LONGEST);
        assert_eq!(shown(change("data.url"), false).from.as_deref(), Some("hunter2"));
    }
}
