//! Convert references to the formats of ECS, External Secrets Operator, the Secrets Store CSI driver, Kubernetes and
//! `.env` files.
//!
//! Each module prints [`Bindings`] (names of variables, and the references that provide their values) in one format and
//! parses them. Formats with values return a `SecretString`; all others contain references only. Objects are JSON,
//! which every YAML parser reads, such as that of `kubectl apply -f`. [`lint`] warns about references that a format
//! handles in an unexpected way.
//!
//! ```
//! use bp_secrets::projection::{Bindings, ecs, env};
//!
//! let bindings = env::parse("DB_HOST=/prod/db/host\nDB_USER=/prod/db/user:3\n")?;
//! assert_eq!(
//!     ecs::print(&bindings)?,
//!     serde_json::json!([
//!         { "name": "DB_HOST", "valueFrom": "/prod/db/host" },
//!         { "name": "DB_USER", "valueFrom": "/prod/db/user:3" },
//!     ])
//! );
//! assert_eq!(ecs::parse(&ecs::print(&bindings)?)?, bindings);
//! # Ok::<(), bp_secrets::projection::ProjectionError>(())
//! ```

pub mod ascp;
mod bindings;
pub mod ecs;
pub mod env;
pub mod external_secrets;
pub mod kubernetes;
mod lint;

use serde_json::Value;

pub use self::{
    bindings::{Binding, Bindings, ProjectionError},
    lint::{Renderer, Warning, lint},
};

/// Parses an object from YAML or JSON text.
///
/// # Errors
/// When it is neither. The error does not quote the text.
#[cfg(feature = "yaml")]
pub fn from_yaml(text: &str) -> Result<Value, ProjectionError> {
    serde_saphyr::from_str(text).map_err(|_| ProjectionError::shape("the text", "is not valid YAML"))
}

/// The string at a JSON pointer of an object.
fn text<'a>(object: &'a Value, pointer: &'static str) -> Result<&'a str, ProjectionError> {
    let found = object.pointer(pointer).and_then(Value::as_str);
    found.ok_or_else(|| ProjectionError::shape(pointer, "is missing or not a string"))
}

/// The list at a JSON pointer of an object.
fn list<'a>(object: &'a Value, pointer: &'static str) -> Result<&'a [Value], ProjectionError> {
    let found = object.pointer(pointer).and_then(Value::as_array);
    found.map(Vec::as_slice).ok_or_else(|| ProjectionError::shape(pointer, "is missing or not a list"))
}

/// `metadata` of a Kubernetes object.
fn metadata(name: &str, namespace: Option<&str>) -> Value {
    match namespace {
        Some(namespace) => serde_json::json!({ "name": name, "namespace": namespace }),
        None => serde_json::json!({ "name": name }),
    }
}
