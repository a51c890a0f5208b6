//! Warnings about bindings that ECS, External Secrets Operator or the CSI driver render in an unexpected way.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Binding, Bindings, ascp::is_plain};
use crate::{
    lint::Lint,
    reference::{Arn, ParameterVersion, Reference, suffix},
    value::Kind,
};

/// The program that resolves the references to values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Renderer {
    /// The ECS agent.
    Ecs,
    /// External Secrets Operator.
    ExternalSecrets,
    /// The AWS provider of the Secrets Store CSI driver.
    Ascp,
}

/// A lint and the name that it applies to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Warning {
    /// The bound name.
    pub name: String,
    /// The lint.
    pub lint: Lint,
}

/// Returns the warnings about the references. For warnings about values see [`Lint::of`] and [`check`](crate::check()).
///
/// ```
/// use bp_secrets::projection::{Renderer, env, lint};
///
/// let bindings = env::parse("HOST=/prod/host:3")?;
/// assert_eq!(lint(Renderer::Ecs, &bindings)[0].lint.code(), "selector");
/// # Ok::<(), bp_secrets::projection::ProjectionError>(())
/// ```
pub fn lint(renderer: Renderer, bindings: &Bindings) -> Vec<Warning> {
    let mut keys: BTreeMap<Reference, usize> = BTreeMap::new();
    for reference in bindings.iter().map(|b| &b.reference).filter(|r| r.key().is_some()) {
        let count = keys.entry(reference.whole()).or_default();
        *count = count.saturating_add(1);
    }
    let mut warnings = Vec::new();
    for Binding { name, reference } in bindings {
        // Reported once, for the first of the keys.
        let keys = keys.remove(&reference.whole()).filter(|keys| *keys > 1);
        let many = keys.filter(|_| renderer == Renderer::Ecs).map(|keys| Lint::ManyCalls { keys });
        let other = match (renderer, reference) {
            (Renderer::Ecs, Reference::Parameter(p)) if *p.version() != ParameterVersion::Latest => {
                Some(Lint::Selector)
            }
            (Renderer::Ecs, Reference::Secret(s)) if s.arn().is_some_and(lacks_suffix) => {
                Some(Lint::NoSuffix)
            }
            (Renderer::Ascp, Reference::Secret(s)) if s.key().is_some_and(|key| !is_plain(key)) => {
                Some(Lint::QuotedPath)
            }
            _ => None,
        };
        let lints = many.into_iter().chain(other);
        warnings.extend(lints.map(|lint| Warning { name: name.clone(), lint }));
    }
    warnings
}

fn lacks_suffix(arn: &Arn) -> bool {
    suffix(arn.resource()).is_none()
}

impl Lint {
    /// The lint for a kind of value that the renderer does not render as it is stored.
    pub fn of(renderer: Renderer, kind: Kind) -> Option<Self> {
        match (renderer, kind) {
            (_, Kind::Text) | (Renderer::ExternalSecrets, _) => None,
            (Renderer::Ascp, Kind::Binary) => None,
            (Renderer::Ascp, _) => Some(Lint::NotText),
            (Renderer::Ecs, Kind::Number | Kind::Bool) => None,
            (Renderer::Ecs, Kind::GoNumber) => Some(Lint::GoNumber),
            (Renderer::Ecs, Kind::Compound) => Some(Lint::Compound),
            (Renderer::Ecs, Kind::Null) => Some(Lint::Null),
            (Renderer::Ecs, Kind::Binary) => Some(Lint::Binary),
        }
    }
}
