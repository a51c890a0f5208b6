//! A reference to a secret.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bp_fuzz::secrets::secret_reference(bytes));
