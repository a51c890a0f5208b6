//! Whether an image may enter an environment: rules, facts, and a decision from both.
//!
//! [`evaluate`] is a pure function of a [`PolicyConfig`](bp_artifact::config::PolicyConfig), [`Facts`] and the time. Each
//! gate passes, fails, or is unknown; an image enters only if every gate passes, so that what cannot be observed keeps it
//! out. A [`Decision`] holds the facts that it rests on, and can be evaluated again later.

mod audit;
mod decision;
mod evidence;
mod facts;
mod gates;
mod keys;

pub use self::{
    audit::{Audit, AuditedEntry},
    decision::{Decision, Gate, GateResult, GateState},
    evidence::{Entry, Evidence, NotAdmitted},
    facts::{Approval, BuildFacts, Fact, Facts, Finding, Recall, Scan, SignatureFact, Unknown, Upstream},
    gates::evaluate,
    keys::TrustedKeys,
};
