//! API requests of Kubernetes clients: target, verb and query parameters.

use std::{cell::RefCell, collections::BTreeMap};

use http::{Method, request};

use super::{
    negotiation::{Accepted, BUILT_IN, CUSTOM, negotiate, offers_any},
    resource::{Resource, Resources, Target},
    selector::Selector,
    status::{Answer, Failure},
    store::Key,
};

/// One API request: target, verb and query.
pub(super) struct Call<'a> {
    pub(super) target: Target,
    pub(super) verb: &'static str,
    pub(super) query: BTreeMap<String, String>,
    pub(super) manager: String,
    pub(super) user: &'a str,
    /// The format and transformation of the response.
    pub(super) accepted: Accepted,
    /// Warnings that are added to the response.
    pub(super) warnings: RefCell<Vec<String>>,
}

impl<'a> Call<'a> {
    pub(super) fn read(parts: &request::Parts, user: &'a str, resources: &Resources) -> Option<Self> {
        let target = Target::read(parts.uri.path(), resources)?;
        let query = query(parts.uri.query().unwrap_or_default());
        let watching = query.get("watch").is_some_and(|w| matches!(w.as_str(), "true" | "1"));
        let verb = match (&parts.method, &target.name) {
            (&Method::GET, Some(_)) => "get",
            (&Method::GET, None) if watching => "watch",
            (&Method::GET, None) => "list",
            (&Method::POST, None) => "create",
            (&Method::POST, Some(_)) if target.subresource.is_some() => "create",
            (&Method::PUT, Some(_)) => "update",
            (&Method::PATCH, Some(_)) => "patch",
            (&Method::DELETE, Some(_)) => "delete",
            (&Method::DELETE, None) => "deletecollection",
            _ => "",
        };
        let agent = parts.headers.get("user-agent").and_then(|a| a.to_str().ok()).unwrap_or("unknown");
        let manager = query.get("fieldManager").cloned();
        let manager = manager.unwrap_or_else(|| agent.split('/').next().unwrap_or_default().to_owned());
        Some(Call { query, manager, ..Call::new(target, verb, user) })
    }

    /// A request without a query, by an unnamed client.
    pub(super) fn new(target: Target, verb: &'static str, user: &'a str) -> Self {
        Call {
            target,
            verb,
            query: BTreeMap::new(),
            manager: "unknown".to_owned(),
            user,
            accepted: Accepted::default(),
            warnings: RefCell::default(),
        }
    }

    /// Chooses the format of the response.
    pub(super) fn negotiate(&mut self, parts: &request::Parts) -> Answer<()> {
        // Logs are text, whatever the client accepts.
        if self.subresource() != "log" {
            let offered = if self.resource().is_custom() { CUSTOM } else { BUILT_IN };
            self.accepted = match negotiate(&parts.headers, offered) {
                // The routes of built-in kinds refuse formats before their handlers do.
                Err(_) if !self.resource().is_custom() && !offers_any(&parts.headers, offered) => {
                    return Err(Failure::no_representation(offered, self.target.name.is_none()));
                }
                accepted => accepted?,
            };
        }
        Ok(())
    }

    /// Adds a warning to the response.
    pub(super) fn warn(&self, text: String) {
        self.warnings.borrow_mut().push(text);
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
        Key::new(self.resource().stored, self.namespace(), self.name())
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
