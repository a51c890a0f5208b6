//! A recording, and the responses that are redacted.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bp_fuzz::artifact::recording(bytes));
