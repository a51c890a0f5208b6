//! What every part of the crate needs of the Kubernetes API: one namespace to call, pods and refusals to read, watches, and
//! calls that are tried again.

pub(crate) mod manager;
pub(crate) mod pod;
pub(crate) mod refusal;
pub(crate) mod retry;
pub(crate) mod scope;
pub(crate) mod sight;
pub(crate) mod symptom;
pub(crate) mod text;
pub(crate) mod watch;
