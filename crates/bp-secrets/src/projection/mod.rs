//! What others call a reference: ECS, External Secrets Operator, the Secrets Store CSI driver, Kubernetes, `.env`.
//!
//! Each module prints [`Bindings`] (names of variables, and the references whose values they take) into one form and
//! parses them back. Forms that hold values return secret text; all others hold references only. Objects are JSON,
//! which every reader of YAML takes: `kubectl apply -f` among them. What will surprise whoever uses the form is told by
//! [`lint`].
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

/// Reads an object from YAML or JSON text.
///
/// # Errors
/// When it is neither. The text is not repeated.
#[cfg(feature = "yaml")]
pub fn from_yaml(text: &str) -> Result<Value, ProjectionError> {
    serde_saphyr::from_str(text).map_err(|_| ProjectionError::shape("the text", "is no YAML"))
}

/// The text at a path of an object.
fn text<'a>(object: &'a Value, pointer: &'static str) -> Result<&'a str, ProjectionError> {
    let found = object.pointer(pointer).and_then(Value::as_str);
    found.ok_or_else(|| ProjectionError::shape(pointer, "is not there, or no text"))
}

/// The list at a path of an object.
fn list<'a>(object: &'a Value, pointer: &'static str) -> Result<&'a [Value], ProjectionError> {
    let found = object.pointer(pointer).and_then(Value::as_array);
    found.map(Vec::as_slice).ok_or_else(|| ProjectionError::shape(pointer, "is not there, or no list"))
}

/// `metadata` of a Kubernetes object.
fn metadata(name: &str, namespace: Option<&str>) -> Value {
    match namespace {
        Some(namespace) => serde_json::json!({ "name": name, "namespace": namespace }),
        None => serde_json::json!({ "name": name }),
    }
}
