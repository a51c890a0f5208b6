//! Verify an environment: rollout, digest and definition of its targets, image, secrets, load balancers, DNS and TLS of its
//! hosts, and the checks of its gates. Changes nothing, except by commands and Jobs of gates that are selected.
//!
//! ```no_run
//! use bp_artifact::{ExitCode, ResolvedImage};
//! use bp_delivery::{Delivery, Failure, verification::{Selection, Verifier}};
//!
//! # async fn verify(delivery: Delivery, image: ResolvedImage) -> Result<ExitCode, Failure> {
//! let environment = delivery.environment.clone();
//! let verifier = Verifier::new(environment, vec![(delivery, Some(image))], Selection::default(), Vec::new());
//! let found = verifier.verify().await?;
//! println!("{found}");
//! # Ok(ExitCode::from(&found)) }
//! ```

mod address;
#[cfg(feature = "preflight")]
mod balancers;
mod endpoint;
mod gates;
mod host;
mod image;
mod row;
mod secrets;
mod selection;
mod target;
mod verifier;

pub use self::{
    endpoint::{Endpoint, Expectation},
    selection::Selection,
    verifier::Verifier,
};
