//! External Secrets Operator: `ExternalSecret` and `ClusterSecretStore` (`external-secrets.io/v1`).

use serde_json::{Value, json};

use super::{Binding, Bindings, ProjectionError, list, metadata, text};
use crate::{ParameterRef, ParseError, Reference, SecretRef, SecretVersion, Service};

const FORM: &str = "External Secrets Operator";
const VERSION: &str = "external-secrets.io/v1";

/// What an `ExternalSecret` needs besides its bindings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalSecret {
    name: String,
    namespace: Option<String>,
    secrets_store: String,
    parameters_store: String,
    immutable: bool,
}

impl ExternalSecret {
    /// An `ExternalSecret`, and the `Secret` that it makes, of this name; its `ClusterSecretStore`s are
    /// `aws-secrets-manager` and `aws-parameter-store`.
    pub fn new(name: &str) -> Self {
        ExternalSecret {
            name: name.to_owned(),
            namespace: None,
            secrets_store: "aws-secrets-manager".into(),
            parameters_store: "aws-parameter-store".into(),
            immutable: false,
        }
    }

    /// In this namespace.
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// The names of the `ClusterSecretStore`s for Secrets Manager and for Parameter Store.
    pub fn stores(mut self, secrets_manager: &str, parameter_store: &str) -> Self {
        (self.secrets_store, self.parameters_store) = (secrets_manager.into(), parameter_store.into());
        self
    }

    /// Makes the `Secret` immutable: a changed value needs another name, and with it a roll-out.
    pub fn immutable(mut self) -> Self {
        self.immutable = true;
        self
    }

    /// The object.
    pub fn print(&self, bindings: &Bindings) -> Value {
        let data: Vec<Value> = bindings.iter().map(|binding| self.entry(binding)).collect();
        let mut target = json!({ "name": self.name, "creationPolicy": "Owner" });
        if self.immutable {
            target["immutable"] = json!(true);
        }
        json!({
            "apiVersion": VERSION,
            "kind": "ExternalSecret",
            "metadata": metadata(&self.name, self.namespace.as_deref()),
            "spec": { "refreshInterval": "1h", "target": target, "data": data },
        })
    }

    fn entry(&self, Binding { name, reference }: &Binding) -> Value {
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
        // The store stands at each entry: one object may take from both services.
        let store = json!({ "storeRef": { "kind": "ClusterSecretStore", "name": store } });
        json!({ "secretKey": name, "remoteRef": remote, "sourceRef": store })
    }

    /// Reads an `ExternalSecret`. `service` says which service a store of this name is for.
    ///
    /// # Errors
    /// When it is not of the form, a store is not known, or a property is a path that is more than a key.
    pub fn parse(
        object: &Value,
        service: impl Fn(&str) -> Option<Service>,
    ) -> Result<Bindings, ProjectionError> {
        let default = object.pointer("/spec/secretStoreRef/name").and_then(Value::as_str);
        let entry = |entry: &Value| {
            let name = text(entry, "/secretKey")?;
            let store = entry.pointer("/sourceRef/storeRef/name").and_then(Value::as_str).or(default);
            let store =
                store.ok_or_else(|| ProjectionError::not_expressible(name, FORM, "it names no store"))?;
            let service = service(store).ok_or_else(|| {
                ProjectionError::not_expressible(name, FORM, format!("the store {store:?} is not known"))
            })?;
            let (key, version) = (text(entry, "/remoteRef/key")?, entry.pointer("/remoteRef/version"));
            let property = entry.pointer("/remoteRef/property").and_then(Value::as_str);
            let property = property.map(|path| {
                let reason = "its property is a path or query, and only a key of the outermost object has a name elsewhere";
                gjson_key(path).ok_or_else(|| ProjectionError::not_expressible(name, FORM, reason))
            });
            let version = version.and_then(Value::as_str).filter(|version| !version.is_empty());
            let reference = reference(service, key, property.transpose()?.as_deref(), version);
            let reference =
                reference.map_err(|source| ProjectionError::Reference { name: name.to_owned(), source })?;
            Ok((name.to_owned(), reference))
        };
        let data = list(object, "/spec/data")?;
        Bindings::new(data.iter().map(entry).collect::<Result<Vec<_>, ProjectionError>>()?)
    }
}

fn reference(
    service: Service,
    key: &str,
    property: Option<&str>,
    version: Option<&str>,
) -> Result<Reference, ParseError> {
    if service == Service::Ssm {
        let parameter = match key.starts_with("arn:") {
            true => ParameterRef::by_arn(key)?,
            false => ParameterRef::by_name(key)?,
        };
        if property.is_some() {
            return Err(ParseError::new("a property of a parameter has no name elsewhere"));
        }
        return version.map_or(Ok(parameter.clone()), |v| parameter.with_selector(v)).map(Reference::from);
    }
    let mut secret = match key.starts_with("arn:") {
        true => SecretRef::by_arn(key)?,
        false => SecretRef::by_name(key)?,
    };
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

/// A `ClusterSecretStore` for one service in one region, which reads with a service account's role.
pub fn cluster_store(name: &str, service: Service, region: &str, service_account: (&str, &str)) -> Value {
    let service = match service {
        Service::SecretsManager => "SecretsManager",
        Service::Ssm => "ParameterStore",
    };
    let (namespace, account) = service_account;
    json!({
        "apiVersion": VERSION,
        "kind": "ClusterSecretStore",
        "metadata": { "name": name },
        "spec": { "provider": { "aws": {
            "service": service,
            "region": region,
            "auth": { "jwt": { "serviceAccountRef": { "name": account, "namespace": namespace } } },
        }}},
    })
}

/// The name and service of a `ClusterSecretStore` or `SecretStore`: what [`ExternalSecret::parse`] asks for.
///
/// # Errors
/// When it is not one for AWS.
pub fn parse_store(object: &Value) -> Result<(String, Service), ProjectionError> {
    let service = match text(object, "/spec/provider/aws/service")? {
        "SecretsManager" => Service::SecretsManager,
        "ParameterStore" => Service::Ssm,
        _ => {
            return Err(ProjectionError::shape(
                "/spec/provider/aws/service",
                "is neither of the two that hold secrets",
            ));
        }
    };
    Ok((text(object, "/metadata/name")?.to_owned(), service))
}

/// A key as a gjson path: whatever could be syntax is escaped.
fn gjson_path(key: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | ' ' | '/');
    key.chars().flat_map(|c| (!plain(c)).then_some('\\').into_iter().chain([c])).collect()
}

/// The key of a gjson path, `None` when it is more than a key.
fn gjson_key(path: &str) -> Option<String> {
    let mut key = String::new();
    let mut chars = path.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => key.push(chars.next()?),
            '.' | '*' | '?' | '|' | '#' => return None,
            '@' | '!' | '{' | '[' if key.is_empty() => return None,
            c => key.push(c),
        }
    }
    Some(key).filter(|key| !key.is_empty())
}
