//! Move traffic from one version to another atomically: blue/green by a Service's selector, or an Ingress' backend.
//!
//! Everything that a later run needs stands in the cluster: which slot the Service selects, which image each slot's
//! Deployment has, and in one annotation where the traffic came from. A run that was killed is taken up by the same
//! command.

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
