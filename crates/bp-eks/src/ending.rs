//! The ending of an operation on a target, before its run is closed.

use bp_artifact::{
    Outcome, ResolvedImage,
    deploy::{
        Proof,
        run::{Ended, Run},
    },
};

/// The ending of an operation, with a detail text.
pub(crate) enum Ending {
    /// The running digests decide.
    Proven(Proof, String),
    /// The operation ended without success.
    Ended(Ended, String),
}

impl Ending {
    /// Whether the ending is a success for `image`.
    pub(crate) fn is_success(&self, image: &ResolvedImage) -> bool {
        matches!(self, Ending::Proven(proof, _) if proof.judge(image).is_success())
    }

    pub(crate) fn close(self, mut run: Run) -> Outcome {
        match self {
            Ending::Proven(proof, detail) => {
                run.detail(detail);
                run.proven(proof)
            }
            Ending::Ended(ended, detail) => run.ended(ended, detail),
        }
    }
}
