//! What will surprise whoever has the bindings rendered by somebody else.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Binding, Bindings, ascp::is_plain};
use crate::{
    lint::Lint,
    reference::{Arn, ParameterVersion, Reference, suffix},
    value::Kind,
};

/// Who turns the references into values.
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

/// A lint, and the name that it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Warning {
    /// The bound name.
    pub name: String,
    /// What will surprise.
    pub lint: Lint,
}

/// Looks at the references alone; what their values do is told by [`Lint::of`] and by a [`check`](crate::check()).
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
        *keys.entry(reference.whole()).or_default() += 1;
    }
    let mut warnings = Vec::new();
    for Binding { name, reference } in bindings {
        // Told once, at the first of them.
        let keys = keys.remove(&reference.whole()).filter(|keys| *keys > 1);
        let many = keys.filter(|_| renderer == Renderer::Ecs).map(|keys| Lint::ManyCalls { keys });
        let odd = match (renderer, reference) {
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
        let lints = many.into_iter().chain(odd);
        warnings.extend(lints.map(|lint| Warning { name: name.clone(), lint }));
    }
    warnings
}

fn lacks_suffix(arn: &Arn) -> bool {
    suffix(arn.resource()).is_none()
}

impl Lint {
    /// What a renderer makes of a kind of value otherwise than it stands.
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
