//! Whatever a registry says in `Content-Range` of the part of a blob that it gives.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bp_promote::fuzzing::content_range(bytes));
