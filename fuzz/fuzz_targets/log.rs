//! The log that a former agent has left.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::log(bytes));

#[cfg(not(fuzzing))]
fn main() {}
