//! One-off tasks with the definition, network and capacity of a service.

mod follow;
mod judge;
#[cfg(feature = "logs")]
mod logs;
mod placement;
mod plan;
mod run;
mod start;
mod steps;
