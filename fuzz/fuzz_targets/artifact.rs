//! An `artifact.json` of any tool.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bp_fuzz::artifact::artifact(bytes));
