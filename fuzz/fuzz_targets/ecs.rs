//! Responses of Amazon ECS.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bp_fuzz::aws::ecs(bytes));
