//! How an operation on a target ends, known before its run is closed.

use bp_artifact::{
    Outcome, ResolvedImage,
    deploy::{
        Proof,
        run::{Ended, Run},
    },
};

/// How an operation ends, with the platform's own, finer word for it.
pub(crate) enum Ending {
    /// By what was seen running.
    Proven(Proof, String),
    /// Without success.
    Ended(Ended, String),
}

impl Ending {
    /// Whether it is success for `image`.
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
