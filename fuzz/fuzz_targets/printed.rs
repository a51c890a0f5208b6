//! Text that is printed.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bp_fuzz::artifact::printed(bytes));
