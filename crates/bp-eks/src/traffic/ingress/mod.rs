//! An Ingress' backend from one permanent Service to another.

mod target;

pub use target::IngressSwitch;
