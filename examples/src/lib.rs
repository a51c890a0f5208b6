//! What the binaries share: arguments, clients of an environment, rendering of events, exit codes.
//!
//! Each binary is thin on purpose: read its arguments, build the clients, make one library call, render its events.
//! Copy one as the start of your own.

pub mod cli;
mod clients;
pub mod delivery;
pub mod ecs;
pub mod eks;
mod failure;
mod printer;
mod program;
pub mod promotion;
mod render;
pub mod secrets;
#[cfg(feature = "sandbox")]
pub mod world;

pub use clients::{Clients, Endpoints};
pub use failure::Failure;
pub use program::{run, run_listening};
pub use render::Ui;
