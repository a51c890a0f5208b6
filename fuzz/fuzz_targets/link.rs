//! Whatever a registry gives for the next page in `Link`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|value: &[u8]| bp_promote::fuzzing::link(value));
