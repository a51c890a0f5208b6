//! Two Services that share the traffic of an Ingress or HTTPRoute, and the object that has their weights.

use std::{fmt, str::FromStr, time::Duration};

use super::{name::is_dns_name, steps::TrafficSteps};
use crate::{deploy::GateName, parse::ParseError};

/// Two Services that share the traffic of an Ingress or HTTPRoute by weight.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrafficConfig {
    /// The object that has the weights.
    pub object: TrafficObject,
    /// The Ingress's action, when there are several.
    pub action: Option<String>,
    /// The two Services.
    pub services: [String; 2],
    /// The steps of a shift.
    pub steps: TrafficSteps,
    /// How long each step is watched before the next one. Defaults to zero.
    pub bake: Duration,
    /// The gates that are checked before the first step.
    pub smoke: Vec<GateName>,
    /// The gates that are checked after each step.
    pub checks: Vec<GateName>,
    /// Whether the health of load balancer targets is read, in builds that can. Defaults to `on`.
    pub target_health: bool,
}

impl TrafficConfig {
    /// Two Services that share the traffic of an object, with the default steps and without checks.
    pub fn new(object: TrafficObject, services: [String; 2]) -> Self {
        TrafficConfig {
            object,
            action: None,
            services,
            steps: TrafficSteps::default(),
            bake: Duration::ZERO,
            smoke: Vec::new(),
            checks: Vec::new(),
            target_health: true,
        }
    }
}

/// An object that distributes traffic by weights: `ingress/shop` or `httproute/shop`.
///
/// ```
/// use bp_artifact::config::TrafficObject;
///
/// let route: TrafficObject = "httproute/shop".parse()?;
/// assert_eq!(route, TrafficObject::HttpRoute("shop".into()));
/// assert!("service/shop".parse::<TrafficObject>().is_err());
/// # Ok::<(), bp_artifact::error::ParseError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrafficObject {
    /// An Ingress of an Application Load Balancer, with weights in an annotation.
    Ingress(String),
    /// An HTTPRoute of the Gateway API.
    HttpRoute(String),
}

impl TrafficObject {
    /// The kind, as kubectl accepts it.
    pub fn kind(&self) -> &'static str {
        match self {
            TrafficObject::Ingress(_) => "ingress",
            TrafficObject::HttpRoute(_) => "httproute",
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        match self {
            TrafficObject::Ingress(name) | TrafficObject::HttpRoute(name) => name,
        }
    }
}

impl fmt::Display for TrafficObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind(), self.name())
    }
}

impl FromStr for TrafficObject {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let parsed = match text.split_once('/') {
            Some(("ingress", name)) => Some(TrafficObject::Ingress(name.to_owned())),
            Some(("httproute", name)) => Some(TrafficObject::HttpRoute(name.to_owned())),
            Some(_) | None => None,
        };
        let expected = "expected ingress/NAME or httproute/NAME";
        parsed
            .filter(|object| is_dns_name(object.name()))
            .ok_or_else(|| ParseError::new("an Ingress or HTTPRoute", text, expected))
    }
}
