//! What a supervisor is told to start.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::spec(bytes));

#[cfg(not(fuzzing))]
fn main() {}
