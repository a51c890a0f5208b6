//! The texts of flags: tag rules, durations, URLs.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bp_fuzz::artifact::flags(bytes));
