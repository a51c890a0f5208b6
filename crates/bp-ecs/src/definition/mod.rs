//! Task definitions as raw JSON, modified and registered without losing members that the SDK does not support.

mod demand;
mod diff;
mod inventory;
mod members;
mod normal;
mod overlay;
mod tags;
mod wire;

use bp_artifact::{DigestRef, deploy::preflight::SecretReference};
use serde_json::{Map, Value};

pub use self::overlay::{ContainerOverlay, Overlay};
pub(crate) use self::{demand::Demand, wire::Capture};
use crate::error::Error;

/// Members of DescribeTaskDefinition's response that RegisterTaskDefinition accepts, besides the tags.
///
/// Source: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RegisterTaskDefinition.html>
const COPIED: [&str; 18] = [
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

/// Members of DescribeTaskDefinition's response that RegisterTaskDefinition does not accept.
const READ_ONLY: [&str; 9] = [
    "taskDefinitionArn",
    "revision",
    "status",
    "requiresAttributes",
    "compatibilities",
    "registeredAt",
    "deregisteredAt",
    "registeredBy",
    "deleteRequestedAt",
];

/// A task definition in the API's JSON format.
///
/// It is stored as raw JSON, not as the SDK's types: unmodified members are registered as they were read, including
/// empty strings. A member that the SDK does not support, at any depth, is [refused](Error::UnknownFields): in a file,
/// because the API would drop it silently; from the API, when a new revision is registered, because it is unknown
/// whether RegisterTaskDefinition accepts it. [`Overlay::without_member`] removes it.
///
/// ```
/// use bp_ecs::TaskDefinition;
///
/// let definition = TaskDefinition::from_json(
///     "web.json",
///     r#"{ "family": "web", "containerDefinitions": [{ "name": "web", "image": "r.example.com/web:1" }] }"#,
/// )?;
/// let image = "r.example.com/web@sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a".parse()?;
/// let changed = definition.with_image("web", &image)?;
/// assert!(!changed.is_same(&definition));
/// assert_eq!(definition.with_image("wbe", &image).unwrap_err().to_string(),
///            "web.json has no container \"wbe\"; it has web");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct TaskDefinition {
    /// The ARN or file, for messages.
    source: String,
    arn: Option<String>,
    /// `ACTIVE`, `INACTIVE` or `DELETE_IN_PROGRESS`, as described when it was read.
    status: Option<String>,
    /// The input of RegisterTaskDefinition.
    input: Map<String, Value>,
    /// Members that this version does not support: registering could drop them.
    unknown: Vec<String>,
}

impl TaskDefinition {
    /// Reads a definition in the format of aws-cli: the output of `describe-task-definition`, with `taskDefinition` and
    /// `tags`, or the input of `register-task-definition`. `source` is included in errors.
    ///
    /// # Errors
    /// When it is not JSON, lacks a family or containers, or has unknown members.
    pub fn from_json(source: &str, json: &str) -> Result<Self, Error> {
        let malformed = |reason: String| Error::MalformedDefinition { definition: source.to_owned(), reason };
        let mut value: Value = serde_json::from_str(json).map_err(|e| malformed(e.to_string()))?;
        let mut tags = Value::Null;
        if value["taskDefinition"].is_object() {
            tags = value["tags"].take();
            value = value["taskDefinition"].take();
        }
        let Value::Object(fields) = value else { return Err(malformed("it is not a JSON object".into())) };
        let definition = Self::read(source, fields, tags)?;
        definition.check_known()?;
        Ok(definition)
    }

    /// Reads a definition, and separates its members into accepted, read-only and unknown ones.
    pub(crate) fn read(source: &str, fields: Map<String, Value>, tags: Value) -> Result<Self, Error> {
        let arn = fields.get("taskDefinitionArn").and_then(Value::as_str).map(str::to_owned);
        let status = fields.get("status").and_then(Value::as_str).map(str::to_owned);
        let source = arn.clone().unwrap_or_else(|| source.to_owned());
        let unknown = |name: &&String| {
            !COPIED.contains(&name.as_str()) && !READ_ONLY.contains(&name.as_str()) && *name != "tags"
        };
        let mut unknown: Vec<String> = fields.keys().filter(unknown).cloned().collect();
        let mut input: Map<String, Value> = fields
            .into_iter()
            .filter(|(name, value)| !READ_ONLY.contains(&name.as_str()) && !value.is_null())
            .collect();
        if tags.as_array().is_some_and(|tags| !tags.is_empty()) {
            input.insert("tags".into(), tags);
        }
        keep_own_tags(&mut input);
        unknown.extend(members::unknown(&input));
        let malformed = |reason: &str| Error::MalformedDefinition {
            definition: source.clone(),
            reason: reason.to_owned(),
        };
        if !input.get("family").is_some_and(Value::is_string) {
            return Err(malformed("it has no family"));
        }
        let containers = input.get("containerDefinitions").and_then(Value::as_array);
        if !containers.is_some_and(|all| !all.is_empty() && all.iter().all(|c| c["name"].is_string())) {
            return Err(malformed("it has no containers, or one without a name"));
        }
        Ok(TaskDefinition { source, arn, status, input, unknown })
    }

    /// Returns an error if registering could drop unknown members. Reading, comparing and restoring do not need this
    /// check.
    pub(crate) fn check_known(&self) -> Result<(), Error> {
        if self.unknown.is_empty() {
            return Ok(());
        }
        Err(Error::UnknownFields { definition: self.source.clone(), fields: self.unknown.clone() })
    }

    /// A copy without its ARN.
    pub(crate) fn unregistered(mut self) -> Self {
        self.arn = None;
        self.status = None;
        self
    }

    /// Its ARN, once it is registered.
    pub fn arn(&self) -> Option<&str> {
        self.arn.as_deref()
    }

    /// Its status when it was read, once it is registered.
    pub(crate) fn status(&self) -> Option<&str> {
        self.status.as_deref()
    }

    /// Its family.
    pub fn family(&self) -> &str {
        self.input["family"].as_str().unwrap_or_default()
    }

    /// The input of RegisterTaskDefinition.
    pub fn as_json(&self) -> &Map<String, Value> {
        &self.input
    }

    fn containers(&self) -> &[Value] {
        self.input["containerDefinitions"].as_array().map_or(&[], Vec::as_slice)
    }

    /// The names of its containers.
    pub fn container_names(&self) -> Vec<String> {
        self.containers().iter().filter_map(|c| c["name"].as_str()).map(str::to_owned).collect()
    }

    /// The name of its only container.
    ///
    /// # Errors
    /// [`Error::ContainerNotNamed`] when it has several.
    pub fn only_container(&self) -> Result<String, Error> {
        match <[String; 1]>::try_from(self.container_names()) {
            Ok([container]) => Ok(container),
            Err(containers) => Err(Error::ContainerNotNamed { definition: self.source.clone(), containers }),
        }
    }

    /// The index of the container with this name.
    fn position(&self, container: &str) -> Result<usize, Error> {
        let mut found = self.containers().iter().enumerate().filter(|(_, c)| c["name"] == container);
        let (first, second) = (found.next(), found.next());
        let (container, definition) = (container.to_owned(), self.source.clone());
        match (first, second) {
            (Some((at, _)), None) => Ok(at),
            (None, _) => {
                Err(Error::ContainerNotFound { container, definition, containers: self.container_names() })
            }
            _ => Err(Error::ContainerAmbiguous { container, definition, containers: self.container_names() }),
        }
    }

    /// The image of a container, unparsed.
    ///
    /// # Errors
    /// When the container is missing or ambiguous.
    pub fn image(&self, container: &str) -> Result<&str, Error> {
        let at = self.position(container)?;
        Ok(self.containers()[at]["image"].as_str().unwrap_or_default())
    }

    /// A copy with the image of only this container changed.
    ///
    /// # Errors
    /// When the container is missing or ambiguous; the error lists the containers.
    pub fn with_image(&self, container: &str, image: &DigestRef) -> Result<Self, Error> {
        let at = self.position(container)?;
        let mut changed = self.clone();
        changed.input["containerDefinitions"][at]["image"] = Value::String(image.to_string());
        changed.arn = self.arn.clone().filter(|_| changed.is_same(self));
        Ok(changed)
    }

    /// Whether both are equivalent: the order of named items, explicit defaults and empty lists are ignored.
    pub fn is_same(&self, other: &Self) -> bool {
        normal::form(&self.input) == normal::form(&other.input)
    }

    /// A text that is the same for equivalent definitions.
    pub(crate) fn fingerprint(&self) -> String {
        normal::form(&self.input).to_string()
    }

    /// Whether its tasks have network interfaces of their own.
    pub(crate) fn is_awsvpc(&self) -> bool {
        self.input.get("networkMode").and_then(Value::as_str) == Some("awsvpc")
    }

    /// The options of a container's log driver, if it is `driver`.
    pub(crate) fn log_options(&self, container: &str, driver: &str) -> Option<&Map<String, Value>> {
        let logs = &self.containers()[self.position(container).ok()?]["logConfiguration"];
        (logs["logDriver"] == driver).then(|| logs["options"].as_object())?
    }

    /// Every secret that its containers reference, including the credentials of their registries.
    pub fn secrets(&self) -> Vec<SecretReference> {
        let refer = |container: &Value, list: &Value| -> Vec<SecretReference> {
            let secret = |secret: &Value| {
                let (name, value_from) = (secret["name"].as_str()?, secret["valueFrom"].as_str()?);
                Some(SecretReference::new(container["name"].as_str()?, name, value_from))
            };
            list.as_array().into_iter().flatten().filter_map(secret).collect()
        };
        let credentials = |c: &Value| -> Option<SecretReference> {
            let value_from = c["repositoryCredentials"]["credentialsParameter"].as_str()?;
            Some(SecretReference::new(c["name"].as_str()?, SecretReference::REGISTRY_CREDENTIALS, value_from))
        };
        self.containers()
            .iter()
            .flat_map(|c| {
                let variables = refer(c, &c["secrets"]);
                let options = refer(c, &c["logConfiguration"]["secretOptions"]);
                [variables, options, credentials(c).into_iter().collect()].concat()
            })
            .collect()
    }
}

/// Removes tags reserved by AWS and an empty list of tags, both of which the API rejects.
fn keep_own_tags(input: &mut Map<String, Value>) {
    if let Some(tags) = input.get_mut("tags").and_then(Value::as_array_mut) {
        let is_reserved =
            |tag: &Value| tag["key"].as_str().is_some_and(|key| key.to_ascii_lowercase().starts_with("aws:"));
        tags.retain(|tag| !is_reserved(tag));
    }
    input.retain(|name, value| name != "tags" || value.as_array().is_some_and(|tags| !tags.is_empty()));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(json: Value) -> Result<TaskDefinition, Error> {
        TaskDefinition::from_json("file.json", &json.to_string())
    }

    fn digest(repository: &str) -> DigestRef {
        let text =
            format!("{repository}@sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
        text.parse().unwrap()
    }

    /// A definition with every member that RegisterTaskDefinition accepts.
    fn full() -> Value {
        json!({
            "taskDefinition": {
                "family": "web", "taskRoleArn": "r", "executionRoleArn": "e", "networkMode": "awsvpc",
                "containerDefinitions": [
                    { "name": "web", "image": "r.example.com:5000/web:1", "environment": [{ "name": "EMPTY", "value": "" }],
                      "dockerLabels": { "any": "" } },
                    { "name": "log", "image": "r.example.com:5000/web:1" },
                ],
                "volumes": [{ "name": "efs", "efsVolumeConfiguration": { "fileSystemId": "fs-1", "rootDirectory": "" } }],
                "placementConstraints": [], "requiresCompatibilities": ["FARGATE"], "cpu": "256", "memory": "512",
                "pidMode": "task", "ipcMode": "none", "enableFaultInjection": true,
                "proxyConfiguration": { "containerName": "web", "properties": [{ "name": "x", "value": "" }] },
                "inferenceAccelerators": [], "ephemeralStorage": { "sizeInGiB": 30 },
                "runtimePlatform": { "cpuArchitecture": "ARM64" }, "trustedExecutionConfiguration": {},
                "taskDefinitionArn": "arn:aws:ecs:eu-central-1:1:task-definition/web:7", "revision": 7,
                "status": "ACTIVE", "requiresAttributes": [], "compatibilities": [], "registeredAt": 1.5,
                "registeredBy": "me", "deregisteredAt": 2, "deleteRequestedAt": 3,
            },
            "tags": [{ "key": "Team", "value": "shop" }],
        })
    }

    #[test]
    fn a_new_revision_keeps_all_members_except_read_only_ones() {
        let definition = read(full()).unwrap();
        let changed = definition.with_image("web", &digest("r.example.com:5000/web")).unwrap();
        let mut expected = full()["taskDefinition"].clone();
        for field in READ_ONLY {
            expected.as_object_mut().unwrap().remove(field);
        }
        expected["tags"] = full()["tags"].clone();
        expected["containerDefinitions"][0]["image"] = json!(digest("r.example.com:5000/web").to_string());
        assert_eq!(Value::Object(changed.as_json().clone()), expected);
        let mut names: Vec<&str> =
            changed.as_json().keys().map(String::as_str).filter(|n| *n != "tags").collect();
        names.sort_unstable();
        assert_eq!(names, COPIED, "this test contains every copied member");
    }

    #[test]
    fn changes_only_the_specified_container_if_two_have_the_same_image() {
        let changed = read(full()).unwrap().with_image("log", &digest("r.example.com:5000/web")).unwrap();
        assert_eq!(changed.image("web").unwrap(), "r.example.com:5000/web:1");
        assert_eq!(changed.image("log").unwrap(), digest("r.example.com:5000/web").to_string());
    }

    #[test]
    fn omits_empty_tags() {
        let mut json = full();
        json["tags"] = json!([]);
        assert!(!read(json).unwrap().as_json().contains_key("tags"));
    }

    #[test]
    fn rejects_an_unknown_member_and_states_its_path() {
        let mut json = full();
        json["taskDefinition"]["quantumMode"] = json!("on");
        let error = read(json).unwrap_err().to_string();
        assert!(error.contains("web:7") && error.contains("quantumMode"), "{error}");
        let mut json = full();
        json["taskDefinition"]["containerDefinitions"][0]["healthCheck"] = json!({ "comand": ["CMD"] });
        let error = read(json).unwrap_err().to_string();
        assert!(error.contains("containerDefinitions[web].healthCheck.comand"), "{error}");
    }

    #[test]
    fn rejects_malformed_definitions() {
        let container = json!({ "name": "a", "image": "i" });
        for (json, part) in [
            (json!([]), "not a JSON object"),
            (json!({ "containerDefinitions": [container] }), "no family"),
            (json!({ "family": "web" }), "no containers"),
            (json!({ "family": "web", "containerDefinitions": [{ "image": "i" }] }), "without a name"),
        ] {
            let error = read(json).unwrap_err().to_string();
            assert!(
                error.starts_with("file.json is not a valid task definition") && error.contains(part),
                "{error}"
            );
        }
        let twice = json!({ "family": "web", "containerDefinitions": [container, container] });
        let error = read(twice).unwrap().with_image("a", &digest("r.example.com/a")).unwrap_err();
        assert!(matches!(error, Error::ContainerAmbiguous { .. }), "{error}");
    }

    #[test]
    fn lists_references_of_secrets() {
        let definition = read(json!({ "family": "web", "containerDefinitions": [{
            "name": "web", "image": "i",
            "secrets": [{ "name": "TOKEN", "valueFrom": "/shop/token" }],
            "repositoryCredentials": { "credentialsParameter": "arn:pull" },
            "logConfiguration": { "logDriver": "splunk", "secretOptions": [{ "name": "t", "valueFrom": "arn:x" }] },
        }] }))
        .unwrap();
        let references: Vec<String> = definition.secrets().into_iter().map(|s| s.value_from).collect();
        assert_eq!(references, ["/shop/token", "arn:x", "arn:pull"]);
    }
}
