//! Convert bindings to and from `ExternalSecret` and `ClusterSecretStore` of External Secrets Operator
//! (`external-secrets.io/v1`).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Binding, Bindings, ProjectionError, list, metadata, text};
use crate::reference::{ParameterRef, ParseError, Reference, SecretRef, SecretVersion, Service};

const FORM: &str = "External Secrets Operator";
const VERSION: &str = "external-secrets.io/v1";

/// Options of an `ExternalSecret`; the bindings are given to [`print`](Self::print).
///
/// ```
/// use bp_secrets::projection::{env, external_secrets::ExternalSecret};
///
/// let bindings = env::parse("USER=secretsmanager:prod/db:user::\nPASSWORD=secretsmanager:prod/db:password::")?;
/// let object = ExternalSecret::new("db")
///     .namespace("shop")
///     .template("URL", "postgres://{{ .USER }}:{{ .PASSWORD | urlquery }}@db/shop")
///     .print(&bindings);
/// assert_eq!(object["spec"]["target"]["template"]["engineVersion"], "v2");
/// # Ok::<(), bp_secrets::projection::ProjectionError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalSecret {
    name: String,
    namespace: Option<String>,
    secrets_store: String,
    parameters_store: String,
    immutable: bool,
    kind: Option<String>,
    templates: BTreeMap<String, String>,
    extracts: Vec<Reference>,
}

impl ExternalSecret {
    /// An `ExternalSecret` with this name, which is also the name of its target `Secret`. Its `ClusterSecretStore`s
    /// default to `aws-secrets-manager` and `aws-parameter-store`.
    pub fn new(name: &str) -> Self {
        ExternalSecret {
            name: name.to_owned(),
            namespace: None,
            secrets_store: "aws-secrets-manager".into(),
            parameters_store: "aws-parameter-store".into(),
            immutable: false,
            kind: None,
            templates: BTreeMap::new(),
            extracts: Vec::new(),
        }
    }

    /// Sets the namespace.
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Sets the names of the `ClusterSecretStore`s for Secrets Manager and for Parameter Store.
    pub fn stores(mut self, secrets_manager: &str, parameter_store: &str) -> Self {
        (self.secrets_store, self.parameters_store) = (secrets_manager.into(), parameter_store.into());
        self
    }

    /// Makes the `Secret` immutable: a changed value requires a `Secret` with another name, and so a rollout.
    pub fn immutable(mut self) -> Self {
        self.immutable = true;
        self
    }

    /// Sets the type of the `Secret`, such as `kubernetes.io/tls`; defaults to `Opaque`.
    ///
    /// ```
    /// use bp_secrets::projection::{env, external_secrets::ExternalSecret};
    ///
    /// let bindings = env::parse("tls.crt=secretsmanager:prod/tls:crt::\ntls.key=secretsmanager:prod/tls:key::")?;
    /// let object = ExternalSecret::new("tls").secret_type("kubernetes.io/tls").print(&bindings);
    /// assert_eq!(object["spec"]["target"]["template"]["type"], "kubernetes.io/tls");
    /// # Ok::<(), bp_secrets::projection::ProjectionError>(())
    /// ```
    pub fn secret_type(mut self, kind: &str) -> Self {
        self.kind = Some(kind.to_owned());
        self
    }

    /// Adds a key whose value is a Go template (engine v2), in which `{{ .NAME }}` is the bound value of NAME. With
    /// templates, the `Secret` has only the templates' keys.
    pub fn template(mut self, key: &str, text: &str) -> Self {
        self.templates.insert(key.to_owned(), text.to_owned());
        self
    }

    /// Extracts every key of the reference's JSON object under its own name (`dataFrom`).
    pub fn extract(mut self, reference: Reference) -> Self {
        self.extracts.push(reference);
        self
    }

    /// The Kubernetes object.
    #[allow(clippy::indexing_slicing, reason = "the objects are created here")]
    pub fn print(&self, bindings: &Bindings) -> Value {
        let data: Vec<Value> = bindings.iter().map(|binding| self.entry(binding)).collect();
        let mut target = json!({ "name": self.name, "creationPolicy": "Owner" });
        if self.immutable {
            target["immutable"] = json!(true);
        }
        if !self.templates.is_empty() {
            target["template"] = json!({ "engineVersion": "v2", "data": self.templates });
        }
        if let Some(kind) = &self.kind {
            target["template"]["type"] = json!(kind);
        }
        let mut spec = json!({ "refreshInterval": "1h", "target": target, "data": data });
        if !self.extracts.is_empty() {
            let extract = |reference| {
                let (remote, source) = self.remote(reference);
                json!({ "extract": remote, "sourceRef": source })
            };
            spec["dataFrom"] = self.extracts.iter().map(extract).collect();
        }
        json!({
            "apiVersion": VERSION,
            "kind": "ExternalSecret",
            "metadata": metadata(&self.name, self.namespace.as_deref()),
            "spec": spec,
        })
    }

    fn entry(&self, Binding { name, reference }: &Binding) -> Value {
        let (remote, source) = self.remote(reference);
        json!({ "secretKey": name, "remoteRef": remote, "sourceRef": source })
    }

    /// The `remoteRef` and `sourceRef` of a reference.
    #[allow(clippy::indexing_slicing, reason = "the objects are created here")]
    fn remote(&self, reference: &Reference) -> (Value, Value) {
        let mut remote = json!({});
        let store = match reference {
            Reference::Secret(secret) => {
                remote["key"] = json!(secret.id());
                if let Some(key) = secret.key() {
                    remote["property"] = json!(gjson_path(key));
                }
                match secret.version() {
                    SecretVersion::Current => {}
                    SecretVersion::Stage(stage) => remote["version"] = json!(stage),
                    SecretVersion::Id(id) => remote["version"] = json!(format!("uuid/{id}")),
                }
                &self.secrets_store
            }
            Reference::Parameter(parameter) => {
                remote["key"] = json!(parameter.id());
                if let Some(selector) = parameter.selector() {
                    remote["version"] = json!(selector);
                }
                &self.parameters_store
            }
        };
        // Each entry has its own store: one object may read from both services.
        (remote, json!({ "storeRef": { "kind": "ClusterSecretStore", "name": store } }))
    }

    /// Parses an `ExternalSecret` whose `Secret` has the bound names with their unchanged values. `service` returns the
    /// service of a store by the store's name. A property with dots, such as `tls.crt`, is the key of that name, which the
    /// operator reads first.
    ///
    /// # Errors
    /// When it is not a valid `ExternalSecret`, a store is unknown, a property is a query, the values are decoded or
    /// rendered by a template, or the names come from the values themselves (`dataFrom`).
    pub fn parse(
        object: &Value,
        service: impl Fn(&str) -> Option<Service>,
    ) -> Result<Bindings, ProjectionError> {
        let has = |pointer: &str| object.pointer(pointer).is_some_and(|value| !is_empty(value));
        let refuse = |at: &str, reason: &str| Err(ProjectionError::shape(at, reason));
        if has("/spec/dataFrom") {
            return refuse(
                "/spec/dataFrom",
                "takes the names from the values, so they cannot be bound: list them in `data`",
            );
        }
        for at in ["/spec/target/template/data", "/spec/target/template/templateFrom"] {
            if has(at) {
                return refuse(at, "renders the fetched values into other values, so they cannot be bound");
            }
        }
        let reader = Reader { object, service: &service, paths: Paths::Refused };
        Bindings::new(reader.data()?)
    }

    /// Every reference of an `ExternalSecret`, for checks and permissions, including those in `dataFrom` and those that
    /// a template uses. If a property may be a path or is a query, the reference is to the whole secret.
    ///
    /// # Errors
    /// When it is not a valid `ExternalSecret`, a store is unknown, or `dataFrom` uses `find` or a generator, for which
    /// there is no reference.
    pub fn references(
        object: &Value,
        service: impl Fn(&str) -> Option<Service>,
    ) -> Result<Vec<Reference>, ProjectionError> {
        let reader = Reader { object, service: &service, paths: Paths::WholeSecret };
        let bound = match object.pointer("/spec/data") {
            None => Vec::new(),
            Some(_) => reader.data()?,
        };
        let extracted = reader.extracts()?;
        Ok(bound.into_iter().map(|(_, reference)| reference).chain(extracted).collect())
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// An object to parse, and the services of its stores.
struct Reader<'a> {
    object: &'a Value,
    service: &'a dyn Fn(&str) -> Option<Service>,
    paths: Paths,
}

/// How a property that is a path into the value is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Paths {
    /// As an error.
    Refused,
    /// As a reference to the secret, of which the operator reads some part.
    WholeSecret,
}

impl Reader<'_> {
    /// The names and references of `data`.
    fn data(&self) -> Result<Vec<(String, Reference)>, ProjectionError> {
        let entry = |entry: &Value| {
            let name = text(entry, "/secretKey")?;
            let remote = entry.pointer("/remoteRef").unwrap_or(&Value::Null);
            Ok((name.to_owned(), self.reference(name, remote, entry)?))
        };
        list(self.object, "/spec/data")?.iter().map(entry).collect()
    }

    /// The references of `dataFrom`.
    fn extracts(&self) -> Result<Vec<Reference>, ProjectionError> {
        let Some(all) = self.object.pointer("/spec/dataFrom").filter(|value| !is_empty(value)) else {
            return Ok(Vec::new());
        };
        let all = all.as_array().ok_or_else(|| ProjectionError::shape("/spec/dataFrom", "is not a list"))?;
        let extract = |entry: &Value| match entry.get("extract") {
            Some(remote) => self.reference("dataFrom", remote, entry),
            None => {
                let reason =
                    "uses `find` or a generator, for which there is no reference: use `extract` or `data`";
                Err(ProjectionError::shape("/spec/dataFrom", reason))
            }
        };
        all.iter().map(extract).collect()
    }

    /// The reference in `remote` of `entry`. Error messages call it `name`.
    fn reference(&self, name: &str, remote: &Value, entry: &Value) -> Result<Reference, ProjectionError> {
        let refuse = |reason: String| ProjectionError::not_expressible(name, FORM, reason);
        let default = self.object.pointer("/spec/secretStoreRef/name");
        let store = entry.pointer("/sourceRef/storeRef/name").or(default).and_then(Value::as_str);
        let store =
            store.ok_or_else(|| refuse("it has no `storeRef`, and there is no `secretStoreRef`".into()))?;
        let service =
            (self.service)(store).ok_or_else(|| refuse(format!("the store {store:?} is unknown")))?;
        for (field, usual) in [("decodingStrategy", "None"), ("metadataPolicy", "None")] {
            if remote.get(field).and_then(Value::as_str).is_some_and(|value| value != usual) {
                return Err(refuse(format!("its {field} changes the value")));
            }
        }
        let field = |field: &str| remote.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
        let key = field("key")
            .ok_or_else(|| ProjectionError::shape("/remoteRef/key", "is missing or not a string"))?;
        let property = match field("property").map(|path| (path, gjson_key(path))) {
            None => None,
            // A key with a dot is read if it exists; otherwise it is a path.
            Some((path, key)) if self.paths == Paths::WholeSecret => key.filter(|_| !has_plain_dot(path)),
            Some((_, Some(key))) => Some(key),
            Some((_, None)) => {
                let reason = "its property is a query, but only a single top-level key is supported";
                return Err(refuse(reason.into()));
            }
        };
        reference(service, key, property.as_deref(), field("version"))
            .map_err(|source| ProjectionError::Reference { name: name.to_owned(), source })
    }
}

fn reference(
    service: Service,
    key: &str,
    property: Option<&str>,
    version: Option<&str>,
) -> Result<Reference, ParseError> {
    if service == Service::Ssm {
        let parameter =
            if key.starts_with("arn:") { ParameterRef::by_arn(key)? } else { ParameterRef::by_name(key)? };
        if property.is_some() {
            return Err(ParseError::new("a property of a parameter is not supported"));
        }
        return version.map_or(Ok(parameter.clone()), |v| parameter.with_selector(v)).map(Reference::from);
    }
    let mut secret = if key.starts_with("arn:") { SecretRef::by_arn(key)? } else { SecretRef::by_name(key)? };
    if let Some(property) = property {
        secret = secret.with_key(property)?;
    }
    let secret = match version.map(|version| (version, version.strip_prefix("uuid/"))) {
        None => secret,
        Some((_, Some(id))) => secret.with_version_id(id)?,
        Some((stage, None)) => secret.with_stage(stage)?,
    };
    Ok(Reference::from(secret))
}

/// A `ClusterSecretStore` for one service in one region, which reads with the IAM role of a service account (IRSA), given
/// as namespace and name.
pub fn cluster_store(name: &str, service: Service, region: &str, service_account: (&str, &str)) -> Value {
    let (namespace, account) = service_account;
    let auth = json!({ "jwt": { "serviceAccountRef": { "name": account, "namespace": namespace } } });
    let mut store = controller_store(name, service, region);
    if let Some(Value::Object(aws)) = store.pointer_mut("/spec/provider/aws") {
        aws.insert("auth".into(), auth);
    }
    store
}

/// A `ClusterSecretStore` for one service in one region, which reads with the IAM role of the operator's own pods, as with
/// EKS Pod Identity.
pub fn controller_store(name: &str, service: Service, region: &str) -> Value {
    let service = match service {
        Service::SecretsManager => "SecretsManager",
        Service::Ssm => "ParameterStore",
    };
    json!({
        "apiVersion": VERSION,
        "kind": "ClusterSecretStore",
        "metadata": { "name": name },
        "spec": { "provider": { "aws": { "service": service, "region": region } } },
    })
}

/// The name and service of a `ClusterSecretStore` or `SecretStore`, for [`ExternalSecret::parse`].
///
/// # Errors
/// When it is not a store for AWS.
pub fn parse_store(object: &Value) -> Result<(String, Service), ProjectionError> {
    let service = match text(object, "/spec/provider/aws/service")? {
        "SecretsManager" => Service::SecretsManager,
        "ParameterStore" => Service::Ssm,
        _ => {
            return Err(ProjectionError::shape(
                "/spec/provider/aws/service",
                "is neither `SecretsManager` nor `ParameterStore`",
            ));
        }
    };
    Ok((text(object, "/metadata/name")?.to_owned(), service))
}

/// A key as a gjson path: characters that may be syntax are escaped.
fn gjson_path(key: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | ' ' | '/');
    key.chars().flat_map(|c| (!plain(c)).then_some('\\').into_iter().chain([c])).collect()
}

/// The key of a gjson path; `None` when the path is a query. The operator takes a path with dots for a key first.
fn gjson_key(path: &str) -> Option<String> {
    let mut key = String::new();
    let mut chars = path.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => key.push(chars.next()?),
            '*' | '?' | '|' | '#' => return None,
            '@' | '!' | '{' | '[' if key.is_empty() => return None,
            c => key.push(c),
        }
    }
    Some(key).filter(|key| !key.is_empty())
}

/// Whether a path has a dot that is not escaped.
fn has_plain_dot(path: &str) -> bool {
    let mut chars = path.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '.' => return true,
            _ => {}
        }
    }
    false
}
