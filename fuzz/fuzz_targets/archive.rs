//! A tar archive of an OCI layout.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bp_fuzz::registry::archive(bytes));
