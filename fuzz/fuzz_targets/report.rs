//! What a supervisor has seen.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::report(bytes));

#[cfg(not(fuzzing))]
fn main() {}
