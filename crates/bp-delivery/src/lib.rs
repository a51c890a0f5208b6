//! What every deploy tool around the bp crates needs: from `bp.toml` to AWS and Kubernetes clients, deployment targets and
//! promotions, and a program's frame with arguments, progress on a terminal or as JSON lines, and exit codes.

pub mod cli;
mod clients;
pub mod delivery;
pub mod ecs;
pub mod eks;
mod failure;
mod printer;
pub mod program;
pub mod promotion;
mod render;
pub mod secrets;
pub mod verb;

pub use clients::{Clients, Endpoints};
pub use failure::Failure;
pub use render::Ui;
