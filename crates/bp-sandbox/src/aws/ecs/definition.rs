//! Task definitions: families and revisions.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::names::{Place, epoch, name_of, page};
use crate::aws::wire::{Answer, ApiError, text, texts};

/// One revision, as it was registered and as it is described.
#[derive(Debug)]
pub(super) struct Definition {
    pub(super) arn: String,
    /// The API's view, without tags.
    pub(super) view: Value,
    pub(super) tags: Vec<Value>,
}

impl Definition {
    pub(super) fn containers(&self) -> &[Value] {
        self.view["containerDefinitions"].as_array().map_or(&[], Vec::as_slice)
    }

    /// A copy with the commands and variables that RunTask overrides, without health checks: the platform does not stop
    /// a standalone task because of them.
    pub(super) fn overridden(&self, overrides: &[Value]) -> Definition {
        let mut view = self.view.clone();
        for container in view["containerDefinitions"].as_array_mut().into_iter().flatten() {
            if let Some(container) = container.as_object_mut() {
                container.remove("healthCheck");
            }
            let name = container["name"].clone();
            for changed in overrides.iter().filter(|changed| changed["name"] == name) {
                for field in ["command", "environment"].iter().filter(|field| changed[**field].is_array()) {
                    container[*field] = changed[*field].clone();
                }
            }
        }
        Definition { arn: self.arn.clone(), view, tags: self.tags.clone() }
    }

    /// The Go name of the architecture that its tasks run on.
    pub(super) fn architecture(&self) -> &'static str {
        match self.view["runtimePlatform"]["cpuArchitecture"].as_str() {
            Some("ARM64") => "arm64",
            _ => "amd64",
        }
    }
}

#[derive(Debug)]
struct Revision {
    definition: Arc<Definition>,
    registered_at: Timestamp,
    deregistered_at: Option<Timestamp>,
}

impl Revision {
    fn view(&self) -> Value {
        let mut view = self.definition.view.clone();
        view["registeredAt"] = epoch(self.registered_at);
        view["status"] = json!("ACTIVE");
        if let Some(at) = self.deregistered_at {
            view["status"] = json!("INACTIVE");
            view["deregisteredAt"] = epoch(at);
        }
        view
    }
}

/// All families of one account and region.
#[derive(Debug, Default)]
pub(super) struct Definitions(BTreeMap<String, Vec<Revision>>);

/// The members of RegisterTaskDefinition. Others are ignored, as by the service.
const REGISTERED: [&str; 18] = [
    "containerDefinitions",
    "cpu",
    "enableFaultInjection",
    "ephemeralStorage",
    "executionRoleArn",
    "family",
    "inferenceAccelerators",
    "ipcMode",
    "memory",
    "networkMode",
    "pidMode",
    "placementConstraints",
    "proxyConfiguration",
    "requiresCompatibilities",
    "runtimePlatform",
    "taskRoleArn",
    "trustedExecutionConfiguration",
    "volumes",
];

impl Definitions {
    pub(super) fn register(&mut self, place: &Place, by: &str, now: Timestamp, input: &Value) -> Answer {
        validate(input)?;
        let tags = tags(input)?;
        let family = text(input, "family");
        let revisions = self.0.entry(family.to_owned()).or_default();
        let number = revisions.len() + 1;
        let arn = place.arn(&format!("task-definition/{family}:{number}"));
        let mut view: Map<String, Value> = REGISTERED
            .iter()
            .filter_map(|field| {
                Some((field.to_string(), input.get(*field).filter(|v| !v.is_null())?.clone()))
            })
            .collect();
        fill_in(&mut view);
        view.insert("taskDefinitionArn".into(), json!(arn));
        view.insert("revision".into(), json!(number));
        view.insert("registeredBy".into(), json!(by));
        let definition = Arc::new(Definition { arn, view: Value::Object(view), tags });
        let revision = Revision { definition, registered_at: now, deregistered_at: None };
        let answer = json!({ "taskDefinition": revision.view(), "tags": revision.definition.tags });
        revisions.push(revision);
        Ok(answer)
    }

    /// Finds `family`, `family:revision` or an ARN. A family alone is its latest active revision.
    fn revision(&self, reference: &str) -> Option<&Revision> {
        let name = name_of(reference);
        match name.rsplit_once(':') {
            Some((family, number)) => self.0.get(family)?.get(number.parse::<usize>().ok()?.checked_sub(1)?),
            None => self.0.get(name)?.iter().rev().find(|r| r.deregistered_at.is_none()),
        }
    }

    /// The task definition for a service.
    pub(super) fn deployable(&self, reference: &str) -> Result<Arc<Definition>, ApiError> {
        match self.revision(reference) {
            None => Err(ApiError::new(400, "ClientException", "TaskDefinition not found.")),
            Some(revision) if revision.deregistered_at.is_some() => {
                Err(ApiError::new(400, "ClientException", "TaskDefinition is inactive"))
            }
            Some(revision) => Ok(Arc::clone(&revision.definition)),
        }
    }

    pub(super) fn describe(&self, input: &Value) -> Answer {
        let revision = self
            .revision(text(input, "taskDefinition"))
            .ok_or_else(|| ApiError::new(400, "ClientException", "Unable to describe task definition."))?;
        let mut answer = json!({ "taskDefinition": revision.view() });
        if texts(input, "include").contains(&"TAGS") {
            answer["tags"] = json!(revision.definition.tags);
        }
        Ok(answer)
    }

    pub(super) fn list(&self, input: &Value) -> Answer {
        let (prefix, status) = (text(input, "familyPrefix"), text(input, "status"));
        let inactive = status == "INACTIVE";
        let mut arns: Vec<&str> = self
            .0
            .iter()
            .filter(|(family, _)| prefix.is_empty() || family.as_str() == prefix)
            .flat_map(|(_, revisions)| revisions)
            .filter(|revision| revision.deregistered_at.is_some() == inactive)
            .map(|revision| revision.definition.arn.as_str())
            .collect();
        if text(input, "sort") == "DESC" {
            arns.reverse();
        }
        let size = input["maxResults"].as_u64().unwrap_or(100) as usize;
        let (arns, next) = page(arns, text(input, "nextToken"), size);
        let mut answer = json!({ "taskDefinitionArns": arns });
        if let Some(next) = next {
            answer["nextToken"] = json!(next);
        }
        Ok(answer)
    }

    pub(super) fn deregister(&mut self, now: Timestamp, input: &Value) -> Answer {
        let unknown =
            || ApiError::new(400, "ClientException", "The specified task definition does not exist.");
        let name = name_of(text(input, "taskDefinition"));
        let (family, number) = name.rsplit_once(':').ok_or_else(|| {
            ApiError::new(400, "InvalidParameterException", "revision is required to deregister")
        })?;
        let at: usize = number.parse::<usize>().ok().and_then(|n| n.checked_sub(1)).ok_or_else(unknown)?;
        let revision = self.0.get_mut(family).and_then(|all| all.get_mut(at)).ok_or_else(unknown)?;
        revision.deregistered_at.get_or_insert(now);
        Ok(json!({ "taskDefinition": revision.view() }))
    }

    /// The number of revisions ever registered in a family.
    pub(super) fn count(&self, family: &str) -> usize {
        self.0.get(family).map_or(0, Vec::len)
    }
}

fn validate(input: &Value) -> Result<(), ApiError> {
    let client = |message: String| Err(ApiError::new(400, "ClientException", message));
    let family = text(input, "family");
    if family.is_empty() || !family.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)) {
        return client("Family contains invalid characters.".into());
    }
    let containers = input["containerDefinitions"].as_array().map_or(&[][..], Vec::as_slice);
    if containers.is_empty() {
        return client("Container list cannot be empty.".into());
    }
    let task_memory = !text(input, "memory").is_empty();
    for (at, container) in containers.iter().enumerate() {
        let name = text(container, "name");
        if name.is_empty() {
            return client("Container.name should not be null or empty.".into());
        }
        if containers[..at].iter().any(|c| text(c, "name") == name) {
            return client(format!("Container names must be unique: {name}"));
        }
        if text(container, "image").is_empty() {
            return client("Container.image should not be null or empty.".into());
        }
        let named = |list: &str| -> Vec<String> {
            let items = container[list].as_array().into_iter().flatten();
            items.map(|item| text(item, "name").to_owned()).collect()
        };
        let plain = named("environment");
        if let Some(twice) = named("secrets").iter().find(|secret| plain.contains(secret)) {
            return client(format!(
                "The secret name must be unique and not shared with any new or existing environment variables set on \
                 the container, such as '{twice}'."
            ));
        }
        if !task_memory && container["memory"].is_null() && container["memoryReservation"].is_null() {
            return client(format!(
                "Invalid setting for container '{name}'. At least one of 'memory' or 'memoryReservation' must be \
                 specified."
            ));
        }
    }
    let fargate = texts(input, "requiresCompatibilities").contains(&"FARGATE");
    if fargate && (!task_memory || text(input, "cpu").is_empty()) {
        return client("Fargate requires task definition to have execution cpu and memory.".into());
    }
    Ok(())
}

/// How many tags a resource may have.
const TAGS: usize = 50;

/// The tags that a resource is created with.
pub(super) fn tags(input: &Value) -> Result<Vec<Value>, ApiError> {
    let refused = |message: &str| Err(ApiError::new(400, "InvalidParameterException", message));
    let Some(tags) = input["tags"].as_array() else { return Ok(Vec::new()) };
    if tags.is_empty() {
        return refused("Tags can not be empty.");
    }
    if tags.len() > TAGS {
        return refused("The number of tags exceeds the limit of 50.");
    }
    for (at, tag) in tags.iter().enumerate() {
        let (key, value) = (text(tag, "key"), text(tag, "value"));
        let is_allowed = |text: &str| text.chars().all(|c| c.is_alphanumeric() || " _.:/=+-@".contains(c));
        if key.is_empty() || key.chars().count() > 128 || value.chars().count() > 256 {
            return refused("A tag key has 1 to 128 characters, and a tag value at most 256.");
        }
        if key.to_ascii_lowercase().starts_with("aws:") {
            return refused("Tag keys that start with 'aws:' are reserved for system use.");
        }
        if !is_allowed(key) || !is_allowed(value) {
            return refused("A tag has characters that are not allowed.");
        }
        if tags[..at].iter().any(|other| text(other, "key") == key) {
            return refused("Duplicate tag keys are not allowed.");
        }
    }
    Ok(tags.clone())
}

/// Adds what the service adds on registration: empty lists and defaults in every container.
fn fill_in(view: &mut Map<String, Value>) {
    let awsvpc = view.get("networkMode").and_then(Value::as_str) == Some("awsvpc");
    for list in ["volumes", "placementConstraints"] {
        view.entry(list).or_insert_with(|| json!([]));
    }
    let containers = view.get_mut("containerDefinitions").and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
        container.entry("cpu").or_insert_with(|| json!(0));
        container.entry("essential").or_insert_with(|| json!(true));
        for list in ["portMappings", "environment", "mountPoints", "volumesFrom", "systemControls"] {
            container.entry(list).or_insert_with(|| json!([]));
        }
        let ports = container.get_mut("portMappings").and_then(Value::as_array_mut);
        for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
            let number = port.get("containerPort").cloned().unwrap_or_default();
            port.entry("hostPort").or_insert_with(|| if awsvpc { number } else { json!(0) });
            port.entry("protocol").or_insert_with(|| json!("tcp"));
        }
        if let Some(check) = container.get_mut("healthCheck").and_then(Value::as_object_mut) {
            for (field, value) in [("interval", 30), ("timeout", 5), ("retries", 3)] {
                check.entry(field).or_insert_with(|| json!(value));
            }
        }
    }
    let compatibilities =
        if awsvpc { json!(["EC2", "FARGATE", "EXTERNAL"]) } else { json!(["EC2", "EXTERNAL"]) };
    view.insert("compatibilities".into(), compatibilities);
    let agent = json!([{ "name": "com.amazonaws.ecs.capability.docker-remote-api.1.18" }]);
    view.insert("requiresAttributes".into(), agent);
}
