//! Overlay of a task definition per environment: images, variables, secrets, sizes, log options, tags.

use std::collections::{BTreeMap, BTreeSet};

use bp_artifact::DigestRef;
use serde_json::{Map, Value, json};

use super::TaskDefinition;
use crate::error::Error;

/// The changes of an environment to a task definition. Everything else is kept.
///
/// ```
/// use bp_ecs::{ContainerOverlay, Overlay, TaskDefinition};
///
/// let definition = TaskDefinition::from_json("web.json", r#"{
///     "family": "web",
///     "containerDefinitions": [{ "name": "web", "image": "r.example.com/web:1",
///                                "environment": [{ "name": "MODE", "value": "test" }] }]
/// }"#)?;
/// let web = ContainerOverlay::default()
///     .variable("MODE", "live")
///     .variable("DEPLOY_PLATFORM", "ecs")
///     .secret("DB", "arn:aws:ssm:eu-central-1:111111111111:parameter/shop/db");
/// let live = definition.with(&Overlay::default().memory("1024").container("web", web))?;
/// let changes: Vec<String> = definition.changes(&live).iter().map(ToString::to_string).collect();
/// assert_eq!(changes, [
///     "+ containerDefinitions[web].environment[DEPLOY_PLATFORM].value: ecs",
///     "~ containerDefinitions[web].environment[MODE].value: test -> live",
///     "+ containerDefinitions[web].secrets[DB].valueFrom: arn:aws:ssm:eu-central-1:111111111111:parameter/shop/db",
///     "+ memory: 1024",
/// ]);
/// # Ok::<(), bp_ecs::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overlay {
    cpu: Option<String>,
    memory: Option<String>,
    pub(super) containers: BTreeMap<String, ContainerOverlay>,
    without_members: BTreeSet<String>,
    /// `None` removes the tag.
    pub(super) tags: BTreeMap<String, Option<String>>,
    pub(super) image_tags: BTreeMap<String, Option<String>>,
    pub(super) without_tags: bool,
}

/// The changes to one container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerOverlay {
    image: Option<DigestRef>,
    /// `None` removes the variable.
    pub(super) variables: BTreeMap<String, Option<String>>,
    pub(super) secrets: BTreeMap<String, Option<String>>,
    cpu: Option<u32>,
    memory: Option<u32>,
    memory_reservation: Option<u32>,
    pub(super) log_options: BTreeMap<String, Option<String>>,
}

impl Overlay {
    /// Sets the CPU units of the task, in the format of ECS: `256`, `.25 vCPU`.
    pub fn cpu(mut self, units: impl Into<String>) -> Self {
        self.cpu = Some(units.into());
        self
    }

    /// Sets the memory of the task, in the format of ECS: `512`, `1GB`.
    pub fn memory(mut self, size: impl Into<String>) -> Self {
        self.memory = Some(size.into());
        self
    }

    /// Sets the changes to the container `name`; the last call wins.
    pub fn container(mut self, name: impl Into<String>, overlay: ContainerOverlay) -> Self {
        self.containers.insert(name.into(), overlay);
        self
    }

    /// Removes a member that this version does not support, by its name in
    /// [`Error::UnknownFields`](crate::Error::UnknownFields). Until then a new revision is refused, because registering
    /// could drop the member.
    pub fn without_member(mut self, name: impl Into<String>) -> Self {
        self.without_members.insert(name.into());
        self
    }

    /// Sets a tag of the revision. Characters that AWS does not allow are replaced with `_`.
    pub fn tag(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.insert(name.into(), Some(value.into()));
        self
    }

    /// Removes a tag.
    pub fn without_tag(mut self, name: impl Into<String>) -> Self {
        self.tags.insert(name.into(), None);
        self
    }

    /// Sets a tag about the image, such as its commit: a deployment of another image sets it, or removes it if the
    /// value is unknown. A [`tag`](Self::tag) of the same name takes precedence.
    pub fn image_tag(mut self, name: impl Into<String>, value: Option<String>) -> Self {
        self.image_tags.insert(name.into(), value);
        self
    }

    /// Registers without any tags, including those of the previous revision: for callers without `ecs:TagResource`.
    pub fn without_tags(mut self) -> Self {
        self.without_tags = true;
        self
    }

    /// Whether [`without_tags`](Self::without_tags) was called.
    pub(crate) fn has_no_tags(&self) -> bool {
        self.without_tags
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Overlay::default()
    }
}

impl ContainerOverlay {
    /// Sets the image of this container by digest: for a pinned sidecar.
    pub fn image(mut self, image: DigestRef) -> Self {
        self.image = Some(image);
        self
    }

    /// Sets an environment variable. Removes a secret of the same name, because ECS accepts only one of the two.
    pub fn variable(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.variables.insert(name.into(), Some(value.into()));
        self
    }

    /// Removes an environment variable.
    pub fn without_variable(mut self, name: impl Into<String>) -> Self {
        self.variables.insert(name.into(), None);
        self
    }

    /// Sets a secret by reference: an ARN or a parameter name. Removes a variable of the same name.
    pub fn secret(mut self, name: impl Into<String>, value_from: impl Into<String>) -> Self {
        self.secrets.insert(name.into(), Some(value_from.into()));
        self
    }

    /// Removes a secret.
    pub fn without_secret(mut self, name: impl Into<String>) -> Self {
        self.secrets.insert(name.into(), None);
        self
    }

    /// Sets the CPU units of this container.
    pub fn cpu(mut self, units: u32) -> Self {
        self.cpu = Some(units);
        self
    }

    /// Sets the hard memory limit of this container in MiB.
    pub fn memory(mut self, mib: u32) -> Self {
        self.memory = Some(mib);
        self
    }

    /// Sets the soft memory limit of this container in MiB.
    pub fn memory_reservation(mut self, mib: u32) -> Self {
        self.memory_reservation = Some(mib);
        self
    }

    /// Sets an option of the container's log driver, such as `awslogs-group`. The container must have a log driver.
    pub fn log_option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.log_options.insert(name.into(), Some(value.into()));
        self
    }

    /// Removes an option of the log driver.
    pub fn without_log_option(mut self, name: impl Into<String>) -> Self {
        self.log_options.insert(name.into(), None);
        self
    }

    fn apply_to(&self, container: &mut Value) {
        if let Some(image) = &self.image {
            container["image"] = json!(image.to_string());
        }
        let sizes =
            [("cpu", self.cpu), ("memory", self.memory), ("memoryReservation", self.memory_reservation)];
        for (field, size) in sizes {
            if let Some(size) = size {
                container[field] = json!(size);
            }
        }
        let given = |names: &BTreeMap<String, Option<String>>| -> BTreeMap<String, Option<String>> {
            names.iter().filter(|(_, value)| value.is_some()).map(|(name, _)| (name.clone(), None)).collect()
        };
        set_named_values(container, "secrets", "valueFrom", &given(&self.variables));
        set_named_values(container, "environment", "value", &given(&self.secrets));
        set_named_values(container, "environment", "value", &self.variables);
        set_named_values(container, "secrets", "valueFrom", &self.secrets);
        for (name, value) in &self.log_options {
            let options = &mut container["logConfiguration"]["options"];
            match (value, options.as_object_mut()) {
                (Some(value), _) => options[name] = json!(value),
                (None, Some(options)) => drop(options.remove(name)),
                (None, None) => {}
            }
        }
    }
}

/// Sets and removes items of a list of name/value pairs; other items keep their order and members.
fn set_named_values(
    container: &mut Value,
    list: &str,
    value_field: &str,
    wanted: &BTreeMap<String, Option<String>>,
) {
    if wanted.is_empty() {
        return;
    }
    let mut items = container[list].as_array().cloned().unwrap_or_default();
    items.retain(|item| item["name"].as_str().is_none_or(|name| wanted.get(name) != Some(&None)));
    for (name, value) in wanted.iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
        match items.iter_mut().find(|item| item["name"] == **name) {
            Some(item) => item[value_field] = json!(value),
            None => items.push(json!({ "name": name, value_field: value })),
        }
    }
    if !items.is_empty() || !container[list].is_null() {
        container[list] = Value::Array(items);
    }
}

impl TaskDefinition {
    /// A copy with `overlay` applied.
    ///
    /// # Errors
    /// When a container is missing or ambiguous, or has log options in the overlay but no log driver; when there are
    /// more than 50 tags.
    pub fn with(&self, overlay: &Overlay) -> Result<Self, Error> {
        let mut changed = self.clone();
        for (name, over) in &overlay.containers {
            let at = self.position(name)?;
            let container = &mut changed.input["containerDefinitions"][at];
            if !over.log_options.is_empty() && !container["logConfiguration"]["logDriver"].is_string() {
                return Err(Error::MalformedDefinition {
                    definition: self.source.clone(),
                    reason: format!("container {name:?} has log options in the overlay but no log driver"),
                });
            }
            over.apply_to(container);
        }
        changed.unknown.retain(|member| !overlay.without_members.contains(member));
        let input: &mut Map<String, Value> = &mut changed.input;
        input.retain(|member, _| !overlay.without_members.contains(member));
        for (field, size) in [("cpu", &overlay.cpu), ("memory", &overlay.memory)] {
            if let Some(size) = size {
                input.insert(field.to_owned(), json!(size));
            }
        }
        changed.apply_tags(overlay)?;
        changed.arn = self.arn.clone().filter(|_| changed.is_same(self));
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition() -> TaskDefinition {
        let json = json!({ "family": "web", "cpu": "256", "containerDefinitions": [
            {
                "name": "web", "image": "i:1", "memory": 100,
                "environment": [{ "name": "B", "value": "" }, { "name": "A", "value": "1" }],
                "secrets": [{ "name": "DB", "valueFrom": "/db" }],
                "logConfiguration": { "logDriver": "awslogs", "options": { "awslogs-group": "old", "mode": "x" } },
            },
            { "name": "proxy", "image": "p:1" },
        ] });
        TaskDefinition::from_json("file.json", &json.to_string()).unwrap()
    }

    #[test]
    fn keeps_everything_that_is_not_in_the_overlay() {
        let over = ContainerOverlay::default()
            .variable("A", "2")
            .variable("DB", "now plain")
            .secret("B", "/b")
            .without_secret("never there")
            .memory(200)
            .log_option("awslogs-group", "new")
            .without_log_option("mode");
        let changed = definition().with(&Overlay::default().container("web", over)).unwrap();
        assert_eq!(
            changed.as_json()["containerDefinitions"],
            json!([
                {
                    "name": "web", "image": "i:1", "memory": 200,
                    "environment": [{ "name": "A", "value": "2" }, { "name": "DB", "value": "now plain" }],
                    "secrets": [{ "name": "B", "valueFrom": "/b" }],
                    "logConfiguration": { "logDriver": "awslogs", "options": { "awslogs-group": "new" } },
                },
                { "name": "proxy", "image": "p:1" },
            ])
        );
        assert_eq!(changed.as_json()["cpu"], "256");
    }

    #[test]
    fn changes_several_containers() {
        let image: DigestRef =
            format!("r.example.com/p@{}", bp_artifact::Digest::sha256("p")).parse().unwrap();
        let overlay = Overlay::default()
            .cpu("512")
            .container("proxy", ContainerOverlay::default().image(image.clone()).cpu(10))
            .container("web", ContainerOverlay::default().without_variable("A"));
        let changes = definition().changes(&definition().with(&overlay).unwrap());
        let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(
            changes,
            [
                "+ containerDefinitions[proxy].cpu: 10".to_owned(),
                format!("~ containerDefinitions[proxy].image: p:1 -> {image}"),
                "- containerDefinitions[web].environment[A].value: 1".to_owned(),
                "~ cpu: 256 -> 512".to_owned(),
            ]
        );
    }

    #[test]
    fn an_overlay_without_changes_returns_the_same_definition() {
        let over = ContainerOverlay::default().variable("A", "1").secret("DB", "/db");
        assert!(
            definition().with(&Overlay::default().container("web", over)).unwrap().is_same(&definition())
        );
        assert!(definition().with(&Overlay::default()).unwrap().is_same(&definition()));
    }

    #[test]
    fn rejects_unknown_containers_and_log_options_without_a_driver() {
        let over = |name: &str, over| definition().with(&Overlay::default().container(name, over));
        assert!(matches!(over("wbe", ContainerOverlay::default()), Err(Error::ContainerNotFound { .. })));
        let error = over("proxy", ContainerOverlay::default().log_option("mode", "x")).unwrap_err();
        assert!(error.to_string().contains("no log driver"), "{error}");
    }
}
