//! How a step of a deployment ended that did not succeed.

/// A step before or after the change of the service.
pub(crate) enum StepFailed {
    /// Its result cannot be observed: a rerun resumes.
    Unobserved(String),
    Failed(String),
}
