//! API requests of Kubernetes clients: target, verb and query parameters.

use std::collections::BTreeMap;

use http::{Method, request};

use super::{
    resource::{Resource, Target},
    selector::Selector,
    store::Key,
    table,
};

/// One API request: target, verb and query.
pub(super) struct Call<'a> {
    pub(super) target: Target,
    pub(super) verb: &'static str,
    pub(super) query: BTreeMap<String, String>,
    pub(super) manager: String,
    pub(super) user: &'a str,
    /// Whether the response is a `Table`.
    pub(super) table: bool,
}

impl<'a> Call<'a> {
    pub(super) fn read(parts: &request::Parts, user: &'a str) -> Option<Self> {
        let target = Target::read(parts.uri.path())?;
        let query = query(parts.uri.query().unwrap_or_default());
        let watching = query.get("watch").is_some_and(|w| matches!(w.as_str(), "true" | "1"));
        let verb = match (&parts.method, &target.name) {
            (&Method::GET, Some(_)) => "get",
            (&Method::GET, None) if watching => "watch",
            (&Method::GET, None) => "list",
            (&Method::POST, None) => "create",
            (&Method::PUT, Some(_)) => "update",
            (&Method::PATCH, Some(_)) => "patch",
            (&Method::DELETE, Some(_)) => "delete",
            _ => "",
        };
        let agent = parts.headers.get("user-agent").and_then(|a| a.to_str().ok()).unwrap_or("unknown");
        let manager = query.get("fieldManager").cloned();
        let manager = manager.unwrap_or_else(|| agent.split('/').next().unwrap_or_default().to_owned());
        Some(Call { target, verb, query, manager, user, table: table::is_wanted(parts) })
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.query.get(name).is_some_and(|value| matches!(value.as_str(), "true" | "1"))
    }

    pub(super) fn text(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    pub(super) fn dry_run(&self) -> bool {
        self.text("dryRun") == "All"
    }

    pub(super) fn resource(&self) -> &'static Resource {
        self.target.resource
    }

    pub(super) fn namespace(&self) -> &str {
        self.target.namespace.as_deref().unwrap_or_default()
    }

    pub(super) fn name(&self) -> &str {
        self.target.name.as_deref().unwrap_or_default()
    }

    pub(super) fn key(&self) -> Key {
        Key::new(self.resource().plural, self.namespace(), self.name())
    }

    pub(super) fn selector(&self) -> Selector {
        Selector::read(self.text("labelSelector"), self.text("fieldSelector"))
    }

    pub(super) fn subresource(&self) -> &str {
        self.target.subresource.as_deref().unwrap_or_default()
    }
}

fn query(text: &str) -> BTreeMap<String, String> {
    let decode =
        |s: &str| percent_encoding::percent_decode_str(&s.replace('+', " ")).decode_utf8_lossy().into_owned();
    text.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (decode(k), decode(v))).collect()
}
