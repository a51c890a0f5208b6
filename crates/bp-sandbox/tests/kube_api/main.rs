//! Tests of the Kubernetes API as kubectl and helm use it: formats, field validation, custom resources, deletion.
#![cfg(feature = "kube")]

mod client;
mod custom;
mod deletion;
mod formats;
mod load;
mod rollouts;
mod validation;
