//! The metadata file of a build.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bp_fuzz::artifact::buildx(bytes));
