//! Whatever a registry says in `Content-Range` of the part that it gives.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|value: &[u8]| bp_promote::fuzzing::content_range(value));
