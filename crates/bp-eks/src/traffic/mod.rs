//! Switch traffic atomically between two versions, by a Service's selector or an Ingress's backend; or shift it in steps,
//! by the weights of two Services in an Ingress of an Application Load Balancer or an HTTPRoute.
//!
//! The cluster holds all state: the Service's selector, the image of each slot's Deployment, the weights, and an
//! annotation for the previous slot or the step. A rerun of the same command resumes an interrupted run.

mod api;
mod balancer;
mod blue_green;
mod error;
mod exposure;
mod ingress;
mod labels;
mod pods;
mod ready;
mod watched;
mod weights;

pub use api::Switch;
pub use blue_green::{
    slots::{Slot, Slots},
    state::{SlotState, Traffic},
    target::BlueGreen,
};
pub use error::TrafficError;
pub use exposure::{Entry, Exposure};
pub use ingress::target::IngressSwitch;
pub use weights::target::{ServiceShare, TrafficShares, WeightedTraffic};
