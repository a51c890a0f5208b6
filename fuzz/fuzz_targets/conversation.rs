//! All responses of a registry.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bp_fuzz::registry::conversation(bytes));
