//! The functions behind the fuzz targets. Each panics if an input breaks a property; every input is valid.
//!
//! The tests of the crates include these files and run the same functions on the corpus with every `cargo test`.

pub mod artifact;
#[cfg(feature = "aws")]
pub mod aws;
pub mod registry;
pub mod replay;
pub mod secrets;
