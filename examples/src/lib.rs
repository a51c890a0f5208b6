//! The outside world of the quickstart and of the tests: what `examples/bp.toml` names, on the sandbox.
//!
//! The binaries beside it are thin: the arguments, the work and the rendering of each are in `bp-delivery`.

#[cfg(feature = "sandbox")]
pub mod world;
