//! Errors of switches and shifts of traffic, as cases that a caller can act on.

use bp_artifact::{
    DigestRef,
    error::{Classified, ErrorClass},
};

use crate::{api::retry::AsApiError, error::Error};

/// An error of a switch of traffic. A switch that failed and was rolled back is not an error but a
/// [`Verdict`](bp_artifact::Verdict).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrafficError {
    /// A Kubernetes API error, or an error of a slot's rollout.
    #[error(transparent)]
    Rollout(#[from] Error),
    /// The slots are invalid.
    #[error("invalid slots: {0}")]
    InvalidSlots(String),
    /// The Service's selector lacks the label of the slots.
    #[error(
        "the selector {selector:?} of service/{service} lacks the label {label:?}; add the label to the pods of both \
        Deployments first, then to the Service's selector"
    )]
    NoSlot {
        /// The Service.
        service: String,
        /// The missing label.
        label: String,
        /// The current selector.
        selector: String,
    },
    /// The Service selects neither of the two slots.
    #[error("service/{service} selects {selected}, which is not one of the slots {}", known.join(", "))]
    UnknownSlot {
        /// The Service.
        service: String,
        /// The label and its current value.
        selected: String,
        /// The slots.
        known: Vec<String>,
    },
    /// A load balancer sends traffic directly to the Service's pods.
    #[error(
        "service/{service} is behind a load balancer ({}), which registers pods only after the endpoints change: \
        switching the selector would leave it without healthy targets for a while; use two permanent Services, and shift \
        their weights in an annotation alb.ingress.kubernetes.io/actions.<name>",
        by.join(", ")
    )]
    BehindLoadBalancer {
        /// The Service.
        service: String,
        /// The objects that refer to it.
        by: Vec<String>,
    },
    /// An Application Load Balancer serves the Ingress.
    #[error(
        "ingress/{ingress} is served by an Application Load Balancer: for another backend its controller deletes the \
        target group and creates a new one, which drops connections; keep both Services as backends, and shift their \
        weights in an annotation alb.ingress.kubernetes.io/actions.<name>"
    )]
    TargetGroupReplaced {
        /// The Ingress.
        ingress: String,
    },
    /// No slot has the image.
    #[error("neither slot of service/{service} has the image {image}; stage it first")]
    NotStaged {
        /// The Service.
        service: String,
        /// The image.
        image: DigestRef,
    },
    /// The object is not ready for traffic.
    #[error("{object} is not ready for traffic: {why}")]
    NotReady {
        /// The object that would receive the traffic.
        object: String,
        /// The reason.
        why: String,
    },
    /// The name of the test Service is in use.
    #[error(
        "service/{service} exists and was not created by bp-eks; choose another test Service, or delete it"
    )]
    NotOurs {
        /// The Service.
        service: String,
    },
    /// There is no previous slot to switch back to.
    #[error("cannot switch {object} back: it was not switched by bp-eks, or was cleaned up since")]
    NothingToSwitchBack {
        /// The object to switch back.
        object: String,
    },
    /// No backend of the Ingress is one of the two Services.
    #[error("ingress/{ingress} has no backend {wanted}; its backends are {}", found.join(", "))]
    NoSuchBackend {
        /// The Ingress.
        ingress: String,
        /// The expected backends.
        wanted: String,
        /// The actual backends.
        found: Vec<String>,
    },
    /// The weights of two Services cannot be shifted in this object.
    #[error("the weights of {object} cannot be shifted: {why}")]
    InvalidWeights {
        /// The object with the weights.
        object: String,
        /// The reason.
        why: String,
    },
    /// No Application Load Balancer serves the Ingress, so nothing reads its annotations.
    #[error(
        "ingress/{ingress} is not served by an Application Load Balancer, whose controller alone reads the weights in \
        alb.ingress.kubernetes.io/actions.<name>; use an HTTPRoute, or switch the backend (switch-traffic ingress)"
    )]
    NotApplicationLoadBalancer {
        /// The Ingress.
        ingress: String,
    },
    /// Another client changed the weights since this shift was interrupted.
    #[error(
        "another client changed the weights of {object} to {found}, but the interrupted shift recorded {recorded}; restore \
        them and rerun, or begin anew from the present weights (--take-over, option take_over)"
    )]
    WeightsChanged {
        /// The object with the weights.
        object: String,
        /// The weights of the recorded step.
        recorded: String,
        /// The present weights.
        found: String,
    },
    /// Concurrent changes exhausted the retries.
    #[error("{object} is being changed concurrently by another client; find the client, then rerun")]
    Contended {
        /// The object.
        object: String,
    },
    /// The operation was cancelled.
    #[error("interrupted: changes already applied to {object} remain; rerun the same command to resume")]
    Interrupted {
        /// The object that was watched.
        object: String,
    },
}

impl AsApiError for TrafficError {
    fn as_api_error(&self) -> Option<&Error> {
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
            | TrafficError::NoSuchBackend { .. }
            | TrafficError::InvalidWeights { .. } => ErrorClass::BadInput,
            TrafficError::BehindLoadBalancer { .. }
            | TrafficError::TargetGroupReplaced { .. }
            | TrafficError::NotApplicationLoadBalancer { .. }
            | TrafficError::NotStaged { .. }
            | TrafficError::NotReady { .. }
            | TrafficError::NotOurs { .. }
            | TrafficError::NothingToSwitchBack { .. } => ErrorClass::Refused,
            TrafficError::Contended { .. } | TrafficError::WeightsChanged { .. } => ErrorClass::Superseded,
            TrafficError::Interrupted { .. } => ErrorClass::Interrupted,
        }
    }

    fn is_retryable(&self) -> bool {
        matches!(self, TrafficError::Contended { .. })
            || matches!(self, TrafficError::Rollout(error) if error.is_retryable())
    }
}
