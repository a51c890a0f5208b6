//! Switch an Ingress's backend between two permanent Services, behind a controller that runs in the cluster.

mod routes;
mod switch;
pub(super) mod target;

use std::fmt;

use bp_artifact::deploy::TargetId;

use crate::{api::scope::Scope, options::Options};

/// An Ingress and the two Services that its backends reference.
#[derive(Clone)]
pub(in crate::traffic) struct BackendSwitch {
    pub(in crate::traffic) namespace: Scope,
    pub(in crate::traffic) id: TargetId,
    pub(in crate::traffic) ingress: String,
    pub(in crate::traffic) services: [String; 2],
    pub(in crate::traffic) container: Option<String>,
    pub(in crate::traffic) options: Options,
}

impl fmt::Debug for BackendSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BackendSwitch { id, services, .. } = self;
        f.debug_struct("IngressSwitch").field("id", id).field("services", services).finish_non_exhaustive()
    }
}
