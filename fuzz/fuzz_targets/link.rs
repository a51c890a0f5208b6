//! Whatever a registry gives for the next page in `Link`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bp_promote::fuzzing::link(bytes));
