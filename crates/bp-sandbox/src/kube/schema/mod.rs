//! The messages of the built-in kinds: fields with their numbers, JSON names, types and merge strategies.
//!
//! The table is written by `cargo xtask kube-schema`. Conversion to and from protobuf, field validation and the OpenAPI
//! documents use it.

mod fields;
mod table;

pub(super) use self::{
    fields::{WrongType, check_types, prune},
    table::{Field, Kind, Message, Shape, Strategy, message, of},
};
