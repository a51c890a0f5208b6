//! Whatever a registry says in `Range` of the part of an upload that it has.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bp_promote::fuzzing::range(bytes));
