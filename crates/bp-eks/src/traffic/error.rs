//! What can go wrong when traffic is switched, as far as a caller can act on it.

use bp_artifact::{
    DigestRef,
    error::{Classified, ErrorClass},
};

use crate::{api::retry::OfApi, error::Error};

/// An error of a switch of traffic. A switch that failed and was taken back is none: that is a
/// [`Verdict`](bp_artifact::Verdict).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrafficError {
    /// The Kubernetes API, or the roll-out of a slot.
    #[error(transparent)]
    Rollout(#[from] Error),
    /// Slots that cannot be told apart.
    #[error("these are no two slots: {0}")]
    InvalidSlots(String),
    /// The Service does not select by the slots' label.
    #[error(
        "service/{service} selects {selector:?} and not by {label:?}: give both Deployments' pods that label first, then \
         add it to the Service's selector"
    )]
    NoSlot {
        /// The Service.
        service: String,
        /// The label that is missing.
        label: String,
        /// What it selects.
        selector: String,
    },
    /// The Service selects something else than the two slots.
    #[error("service/{service} selects {selected}, which is none of {}", known.join(", "))]
    UnknownSlot {
        /// The Service.
        service: String,
        /// What it selects.
        selected: String,
        /// The slots.
        known: Vec<String>,
    },
    /// A load balancer sends its traffic to the Service's pods directly.
    #[error(
        "service/{service} stands behind a load balancer ({}), which registers pods one by one and after the fact: \
         switching the selector would leave it without healthy targets for a while. Keep two permanent Services and \
         switch the Ingress' backend (IngressSwitch)",
        by.join(", ")
    )]
    BehindLoadBalancer {
        /// The Service.
        service: String,
        /// What refers to it.
        by: Vec<String>,
    },
    /// No slot has the image.
    #[error("neither slot of service/{service} has {image}: stage it first")]
    NotStaged {
        /// The Service.
        service: String,
        /// The image.
        image: DigestRef,
    },
    /// What is to take the traffic cannot.
    #[error("{object} cannot take the traffic: {why}")]
    NotReady {
        /// What was to take it.
        object: String,
        /// Why it cannot.
        why: String,
    },
    /// The test Service's name is taken.
    #[error("service/{service} exists and was not made by us: name another test Service, or remove it")]
    NotOurs {
        /// The name.
        service: String,
    },
    /// Nothing was switched, or what it was switched from is gone.
    #[error("{object} was not switched by us, or was cleaned up since: there is nothing to switch back to")]
    NothingToSwitchBack {
        /// What was to be switched back.
        object: String,
    },
    /// The Ingress sends nothing to either Service.
    #[error("ingress/{ingress} has no backend {wanted}; its backends are {}", found.join(", "))]
    NoSuchBackend {
        /// The Ingress.
        ingress: String,
        /// What was looked for.
        wanted: String,
        /// What it has.
        found: Vec<String>,
    },
    /// Somebody else changed it at the same time, again and again.
    #[error("{object} is being changed by somebody else: find out by whom, then run it again")]
    Contended {
        /// The object.
        object: String,
    },
    /// The caller stopped watching.
    #[error("stopped watching {object}; what was begun stands, and the same command takes it up again")]
    Interrupted {
        /// What was watched.
        object: String,
    },
}

impl OfApi for TrafficError {
    fn of_api(&self) -> Option<&Error> {
        if let TrafficError::Rollout(error) = self { Some(error) } else { None }
    }
}

impl Classified for TrafficError {
    fn class(&self) -> ErrorClass {
        match self {
            TrafficError::Rollout(error) => error.class(),
            TrafficError::InvalidSlots(_)
            | TrafficError::NoSlot { .. }
            | TrafficError::UnknownSlot { .. }
            | TrafficError::NoSuchBackend { .. } => ErrorClass::BadInput,
            TrafficError::BehindLoadBalancer { .. }
            | TrafficError::NotStaged { .. }
            | TrafficError::NotReady { .. }
            | TrafficError::NotOurs { .. }
            | TrafficError::NothingToSwitchBack { .. } => ErrorClass::Refused,
            TrafficError::Contended { .. } => ErrorClass::Superseded,
            TrafficError::Interrupted { .. } => ErrorClass::Interrupted,
        }
    }

    fn is_retryable(&self) -> bool {
        matches!(self, TrafficError::Contended { .. })
            || matches!(self, TrafficError::Rollout(error) if error.is_retryable())
    }
}
