//! Objects of External Secrets Operator and of the CSI driver.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bp_fuzz::secrets::secret_objects(bytes));
