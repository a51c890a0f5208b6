//! What will surprise whoever has the bindings rendered by somebody else.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Binding, Bindings, ascp::is_plain};
use crate::{Kind, Lint, ParameterVersion, Reference, reference_suffix};

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

/// Looks at the references alone; what their values do is told by [`Lint::of`] and by a [`check`](crate::check).
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
        let mut warn = |lint| warnings.push(Warning { name: name.clone(), lint });
        if renderer == Renderer::Ecs {
            // Told once, at the first of them.
            if let Some(keys) = keys.remove(&reference.whole()).filter(|keys| *keys > 1) {
                warn(Lint::ManyCalls { keys });
            }
        }
        match (renderer, reference) {
            (Renderer::Ecs, Reference::Parameter(p)) if *p.version() != ParameterVersion::Latest => {
                warn(Lint::Selector);
            }
            (Renderer::Ecs, Reference::Secret(secret)) => {
                if secret.arn().is_some_and(|arn| reference_suffix(arn.resource()).is_none()) {
                    warn(Lint::NoSuffix);
                }
            }
            (Renderer::Ascp, Reference::Secret(secret)) => {
                if secret.key().is_some_and(|key| !is_plain(key)) {
                    warn(Lint::QuotedPath);
                }
            }
            _ => {}
        }
    }
    warnings
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
