//! Deploy to several targets as a saga: deployed everywhere, or rolled back everywhere.
//!
//! It is a saga with compensation, not a transaction: for some time one target runs the new image and another does not,
//! and a rollback can fail. It guarantees that the rollback revisions are recorded before the first change, that a
//! failure of one target rolls back all, that a target which cannot be observed is not treated as failed, that the
//! verdict states what happened, and that rerunning a killed run finishes it.

mod builder;
mod error;
mod event;
mod gate;
mod lock;
mod open;
mod outcome;
mod plan;
mod run;
mod single;
mod step;
mod verdict;

pub use builder::Saga;
pub use error::SagaError;
pub use event::SagaEvent;
pub use gate::{Answer, Decision, Gate};
pub use plan::{PlannedStage, SagaPlan};
pub use single::SingleReceipt;
pub use step::Step;
pub use verdict::{rolls_back_all, worst};
