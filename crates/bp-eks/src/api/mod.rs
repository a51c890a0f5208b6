//! Shared access to the Kubernetes API: namespaced calls, watches, retries, and parsing of pods and error messages.

pub(crate) mod event;
pub(crate) mod manager;
pub(crate) mod pod;
pub(crate) mod refusal;
pub(crate) mod retry;
pub(crate) mod scope;
pub(crate) mod symptom;
pub(crate) mod text;
pub(crate) mod watch;
pub(crate) mod watch_health;
