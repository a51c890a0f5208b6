//! Lines of names and references.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bp_fuzz::secrets::secret_lines(bytes));
