//! Sandbox environment of the quickstart and the tests: the accounts, registries and clusters of `examples/bp.toml`.
//!
//! The binaries of this package are thin: `bp-delivery` implements the arguments, the work and the output of each.

#[cfg(feature = "sandbox")]
pub mod push;
#[cfg(feature = "sandbox")]
pub mod world;
