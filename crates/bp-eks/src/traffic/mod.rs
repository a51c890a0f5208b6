//! Traffic from one version to another at one stroke: a Service's selector, or an Ingress' backend.
//!
//! Everything that a later run needs stands in the cluster: which slot the Service selects, which image each slot's
//! Deployment has, and in one annotation where the traffic came from. A run that was killed is taken up by the same
//! command.

mod api;
mod arrival;
mod balancer;
mod cleanup;
mod error;
mod follow;
mod green;
mod ingress;
mod restore;
mod slots;
mod stage;
mod state;
mod switch;

pub use error::TrafficError;
pub use green::{BlueGreen, Switch};
pub use ingress::IngressSwitch;
pub use slots::{Slot, Slots};
pub use state::{SlotState, Traffic};
