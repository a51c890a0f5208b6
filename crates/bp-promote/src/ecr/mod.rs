//! What Amazon ECR does with the images of a copy by itself: creation templates, immutable tags, replication.
//!
//! The functions call the API with the clients of [`RegistryClientBuilder::ecr`](crate::registry::RegistryClientBuilder::ecr).
//! They only read. A registry without a client is not checked.

mod check;
mod mutability;
mod replication;

pub use self::{
    check::check,
    replication::{Replication, await_replication},
};
