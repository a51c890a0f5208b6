//! Outcomes that a saga concludes for a target, besides those that the targets return.

use crate::{
    deploy::{Outcome, Proof, Revision, TargetError, TargetId, TargetReceipt, Verdict},
    error::chain,
};

/// The outcome of a rollback without any change, with a verdict on the observed digests.
pub(super) fn unchanged(target: &TargetId, previous: &Revision, proof: Proof) -> Outcome {
    let verdict = previous.image.resolved().map_or(Verdict::Unproven, |image| proof.judge(&image));
    Outcome {
        verdict,
        proof,
        image: previous.image.pinned().cloned(),
        revision: Some(previous.clone()),
        detail: "the previous revision was in place".into(),
        ..Outcome::unproven(target.clone())
    }
}

/// The outcome of a target that returned an error. Whether anything was changed is unknown, so it counts as changed.
pub(super) fn ended(entry: &TargetReceipt, verdict: Verdict, error: &TargetError) -> Outcome {
    Outcome {
        verdict,
        changed: true,
        previous: Some(entry.previous.clone()),
        detail: chain(error),
        ..Outcome::unproven(entry.target.clone())
    }
}

/// The outcome of a target that cannot be observed.
pub(super) fn unobserved(entry: &TargetReceipt, error: &TargetError) -> Outcome {
    let detail = format!("{}; run the same command again to resume", chain(error));
    Outcome { detail, ..ended(entry, Verdict::Unobserved, error) }
}
