//! Whatever a registry asks for in `WWW-Authenticate`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|value: &[u8]| bp_promote::fuzzing::challenge(value));
