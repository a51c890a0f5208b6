//! The clients of one environment.

/// The clients of one environment.
#[derive(Debug)]
pub struct Clients;
