//! Whatever a registry asks for in `WWW-Authenticate`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bp_promote::fuzzing::challenge(bytes));
