//! Convert bindings to and from a `SecretProviderClass` of the Secrets Store CSI driver's AWS provider (ASCP).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Binding, Bindings, ProjectionError, metadata, text};
use crate::reference::{ParameterRef, ParameterVersion, ParseError, Reference, SecretRef, SecretVersion};

const FORM: &str = "the CSI driver";

/// Options of a `SecretProviderClass`; the bindings are given to [`print`](Self::print).
///
/// ```
/// use bp_secrets::projection::{ascp::SecretProviderClass, env};
///
/// let bindings = env::parse("USER=secretsmanager:prod/db:user::\nPASSWORD=secretsmanager:prod/db:password::")?;
/// let object = SecretProviderClass::new("db").namespace("shop").print(&bindings)?;
/// assert_eq!(object["kind"], "SecretProviderClass");
/// assert_eq!(SecretProviderClass::parse(&object)?, bindings);
/// # Ok::<(), bp_secrets::projection::ProjectionError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretProviderClass {
    name: String,
    namespace: Option<String>,
    failover_region: Option<String>,
    synced: Option<String>,
    pod_identity: bool,
}

impl SecretProviderClass {
    /// A class with this name.
    pub fn new(name: &str) -> Self {
        let name = name.to_owned();
        SecretProviderClass {
            name,
            namespace: None,
            failover_region: None,
            synced: None,
            pod_identity: false,
        }
    }

    /// Sets the namespace.
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Reads replicas in this region when the primary region fails. A 4xx response from either region fails the mount.
    pub fn failover_region(mut self, region: &str) -> Self {
        self.failover_region = Some(region.to_owned());
        self
    }

    /// Also syncs the values to a `Secret` with this name, for environment variables.
    pub fn synced(mut self, secret: &str) -> Self {
        self.synced = Some(secret.to_owned());
        self
    }

    /// Reads with the role of an EKS Pod Identity association, instead of one in an annotation of the service account
    /// (IRSA).
    pub fn pod_identity(mut self) -> Self {
        self.pod_identity = true;
        self
    }

    /// The Kubernetes object. All keys of one secret share one entry of `objects`, and so one API call.
    ///
    /// # Errors
    /// When two versions of one secret are bound, or one whole value under two names, which the provider rejects, or
    /// when the ARNs are in more than one region.
    #[allow(clippy::indexing_slicing, reason = "the objects are created here")]
    pub fn print(&self, bindings: &Bindings) -> Result<Value, ProjectionError> {
        let region = region(bindings)?;
        let mut objects: BTreeMap<String, Value> = BTreeMap::new();
        for binding in bindings {
            let new = self.object(&binding.reference);
            let object = objects.entry(binding_id(&binding.reference)).or_insert_with(|| new.clone());
            add(object, &new, binding)?;
        }
        let objects: Vec<Value> = objects.into_values().collect();
        let mut parameters = json!({ "objects": Value::Array(objects).to_string() });
        if let Some(region) = region {
            parameters["region"] = json!(region);
        }
        if self.pod_identity {
            parameters["usePodIdentity"] = json!("true");
        }
        if let Some(region) = &self.failover_region {
            parameters["failoverRegion"] = json!(region);
        }
        let mut spec = json!({ "provider": "aws", "parameters": parameters });
        if let Some(secret) = &self.synced {
            let data: Vec<Value> =
                bindings.iter().map(|b| json!({ "objectName": b.name, "key": b.name })).collect();
            spec["secretObjects"] = json!([{ "secretName": secret, "type": "Opaque", "data": data }]);
        }
        Ok(json!({
            "apiVersion": "secrets-store.csi.x-k8s.io/v1",
            "kind": "SecretProviderClass",
            "metadata": metadata(&self.name, self.namespace.as_deref()),
            "spec": spec,
        }))
    }

    /// The entry of `objects` for a reference's whole value, without aliases.
    #[allow(clippy::indexing_slicing, reason = "the objects are created here")]
    fn object(&self, reference: &Reference) -> Value {
        let mut object = json!({ "objectName": binding_id(reference) });
        match reference {
            Reference::Secret(secret) => {
                object["objectType"] = json!("secretsmanager");
                match secret.version() {
                    SecretVersion::Current => {}
                    SecretVersion::Stage(stage) => object["objectVersionLabel"] = json!(stage),
                    SecretVersion::Id(id) => object["objectVersion"] = json!(id),
                }
                if let (Some(region), Some(arn)) = (&self.failover_region, secret.arn()) {
                    let mut failover = json!({ "objectName": arn.in_region(region).to_string() });
                    for version in ["objectVersion", "objectVersionLabel"] {
                        if let Some(version_of) = object.get(version) {
                            failover[version] = version_of.clone();
                        }
                    }
                    object["failoverObject"] = failover;
                }
            }
            Reference::Parameter(parameter) => {
                object["objectType"] = json!("ssmparameter");
                match parameter.version() {
                    ParameterVersion::Latest => {}
                    ParameterVersion::Number(number) => object["objectVersion"] = json!(number.to_string()),
                    ParameterVersion::Label(label) => object["objectVersionLabel"] = json!(label),
                }
            }
        }
        object
    }

    /// Parses a `SecretProviderClass`. Its `objects` may be JSON, or YAML with the feature `yaml`.
    ///
    /// # Errors
    /// When it is not a valid class, or a `jmesPath` is not a single key.
    pub fn parse(object: &Value) -> Result<Bindings, ProjectionError> {
        let objects = parse_objects(text(object, "/spec/parameters/objects")?)?;
        let mut bindings = Vec::new();
        for object in &objects {
            bindings.extend(parse_object(object)?);
        }
        Bindings::new(bindings)
    }
}

/// The id that the provider fetches the reference by; unique in one class.
fn binding_id(reference: &Reference) -> String {
    match reference {
        Reference::Secret(secret) => secret.id(),
        Reference::Parameter(parameter) => parameter.id(),
    }
}

/// The region of the ARNs: the provider rejects ARNs of another region.
fn region(bindings: &Bindings) -> Result<Option<&str>, ProjectionError> {
    let mut region = None;
    for Binding { name, reference } in bindings {
        let Some(arn) = reference.arn() else { continue };
        if *region.get_or_insert(arn.region()) != arn.region() {
            let reason =
                "its region differs from the others, but one class supports one region: use a second class";
            return Err(ProjectionError::not_expressible(name, FORM, reason));
        }
    }
    Ok(region)
}

/// Adds the binding's name to the object: as alias of the whole value, or of one key.
fn add(
    object: &mut Value,
    new: &Value,
    Binding { name, reference }: &Binding,
) -> Result<(), ProjectionError> {
    let refused = |reason| Err(ProjectionError::not_expressible(name, FORM, reason));
    for version in ["objectVersion", "objectVersionLabel"] {
        if object.get(version) != new.get(version) {
            return refused(
                "one class supports one version of a secret: use the ARN for the other, or a second class",
            );
        }
    }
    let whole = unbound_alias(&binding_id(reference));
    match reference.key() {
        Some(key) => {
            if object.get("objectAlias").is_none() {
                object["objectAlias"] = json!(whole);
            }
            let path = json!({ "path": jmes_path(key), "objectAlias": name });
            match object.get_mut("jmesPath").and_then(Value::as_array_mut) {
                Some(paths) => paths.push(path),
                None => object["jmesPath"] = json!([path]),
            }
        }
        None => match object.get("objectAlias") {
            Some(alias) if *alias != json!(whole) => {
                return refused("one class supports one name for a whole value: bind it once");
            }
            _ => object["objectAlias"] = json!(name),
        },
    }
    Ok(())
}

/// The name of the file that the provider writes a whole value to by default; for an ARN, the part after its last
/// colon.
fn file_name(id: &str) -> String {
    let name = id.rsplit(':').next().unwrap_or(id);
    name.trim_start_matches('/').replace('/', "_")
}

/// The alias of a whole value that is not bound itself, but has bound keys.
fn unbound_alias(id: &str) -> String {
    format!("{}.whole", file_name(id))
}

fn parse_objects(objects: &str) -> Result<Vec<Value>, ProjectionError> {
    if let Ok(Value::Array(objects)) = serde_json::from_str(objects) {
        return Ok(objects);
    }
    #[cfg(feature = "yaml")]
    if let Ok(Value::Array(objects)) = super::from_yaml(objects) {
        return Ok(objects);
    }
    let reason = if cfg!(feature = "yaml") {
        "is not a list"
    } else {
        "is not a list in JSON: write it as JSON, or enable the crate feature `yaml`"
    };
    Err(ProjectionError::shape("/spec/parameters/objects", reason))
}

fn parse_object(object: &Value) -> Result<Vec<(String, Reference)>, ProjectionError> {
    let id = text(object, "/objectName")?;
    let field = |name: &str| object.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let alias = field("objectAlias").map_or_else(|| file_name(id), str::to_owned);
    let bad = |source: ParseError| ProjectionError::Reference { name: alias.clone(), source };
    let (version, label) = (field("objectVersion"), field("objectVersionLabel"));
    let is_parameter = match field("objectType") {
        Some(kind) => kind == "ssmparameter",
        None => id.split(':').nth(2) == Some("ssm"),
    };
    if is_parameter {
        return Ok(vec![(alias.clone(), parameter(id, version.or(label)).map_err(bad)?.into())]);
    }
    let secret = secret(id, version, label).map_err(bad)?;
    let paths = object.get("jmesPath").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let is_bound = paths.is_empty() || field("objectAlias").is_some_and(|alias| alias != unbound_alias(id));
    let keyed = |path: &Value| {
        let (name, path) = (text(path, "/objectAlias")?, text(path, "/path")?);
        let reason = "its jmesPath is not a single top-level key";
        let key = jmes_key(path).ok_or_else(|| ProjectionError::not_expressible(name, FORM, reason))?;
        let secret = secret.clone().with_key(&key);
        let secret = secret.map_err(|source| ProjectionError::Reference { name: name.to_owned(), source })?;
        Ok((name.to_owned(), Reference::from(secret)))
    };
    let whole = is_bound.then(|| Ok((alias.clone(), Reference::from(secret.clone()))));
    whole.into_iter().chain(paths.iter().map(keyed)).collect()
}

fn secret(id: &str, version: Option<&str>, label: Option<&str>) -> Result<SecretRef, ParseError> {
    let secret = if id.starts_with("arn:") { SecretRef::by_arn(id)? } else { SecretRef::by_name(id)? };
    match (version, label) {
        (Some(_), Some(_)) => {
            Err(ParseError::new("objectVersion and objectVersionLabel are mutually exclusive"))
        }
        (Some(id), None) => secret.with_version_id(id),
        (None, Some(stage)) => secret.with_stage(stage),
        (None, None) => Ok(secret),
    }
}

fn parameter(id: &str, selector: Option<&str>) -> Result<ParameterRef, ParseError> {
    let parameter =
        if id.starts_with("arn:") { ParameterRef::by_arn(id)? } else { ParameterRef::by_name(id)? };
    selector.map_or(Ok(parameter.clone()), |selector| parameter.with_selector(selector))
}

/// Whether JMESPath accepts the key without quotes.
pub(super) fn is_plain(key: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && key.chars().all(legal)
}

/// A key as a JMESPath: quoted with JSON escapes, unless it is plain.
fn jmes_path(key: &str) -> String {
    if is_plain(key) { key.to_owned() } else { Value::String(key.to_owned()).to_string() }
}

/// The key of a JMESPath; `None` when the path is not a single key.
fn jmes_key(path: &str) -> Option<String> {
    if path.starts_with('"') {
        serde_json::from_str(path).ok()
    } else {
        is_plain(path).then(|| path.to_owned())
    }
}

/// The pod volume that mounts the class.
pub fn volume(name: &str, class: &str) -> Value {
    let attributes = Map::from_iter([("secretProviderClass".to_owned(), json!(class))]);
    json!({
        "name": name,
        "csi": { "driver": "secrets-store.csi.k8s.io", "readOnly": true, "volumeAttributes": attributes },
    })
}
