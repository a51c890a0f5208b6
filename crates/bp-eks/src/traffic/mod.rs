//! Switch traffic atomically between two versions: blue/green by a Service's selector, or by an Ingress's backend.
//!
//! The cluster holds all state: the Service's selector, the image of each slot's Deployment, and an annotation for the
//! previous slot. A rerun of the same command resumes an interrupted run.

mod api;
mod balancer;
mod blue_green;
mod error;
mod ingress;
mod labels;

pub use api::Switch;
pub use blue_green::{
    slots::{Slot, Slots},
    state::{SlotState, Traffic},
    target::BlueGreen,
};
pub use error::TrafficError;
pub use ingress::target::IngressSwitch;
