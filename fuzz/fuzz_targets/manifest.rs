//! Whatever bytes a registry gives for a manifest.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bp_promote::fuzzing::manifest(bytes));
