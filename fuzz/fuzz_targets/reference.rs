//! Whatever people write for an image.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bp_promote::fuzzing::reference(bytes));
