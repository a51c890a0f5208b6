//! The AWS provider (ASCP) of the Secrets Store CSI driver: `SecretProviderClass`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Binding, Bindings, ProjectionError, metadata, text};
use crate::reference::{ParameterRef, ParameterVersion, ParseError, Reference, SecretRef, SecretVersion};

const FORM: &str = "the CSI driver";

/// What a `SecretProviderClass` needs besides its bindings.
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
}

impl SecretProviderClass {
    /// A class of this name.
    pub fn new(name: &str) -> Self {
        SecretProviderClass { name: name.to_owned(), namespace: None, failover_region: None, synced: None }
    }

    /// In this namespace.
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Reads replicas in this region when the own one fails. Any 4xx of either region fails the mount.
    pub fn failover_region(mut self, region: &str) -> Self {
        self.failover_region = Some(region.to_owned());
        self
    }

    /// Keeps a `Secret` of this name with the values too, for environment variables.
    pub fn synced(mut self, secret: &str) -> Self {
        self.synced = Some(secret.to_owned());
        self
    }

    /// The object. All keys of one secret are one object, and one call.
    ///
    /// # Errors
    /// When one secret is asked for in two versions or one value under two names, which the provider refuses, or when
    /// the ARNs are of more than one region.
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

    /// The object of a reference's whole value, without aliases.
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

    /// Reads a `SecretProviderClass`. Its objects may be YAML with the feature `yaml`, else JSON.
    ///
    /// # Errors
    /// When it is not of the form, or a path is more than a key.
    pub fn parse(object: &Value) -> Result<Bindings, ProjectionError> {
        let objects = parse_objects(text(object, "/spec/parameters/objects")?)?;
        let mut bindings = Vec::new();
        for object in &objects {
            bindings.extend(parse_object(object)?);
        }
        Bindings::new(bindings)
    }
}

/// What the provider fetches it by; one class takes it once.
fn binding_id(reference: &Reference) -> String {
    match reference {
        Reference::Secret(secret) => secret.id(),
        Reference::Parameter(parameter) => parameter.id(),
    }
}

/// The region of the ARNs: the provider refuses those of another than its own.
fn region(bindings: &Bindings) -> Result<Option<&str>, ProjectionError> {
    let mut region = None;
    for Binding { name, reference } in bindings {
        let Some(arn) = reference.arn() else { continue };
        if *region.get_or_insert(arn.region()) != arn.region() {
            let reason = "its region is not that of the others: one class takes one region";
            return Err(ProjectionError::not_expressible(name, FORM, reason));
        }
    }
    Ok(region)
}

/// Gives the object the binding's name: as an alias of the whole, or of one key.
fn add(
    object: &mut Value,
    new: &Value,
    Binding { name, reference }: &Binding,
) -> Result<(), ProjectionError> {
    let refused = |reason| Err(ProjectionError::not_expressible(name, FORM, reason));
    for version in ["objectVersion", "objectVersionLabel"] {
        if object.get(version) != new.get(version) {
            return refused(
                "one class takes a secret in one version: name the other by its ARN, or use a second class",
            );
        }
    }
    let whole = unbound(&binding_id(reference));
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
                return refused("one class takes a whole value under one name: bind it once");
            }
            _ => object["objectAlias"] = json!(name),
        },
    }
    Ok(())
}

/// The name of the file that the provider would write a whole value to; of an ARN what follows its last colon.
fn file_name(id: &str) -> String {
    let name = id.rsplit(':').next().unwrap_or(id);
    name.trim_start_matches('/').replace('/', "_")
}

/// What a whole value is called that nothing is bound to, but whose keys are.
fn unbound(id: &str) -> String {
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
        "is no list"
    } else {
        "is no list in JSON; for YAML enable the feature `yaml`"
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
    let is_bound = paths.is_empty() || field("objectAlias").is_some_and(|alias| alias != unbound(id));
    let keyed = |path: &Value| {
        let (name, path) = (text(path, "/objectAlias")?, text(path, "/path")?);
        let reason = "its jmesPath is more than a key of the outermost object";
        let key = jmes_key(path).ok_or_else(|| ProjectionError::not_expressible(name, FORM, reason))?;
        let secret = secret.clone().with_key(&key);
        let secret = secret.map_err(|source| ProjectionError::Reference { name: name.to_owned(), source })?;
        Ok((name.to_owned(), Reference::from(secret)))
    };
    let whole = is_bound.then(|| Ok((alias.clone(), Reference::from(secret.clone()))));
    whole.into_iter().chain(paths.iter().map(keyed)).collect()
}

fn secret(id: &str, version: Option<&str>, label: Option<&str>) -> Result<SecretRef, ParseError> {
    let secret = match id.starts_with("arn:") {
        true => SecretRef::by_arn(id)?,
        false => SecretRef::by_name(id)?,
    };
    match (version, label) {
        (Some(_), Some(_)) => Err(ParseError::new("a version and a version label exclude each other")),
        (Some(id), None) => secret.with_version_id(id),
        (None, Some(stage)) => secret.with_stage(stage),
        (None, None) => Ok(secret),
    }
}

fn parameter(id: &str, selector: Option<&str>) -> Result<ParameterRef, ParseError> {
    let parameter = match id.starts_with("arn:") {
        true => ParameterRef::by_arn(id)?,
        false => ParameterRef::by_name(id)?,
    };
    selector.map_or(Ok(parameter.clone()), |selector| parameter.with_selector(selector))
}

/// Whether JMESPath takes the key without quotes.
pub(super) fn is_plain(key: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && key.chars().all(legal)
}

/// A key as a JMESPath: in quotes, with JSON's escapes, unless it is plain.
fn jmes_path(key: &str) -> String {
    if is_plain(key) { key.to_owned() } else { Value::String(key.to_owned()).to_string() }
}

/// The key of a JMESPath, `None` when it is more than a key.
fn jmes_key(path: &str) -> Option<String> {
    match path.starts_with('"') {
        true => serde_json::from_str(path).ok(),
        false => is_plain(path).then(|| path.to_owned()),
    }
}

/// The volume of a pod that mounts the class.
pub fn volume(name: &str, class: &str) -> Value {
    let attributes = Map::from_iter([("secretProviderClass".to_owned(), json!(class))]);
    json!({
        "name": name,
        "csi": { "driver": "secrets-store.csi.k8s.io", "readOnly": true, "volumeAttributes": attributes },
    })
}
