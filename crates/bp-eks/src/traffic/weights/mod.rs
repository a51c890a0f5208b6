//! Shift traffic in steps between two permanent Services, by the weights of an Ingress or an HTTPRoute.

mod action;
mod back;
mod follow;
mod judge;
mod patch;
mod plan;
mod ramp;
mod reconciled;
mod route;
mod share;
mod shift;
mod split;
mod survey;
pub(super) mod target;
mod targets;

use std::{fmt, sync::Arc, time::Duration};

use bp_artifact::{
    check::Check,
    config::{TrafficObject, TrafficSteps},
    deploy::{TargetId, run::Run},
    text,
    time::Wait,
};

use super::error::TrafficError;
use crate::{api::scope::Scope, options::Options};

/// A check after each step.
#[derive(Clone)]
pub(in crate::traffic) struct StepCheck {
    check: Arc<dyn Check>,
    wait: Wait,
}

/// Two Services, and the object that has their weights.
#[derive(Clone)]
pub(in crate::traffic) struct WeightedPair {
    namespace: Scope,
    id: TargetId,
    object: TrafficObject,
    /// The Ingress's action; `None` for all actions that forward to both Services.
    action: Option<String>,
    /// The two Services, sorted, so that a record is about the same pair in either direction.
    services: [String; 2],
    steps: TrafficSteps,
    bake: Duration,
    checks: Vec<StepCheck>,
    container: Option<String>,
    options: Options,
    #[cfg(feature = "elbv2")]
    balancers: Option<aws_sdk_elasticloadbalancingv2::Client>,
}

impl fmt::Debug for WeightedPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WeightedPair { id, services, .. } = self;
        f.debug_struct("WeightedTraffic").field("id", id).field("services", services).finish_non_exhaustive()
    }
}

impl WeightedPair {
    /// The position of a Service of the pair.
    fn position(&self, service: &str) -> Result<usize, TrafficError> {
        self.services.iter().position(|known| known == service).ok_or_else(|| {
            TrafficError::InvalidSlots(format!("{service} is not {}", self.services.join(" or ")))
        })
    }

    /// Call before every change.
    ///
    /// # Errors
    /// When the operation was cancelled.
    fn checkpoint(&self, run: &Run) -> Result<(), TrafficError> {
        run.checkpoint().map_err(|_| TrafficError::Interrupted { object: self.object() })
    }
}

/// A text of an object for a message: on one line, and not long.
fn brief(text: &str) -> String {
    text::truncate(&text::single_line(text), 500).into_owned()
}
