//! Write a first `bp.toml` from what is known: flags, an ECS service or Kubernetes workload, kubectl's context, variables of
//! CI systems, and `artifact.json`. What is not known is listed, never guessed.

mod ci;
mod draft;
mod kubectl;
mod lookup;
mod schema;
mod text;

pub(crate) use self::{
    ci::project,
    draft::{Draft, Known, Unknown, Values},
    kubectl::Context,
    lookup::Lookup,
    schema::is_setting,
    text::text,
};
