//! What an environment lays over a task definition: images, variables, secrets, sizes, log options, tags.

use std::collections::{BTreeMap, BTreeSet};

use bp_artifact::DigestRef;
use serde_json::{Map, Value, json};

use super::TaskDefinition;
use crate::error::Error;

/// What an environment lays over a task definition. What it does not name stays as it is.
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
    /// `None` takes the tag away.
    pub(super) tags: BTreeMap<String, Option<String>>,
    pub(super) image_tags: BTreeMap<String, Option<String>>,
    pub(super) without_tags: bool,
}

/// What is laid over one container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerOverlay {
    image: Option<DigestRef>,
    /// `None` takes the variable away.
    pub(super) variables: BTreeMap<String, Option<String>>,
    pub(super) secrets: BTreeMap<String, Option<String>>,
    cpu: Option<u32>,
    memory: Option<u32>,
    memory_reservation: Option<u32>,
    pub(super) log_options: BTreeMap<String, Option<String>>,
}

impl Overlay {
    /// The CPU units of the task, as ECS writes them: `256`, `.25 vCPU`.
    pub fn cpu(mut self, units: impl Into<String>) -> Self {
        self.cpu = Some(units.into());
        self
    }

    /// The memory of the task, as ECS writes it: `512`, `1GB`.
    pub fn memory(mut self, size: impl Into<String>) -> Self {
        self.memory = Some(size.into());
        self
    }

    /// What is laid over the container `name`. Said twice, the later one counts.
    pub fn container(mut self, name: impl Into<String>, overlay: ContainerOverlay) -> Self {
        self.containers.insert(name.into(), overlay);
        self
    }

    /// Leaves out a member that this version does not know, by the name that
    /// [`Error::UnknownFields`](crate::Error::UnknownFields) gives it: a new revision of a definition is refused for as
    /// long as nobody has decided that the member may be lost.
    pub fn without_member(mut self, name: impl Into<String>) -> Self {
        self.without_members.insert(name.into());
        self
    }

    /// A tag of the revision. Tags that it does not name stay; characters that AWS does not take become `_`.
    pub fn tag(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.insert(name.into(), Some(value.into()));
        self
    }

    /// Takes a tag away.
    pub fn without_tag(mut self, name: impl Into<String>) -> Self {
        self.tags.insert(name.into(), None);
        self
    }

    /// A tag about the image, such as its commit: a deployment of another image sets it, or takes it away where the value
    /// is not known. It gives way to a [`tag`](Self::tag) of the same name.
    pub fn image_tag(mut self, name: impl Into<String>, value: Option<String>) -> Self {
        self.image_tags.insert(name.into(), value);
        self
    }

    /// Registers without any tag, also without those of the revision before: for callers without `ecs:TagResource`.
    pub fn without_tags(mut self) -> Self {
        self.without_tags = true;
        self
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Overlay::default()
    }
}

impl ContainerOverlay {
    /// The image of this container, by digest: for a side-car that is pinned.
    pub fn image(mut self, image: DigestRef) -> Self {
        self.image = Some(image);
        self
    }

    /// An environment variable. A secret of the same name gives way: ECS takes one of the two.
    pub fn variable(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.variables.insert(name.into(), Some(value.into()));
        self
    }

    /// Takes an environment variable away.
    pub fn without_variable(mut self, name: impl Into<String>) -> Self {
        self.variables.insert(name.into(), None);
        self
    }

    /// A secret by its reference: an ARN, or a parameter's name. A variable of the same name gives way.
    pub fn secret(mut self, name: impl Into<String>, value_from: impl Into<String>) -> Self {
        self.secrets.insert(name.into(), Some(value_from.into()));
        self
    }

    /// Takes a secret away.
    pub fn without_secret(mut self, name: impl Into<String>) -> Self {
        self.secrets.insert(name.into(), None);
        self
    }

    /// The CPU units of this container.
    pub fn cpu(mut self, units: u32) -> Self {
        self.cpu = Some(units);
        self
    }

    /// The memory in MiB at which this container is ended.
    pub fn memory(mut self, mib: u32) -> Self {
        self.memory = Some(mib);
        self
    }

    /// The memory in MiB that is kept for this container.
    pub fn memory_reservation(mut self, mib: u32) -> Self {
        self.memory_reservation = Some(mib);
        self
    }

    /// An option of the log driver, such as `awslogs-group`. The container must have one.
    pub fn log_option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.log_options.insert(name.into(), Some(value.into()));
        self
    }

    /// Takes an option of the log driver away.
    pub fn without_log_option(mut self, name: impl Into<String>) -> Self {
        self.log_options.insert(name.into(), None);
        self
    }

    fn lay_over(&self, container: &mut Value) {
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
        name_values(container, "secrets", "valueFrom", &given(&self.variables));
        name_values(container, "environment", "value", &given(&self.secrets));
        name_values(container, "environment", "value", &self.variables);
        name_values(container, "secrets", "valueFrom", &self.secrets);
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

/// Sets and takes away items of a list of names and values, in place: what is not named keeps its order and all that it
/// has.
fn name_values(
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
    /// The same definition with `overlay` laid over it.
    ///
    /// # Errors
    /// When a container is missing or ambiguous, or is to have log options and has no log driver; when there are more than
    /// 50 tags.
    pub fn with(&self, overlay: &Overlay) -> Result<Self, Error> {
        let mut changed = self.clone();
        for (name, over) in &overlay.containers {
            let at = self.position(name)?;
            let container = &mut changed.input["containerDefinitions"][at];
            if !over.log_options.is_empty() && !container["logConfiguration"]["logDriver"].is_string() {
                return Err(Error::MalformedDefinition {
                    definition: self.source.clone(),
                    reason: format!("its container {name:?} has no log driver for the options to be of"),
                });
            }
            over.lay_over(container);
        }
        changed.unknown.retain(|member| !overlay.without_members.contains(member));
        let input: &mut Map<String, Value> = &mut changed.input;
        input.retain(|member, _| !overlay.without_members.contains(member));
        for (field, size) in [("cpu", &overlay.cpu), ("memory", &overlay.memory)] {
            if let Some(size) = size {
                input.insert(field.to_owned(), json!(size));
            }
        }
        changed.lay_tags_over(overlay)?;
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
    fn what_is_not_named_stays_as_it_is() {
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
    fn several_containers_change_at_once_and_the_rest_does_not() {
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
    fn an_overlay_that_changes_nothing_is_the_same_definition() {
        let over = ContainerOverlay::default().variable("A", "1").secret("DB", "/db");
        assert!(
            definition().with(&Overlay::default().container("web", over)).unwrap().is_same(&definition())
        );
        assert!(definition().with(&Overlay::default()).unwrap().is_same(&definition()));
    }

    #[test]
    fn says_what_it_cannot_lay_over() {
        let over = |name: &str, over| definition().with(&Overlay::default().container(name, over));
        assert!(matches!(over("wbe", ContainerOverlay::default()), Err(Error::ContainerNotFound { .. })));
        let error = over("proxy", ContainerOverlay::default().log_option("mode", "x")).unwrap_err();
        assert!(error.to_string().contains("\"proxy\" has no log driver"), "{error}");
    }
}
